import type { BlockId, ServerId } from '../../common/ids.ts';
import type { JobKind } from '../../common/jobs.ts';

/** Those that are queued, and those that the leader only ever carries out itself. */
export type WorkKind = JobKind;

/** Lower first. Between them there is room for what kinds of work come to be. */
export const Priority = {
  PURGE: 5,
  ONE_COPY: 10,
  UNDER_REPLICATED: 20,
  WRONG_DOMAIN: 30,
  /** And the nine behind it: the richer in garbage, the sooner. */
  COMPACT: 50,
  BALANCE: 80,
  SCRUB: 90,
} as const;
export const PRIORITY_MAX = 99;

/** A kind of work on one replica, there or to be made. */
export interface Place {
  readonly kind: WorkKind;
  readonly block: BlockId;
  readonly server: ServerId;
}

/** What one replica of one block needs. */
export interface Work {
  readonly kind: WorkKind;
  readonly block: BlockId;
  /** The DataServer that does it. */
  readonly target: ServerId;
  readonly priority: number;
  /** One plain sentence. */
  readonly reason: string;
  /** That have to be moved or read for it. */
  readonly bytes: number;
}

/** Work that is wanted and that nobody can do now. */
export interface Blocked {
  readonly kind: WorkKind;
  /** One plain sentence, with what stands in the way. */
  readonly why: string;
}

export interface BlockPlan {
  readonly work: readonly Work[];
  readonly blocked: readonly Blocked[];
}
