import type { RunOptions } from './run.ts';

/** A seed that once failed, and what it found then. */
export interface Pinned {
  readonly seed: number;
  readonly options?: RunOptions;
  /** The number of its row in docs/track-record.md, or what was wrong with the simulator. */
  readonly why: string;
}

/**
 * Run by `npm test` with every change. Code that changes changes what a seed does, so what keeps a defect away is the test
 * that its row names; these seeds cost little, and have found something before.
 */
export const PINNED: readonly Pinned[] = [
  {
    seed: 9,
    why: '5: an empty block stayed for ever; and servers were never at rest while every block was sealed after seconds',
  },
  { seed: 20, why: '6: a scrub went round and round after a clock was set back' },
  {
    seed: 13,
    options: { without: ['disk-hangs'] },
    why: '10: a seal waited for a block that had gone',
  },
];
