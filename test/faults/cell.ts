import { setTimeout as sleep } from 'node:timers/promises';
import { keyOf } from '../kit/cluster-probe.ts';
import type { FaultWindow } from '../kit/history.ts';
import { checkHistory, type Violation } from '../kit/history-checker.ts';
import { readBack } from '../kit/read-back.ts';
import { untilAlike } from '../kit/replicas-alike.ts';
import type { VerifyingLoad } from '../kit/verifying-load.ts';
import type { Scene, SceneOptions } from './scene.ts';

/** Undoes a fault; resolves when everything runs again. */
export type Mend = () => Promise<void>;

/** One fault: what is broken, for how long, and how it is mended. */
export interface Cell {
  readonly name: string;
  readonly needs?: 'namespaces' | 'small disk';
  /** Of the cluster that it needs, where others will not do. */
  readonly scene?: Partial<SceneOptions>;
  readonly brokenMs: number;
  readonly breakIt: (scene: Scene) => Promise<Mend>;
  /** Whether uploads must go on while it is broken; after a time that is a sanity bound, not a figure. */
  readonly writesGoOn: boolean;
  /** For replicas to become whole after it. */
  readonly settleMsMax?: number;
  /** Looks at what only this fault touches, when all else has settled. @returns what is wrong */
  readonly afterwards?: (scene: Scene) => Promise<readonly string[]>;
}

export interface CellResult {
  readonly cell: string;
  readonly putGapMs: number;
  readonly getGapMs: number;
  readonly puts: number;
  readonly putsFailed: number;
  readonly gets: number;
  readonly getsFailed: number;
  readonly slowestGetMs: number;
  readonly writableMs: number;
  readonly settledMs: number;
  readonly names: number;
  readonly replicas: number;
  readonly violations: readonly Violation[];
  /** Other things that must not be. */
  readonly faults: readonly string[];
  readonly failures: string;
}

const WARM_MS = 2_000;
/** Past the time in which answers may still be excused. */
const QUIET_MS = 4_500;
const SETTLE_MS_MAX = 60_000;
const WRITABLE_MS_MAX = 60_000;
/** Uploads that should go on may pause this long: far above any figure, far below "for ever". */
const PAUSE_MS_MAX = 30_000;

/** Runs a fault under load and looks at everything afterwards. */
export async function runCell(cell: Cell, scene: Scene): Promise<CellResult> {
  const load = scene.startLoad();
  const faults: string[] = [];
  let writableMs = 0;
  let window: FaultWindow;
  try {
    await sleep(WARM_MS);
    const fromMs = performance.now();
    const mend = await cell.breakIt(scene);
    await sleep(cell.brokenMs);
    await mend();
    const healedMs = performance.now();
    window = { fromMs, healedMs };
    scene.faults.push(window);
    writableMs = (await scene.cluster.writable(WRITABLE_MS_MAX)).waitedMs;
    await sleep(QUIET_MS);
  } finally {
    await load.stop();
  }
  const violations = checkHistory(scene.history, scene.checks);
  const back = await readBack(scene.probe, scene.history, {
    ...scene.checks,
    withinMs: cell.settleMsMax ?? SETTLE_MS_MAX,
  });
  if (load.puts.done === 0) faults.push('nothing was stored at all');
  if (cell.writesGoOn && load.puts.longestGapMs > PAUSE_MS_MAX)
    faults.push(`uploads stood still for ${seconds(load.puts.longestGapMs)}`);
  faults.push(...(await untilAlike(scene.probe, cell.settleMsMax ?? SETTLE_MS_MAX)));
  faults.push(...load.unexpected, ...((await cell.afterwards?.(scene)) ?? []));
  const wrong = [...violations, ...back.violations];
  const blocks = new Set(wrong.map(({ name }) => keyOf(name).block));
  if (wrong.length > 0) {
    faults.push(`broken from ${Math.round(window.fromMs)} ms to ${Math.round(window.healedMs)} ms`);
    faults.push(...(await scene.probe.describeBlocks(blocks)));
  }
  return {
    cell: cell.name,
    ...figuresOf(load),
    writableMs,
    settledMs: back.settledMs,
    names: back.names,
    replicas: back.replicas,
    violations: wrong,
    faults,
  };
}

function figuresOf(load: VerifyingLoad) {
  const { puts, gets, failures } = load;
  return {
    putGapMs: puts.longestGapMs,
    getGapMs: gets.longestGapMs,
    puts: puts.done,
    putsFailed: puts.failed,
    gets: gets.done,
    getsFailed: gets.failed,
    slowestGetMs: gets.slowestMs,
    failures: [...failures].map(([what, count]) => `${count} × ${what}`).join(', '),
  };
}

export const isGood = (result: CellResult): boolean =>
  result.violations.length === 0 && result.faults.length === 0;

/** One line for a report. */
export function figureLine(result: CellResult): string {
  const { cell, violations, faults } = result;
  const wrong = violations.length + faults.length;
  return [
    `FIGURE ${cell}: ${wrong === 0 ? 'good' : `${wrong} WRONG`}`,
    `no upload for ${seconds(result.putGapMs)}, no read for ${seconds(result.getGapMs)}`,
    `${result.puts} uploads (${result.putsFailed} failed), ${result.gets} reads (${result.getsFailed} failed)`,
    `writable ${seconds(result.writableMs)} after it was mended`,
    `${result.names} names on ${result.replicas} replicas as they should be after ${seconds(result.settledMs)}`,
  ].join('; ');
}

/** Everything that is wrong, for people. */
export function complaint(result: CellResult): string {
  const some = result.violations.slice(0, 20).map(({ kind, name, why }) => `${kind} ${name}: ${why}`);
  return [
    `${result.cell}: ${result.violations.length} violations, ${result.faults.length} other faults`,
    ...some,
    ...result.faults,
    `failed requests: ${result.failures || 'none'}`,
  ].join('\n');
}

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
