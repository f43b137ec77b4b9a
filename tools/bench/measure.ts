import type { Child } from './child.ts';
import { type Load, type LoadResult, runLoad } from './load.ts';

export interface Measured extends LoadResult {
  /** Microseconds of CPU an answer, of every process by its name. */
  readonly cpu: ReadonlyMap<string, number>;
  /** All of them together. */
  readonly cpuTotal: number;
}

/** Runs a load and counts what the servers' processes took for it. */
export async function measureLoad(load: Load, processes: readonly Child[]): Promise<Measured> {
  const before = processes.map((process) => process.cpuMicros());
  const result = await runLoad(load);
  const cpu = new Map<string, number>();
  let cpuTotal = 0;
  for (const [i, process] of processes.entries()) {
    const micros = (process.cpuMicros() - before[i]!) / Math.max(1, result.count);
    cpu.set(process.name, micros);
    cpuTotal += micros;
  }
  return { ...result, cpu, cpuTotal };
}

/** Columns for {@link loadCells}. */
export const LOAD_COLUMNS = ['ops/s', 'p50 ms', 'p90 ms', 'p99 ms', 'max ms', 'errors', 'CPU us/op'] as const;

export const loadCells = (m: Measured) => [
  m.perSecond,
  m.p50Ms,
  m.p90Ms,
  m.p99Ms,
  m.maxMs,
  String(m.errors),
  m.cpuTotal,
];

/** `gw0 31 · ds1 55 ...`: CPU microseconds an answer by process. */
export const cpuByProcess = (m: Measured): string =>
  [...m.cpu].map(([name, micros]) => `${name} ${micros.toFixed(micros < 10 ? 1 : 0)}`).join(' · ');
