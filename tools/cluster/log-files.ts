import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Config } from '../../common/config.ts';
import { logsDir } from './home.ts';

/** One line of a log file; a line that is not JSON (Redis, a crash of Node itself) is all message. */
export interface LogEntry {
  /** The process, from the file's name. */
  readonly process: string;
  /** ISO 8601; empty where the line has none. */
  readonly time: string;
  readonly level: string;
  readonly message: string;
  /** What else the line says, as JSON, without what is above. */
  readonly facts: string;
}

const zLine = z.looseObject({ time: z.string(), level: z.string(), message: z.string().default('') });
const NOT_FACTS = new Set(['time', 'level', 'message', 'kind', 'id', 'pid']);

export function parseLine(process: string, line: string): LogEntry {
  try {
    const value = zLine.parse(JSON.parse(line));
    const facts = Object.entries(value).filter(([key]) => !NOT_FACTS.has(key));
    const error = z.looseObject({ message: z.string() }).safeParse(value['err']);
    const rest = facts.filter(([key]) => key !== 'err' || !error.success);
    return {
      process,
      time: value.time,
      level: value.level,
      message: error.success ? `${value.message}: ${error.data.message}` : value.message,
      facts: rest.length > 0 ? JSON.stringify(Object.fromEntries(rest)) : '',
    };
  } catch {
    // Not one of our lines.
    return { process, time: '', level: '', message: line, facts: '' };
  }
}

export function formatEntry({ process, time, level, message, facts }: LogEntry): string {
  const head = time === '' ? '' : `${time} ${level.padEnd(5)} `;
  return `${head}${process.padEnd(13)} ${message}${facts === '' ? '' : ` ${facts}`}`;
}

export interface LogFile {
  readonly process: string;
  readonly path: string;
}

/** Those of the processes that match one of the words; all without words. */
export async function logFiles(config: Config, words: readonly string[] = []): Promise<LogFile[]> {
  const directory = logsDir(config.home);
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names
    .filter((name) => name.endsWith('.log'))
    .map((name) => ({ process: name.slice(0, -'.log'.length), path: join(directory, name) }))
    .filter(({ process }) => words.length === 0 || words.some((word) => process.includes(word)));
}

const TAIL_BYTES_MAX = 256 * 1024;

/** @returns the last lines of a file, and where it ended */
export async function tailOf(
  file: LogFile,
  lines: number,
): Promise<{ readonly entries: LogEntry[]; readonly end: number }> {
  const { size } = await stat(file.path);
  const start = Math.max(0, size - TAIL_BYTES_MAX);
  const text = await readRange(file.path, start, size);
  const all = text.split('\n').filter((line) => line !== '');
  if (start > 0) all.shift();
  return { entries: all.slice(-lines).map((line) => parseLine(file.process, line)), end: size };
}

export async function readRange(path: string, start: number, end: number): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(Math.max(0, end - start));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Of one process, in words; undefined when there is none near the end of its log. */
export async function lastErrorOf(config: Config, process: string): Promise<string | undefined> {
  const file = (await logFiles(config)).find((candidate) => candidate.process === process);
  if (file === undefined) return undefined;
  const { entries } = await tailOf(file, 50);
  return entries.filter((entry) => entry.level === 'error').at(-1)?.message;
}

/** The last error of each process that has one near the end of its log, formatted. */
export async function lastErrors(config: Config, max: number): Promise<string[]> {
  const files = await logFiles(config);
  const tails = await Promise.all(files.map((file) => tailOf(file, 50)));
  return tails
    .flatMap(({ entries }) => entries.filter((entry) => entry.level === 'error').slice(-1))
    .sort((a, b) => a.time.localeCompare(b.time))
    .slice(-max)
    .map(({ process, message }) => `${process}: ${message}`);
}
