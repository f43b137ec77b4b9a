import type { FaultWindow } from '../../kit/history.ts';
import { checkHistory, type Violation } from '../../kit/history-checker.ts';
import { readBack } from '../../kit/read-back.ts';
import { untilAlike } from '../../kit/replicas-alike.ts';
import type { VerifyingLoad } from '../../kit/verifying-load.ts';
import { seconds } from '../cell.ts';
import { Scene, type SceneOptions } from '../scene.ts';

export interface FigureOptions {
  /** How often the fault is repeated; each figure has a default. */
  readonly times: number | undefined;
  readonly perSecond: number;
  readonly seconds: number;
  /** Of pictures that are stored first; each figure that does so has a default. */
  readonly megabytes: number | undefined;
  readonly keep: boolean;
  /** Only the parts of a figure whose names contain one of these; all when empty. */
  readonly only: readonly string[];
}

export interface FigureReport {
  readonly line: string;
  /** Empty when everything was as promised. */
  readonly wrong: readonly string[];
}

export type Figure = (options: FigureOptions) => Promise<FigureReport>;

const SETTLE_MS_MAX = 120_000;
const SAMPLES_MAX = 20;

/** Opens a scene for a figure and closes it. @throws Error when this machine does not allow it */
export async function withScene<T>(
  options: FigureOptions & SceneOptions,
  use: (scene: Scene) => Promise<T>,
): Promise<T> {
  const scene = await Scene.open(options);
  if (typeof scene === 'string') throw new Error(scene);
  try {
    return await use(scene);
  } catch (error) {
    console.log(options.keep ? scene.cluster.home : scene.cluster.logs());
    throw error;
  } finally {
    await scene.close();
  }
}

/** Everything that was seen, and every replica of every name. The load has stopped. */
export async function verdict(
  scene: Scene,
  load: VerifyingLoad,
  faults: readonly FaultWindow[],
): Promise<{ readonly text: string; readonly wrong: string[] }> {
  const checks = { ...scene.checks, faults };
  const seen = checkHistory(scene.history, checks);
  const back = await readBack(scene.probe, scene.history, { ...checks, withinMs: SETTLE_MS_MAX });
  const violations = [...seen, ...back.violations];
  const unlike = await untilAlike(scene.probe, SETTLE_MS_MAX);
  const wrong = [...violations.slice(0, SAMPLES_MAX).map(textOf), ...unlike, ...load.unexpected];
  const count = (kind: Violation['kind']): number => violations.filter((one) => one.kind === kind).length;
  const { puts, gets, failures } = load;
  return {
    wrong,
    text: [
      `${puts.done} uploads, ${puts.failed} failed, the longest time without one ${seconds(puts.longestGapMs)}`,
      `${gets.done} reads, ${gets.failed} failed, the slowest ${seconds(gets.slowestMs)}`,
      `${back.names} names on ${back.replicas} replicas: ${count('lost')} lost, ${count('stale')} stale, ` +
        `${count('phantom')} wrong, ${count('diverged')} different, ${count('reused')} names given twice`,
      `failures: ${[...failures].map(([what, n]) => `${n} × ${what}`).join(', ') || 'none'}`,
    ].join('; '),
  };
}

/** @param share 0.5 for the median */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** Median, 99th percentile and worst. */
export const spreadOf = (values: readonly number[]): string =>
  `p50 ${seconds(percentile(values, 0.5))}, p99 ${seconds(percentile(values, 0.99))}, ` +
  `worst ${seconds(percentile(values, 1))}`;

const textOf = ({ kind, name, why }: Violation): string => `${kind} ${name}: ${why}`;
