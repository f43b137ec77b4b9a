import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { homeFromEnv, loadConfig } from '../common/config.ts';
import { toTfsError } from '../common/errors.ts';
import { formatEntry, type LogFile, logFiles, parseLine, readRange, tailOf } from './cluster/log-files.ts';

const POLL_MS = 300;

/** `npm run logs`: the last lines of all processes in order of time, then new ones as they come. */
async function logs(words: readonly string[], lines: number, follow: boolean): Promise<void> {
  const config = await loadConfig(homeFromEnv(process.env));
  const files = await logFiles(config, words);
  if (files.length === 0)
    process.stderr.write(
      `no log ${words.length > 0 ? `of ${words.join(', ')} ` : ''}yet in ${config.home}/logs\n`,
    );
  const tails = await Promise.all(files.map((file) => tailOf(file, lines)));
  const entries = tails.flatMap((tail) => tail.entries).sort((a, b) => a.time.localeCompare(b.time));
  for (const entry of entries) process.stdout.write(`${formatEntry(entry)}\n`);
  const ends = new Map(files.map((file, i) => [file.path, tails[i]?.end ?? 0]));
  while (follow) {
    await sleep(POLL_MS);
    for (const file of await logFiles(config, words))
      ends.set(file.path, await printNew(file, ends.get(file.path)));
  }
}

/** @returns where the next look starts: after the last whole line */
async function printNew(file: LogFile, from = 0): Promise<number> {
  const { size } = await stat(file.path);
  // Shorter than before: a new file of that name.
  const start = size < from ? 0 : from;
  if (size === start) return start;
  const text = await readRange(file.path, start, size);
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  for (const line of whole.split('\n'))
    if (line !== '') process.stdout.write(`${formatEntry(parseLine(file.process, line))}\n`);
  return start + Buffer.byteLength(whole);
}

const command = new Command('npm run logs --')
  .description(
    'Shows what the processes log, newest last. PROCESS is part of a name: dataserver, gateway, nameserver-0',
  )
  .argument('[process...]')
  .option('-n, --lines <count>', 'last lines of each process', '20')
  .option('--no-follow', 'end after those')
  .action((words: string[], o: { lines: string; follow: boolean }) => logs(words, Number(o.lines), o.follow));

process.on('SIGINT', () => process.exit(0));
try {
  await command.parseAsync();
} catch (error) {
  process.stderr.write(`npm run logs: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
