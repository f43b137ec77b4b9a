import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What Linux counts for a process: `/proc/PID/{stat,io,status}`. */

let ticksPerSecond: number | undefined;

/** CPU time of all threads, user and system, microseconds, in steps of a tick (10 ms). */
export function cpuMicros(pid: number): number {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  // The name of the program, in parentheses, may hold anything.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6;
}

/** Processes that a process has started and that run still. */
export function childPids(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

export interface ProcessIo {
  /** System calls that read, sockets included. */
  readonly readCalls: number;
  /** Bytes that came from the disk, not from the page cache. */
  readonly diskReadBytes: number;
  readonly diskWriteBytes: number;
}

export function processIo(pid: number): ProcessIo {
  const text = readFileSync(`/proc/${pid}/io`, 'utf8');
  const value = (key: string) => Number(new RegExp(`^${key}: (\\d+)`, 'm').exec(text)?.[1] ?? 0);
  return {
    readCalls: value('syscr'),
    diskReadBytes: value('read_bytes'),
    diskWriteBytes: value('write_bytes'),
  };
}

export function residentBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
}
