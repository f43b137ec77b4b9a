import type { Table } from './table.ts';

/** One benchmark. It prints tables; it never judges a time: machines differ, only ratios within one run mean something. */
export interface Bench {
  readonly name: string;
  /** One line for the help text. */
  readonly title: string;
  run(context: BenchContext): Promise<Table[]>;
}

export interface BenchContext {
  /** How long each load runs. */
  readonly seconds: number;
  /** 1 for the sizes of the published figures; smaller shrinks data sets, for a first look. */
  readonly scale: number;
  /** Script of the bare upper bound to run beside, if there is one. */
  readonly yardstick: string | undefined;
  /** A directory of this run on the disk to be measured, removed at the end. */
  readonly directory: string;
  say(text: string): void;
  /** Undone in reverse order when the benchmark ends, however it ends. */
  defer(undo: () => unknown): void;
}

/** @returns n scaled down, but not below `least` */
export const scaled = (context: BenchContext, n: number, least = 1): number =>
  Math.max(least, Math.round(n * context.scale));
