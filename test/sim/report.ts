import { MARKS, type MarkName } from '../../common/marks.ts';
import { describePlan, type FaultKind } from './plan.ts';
import type { RunResult } from './run.ts';

/** What many seeds were together. */
export interface Totals {
  seeds: number;
  operations: number;
  unknown: number;
  events: number;
  virtualMs: number;
  readonly faults: Map<FaultKind, number>;
  readonly marks: Map<MarkName, number>;
}

export const noTotals = (): Totals => ({
  seeds: 0,
  operations: 0,
  unknown: 0,
  events: 0,
  virtualMs: 0,
  faults: new Map(),
  marks: new Map(),
});

/** What is sent of a {@link RunResult} from one process to another. */
export interface Summary {
  readonly seed: number;
  readonly hash: string;
  readonly operations: number;
  readonly unknown: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly faults: readonly (readonly [FaultKind, number])[];
  readonly marks: readonly (readonly [MarkName, number])[];
  /** What went wrong, for a person; undefined for nothing. */
  readonly wrong: string | undefined;
  readonly plan: string;
}

export function summaryOf(result: RunResult): Summary {
  const { plan, hash, operations, unknown, events, virtualMs, faults, marks, error } = result;
  return {
    seed: plan.seed,
    hash,
    operations,
    unknown,
    events,
    virtualMs,
    faults: [...faults],
    marks: [...marks],
    wrong: error === undefined ? undefined : describeError(error),
    plan: describePlan(plan),
  };
}

/** With the place where it was noticed, as long as that is not only the checker. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'Violation') return error.message;
  return error.stack ?? error.message;
}

export function addTo(totals: Totals, summary: Summary): void {
  totals.seeds++;
  totals.operations += summary.operations;
  totals.unknown += summary.unknown;
  totals.events += summary.events;
  totals.virtualMs += summary.virtualMs;
  for (const [kind, count] of summary.faults) totals.faults.set(kind, (totals.faults.get(kind) ?? 0) + count);
  for (const [name, count] of summary.marks) totals.marks.set(name, (totals.marks.get(name) ?? 0) + count);
}

/** Rare branches that none of the seeds took. */
export function marksMissed(totals: Totals): MarkName[] {
  return (Object.keys(MARKS) as MarkName[]).filter((name) => !totals.marks.has(name));
}

/** Lines for a person. */
export function describeTotals(totals: Totals, seconds: number, violations: number): string[] {
  const { seeds, operations, unknown, events, virtualMs, faults } = totals;
  const injected = [...faults.values()].reduce((sum, count) => sum + count, 0);
  const missed = marksMissed(totals);
  return [
    `seeds            ${seeds}, ${(seeds / seconds).toFixed(2)} in a second, in ${Math.round(seconds)} s`,
    `operations       ${operations}, of which ${unknown} ended without a definite answer`,
    `virtual hours    ${(virtualMs / 3_600_000).toFixed(1)}`,
    `events           ${events}, ${Math.round(events / seconds)} in a second`,
    `faults injected  ${injected}`,
    ...[...faults].sort(([, a], [, b]) => b - a).map(([kind, count]) => `  ${kind.padEnd(20)} ${count}`),
    `rare branches    ${Object.keys(MARKS).length - missed.length} of ${Object.keys(MARKS).length} reached` +
      `${missed.length > 0 ? `; never: ${missed.join(' ')}` : ''}`,
    `violations       ${violations}`,
  ];
}
