import type { ServerId } from '../common/ids.ts';
import { BlockFlag, type BlockState } from '../common/wire/messages.ts';

/**
 * One replica of one block in four bytes:
 *
 *   bits 0-15 server · 16-18 state as last reported (a BlockState, 0 never) · then one bit each, below · 28-31 the
 *   lowest bits of its generation.
 */
export const Replica = {
  /** In the newest configuration of the block. A member with state 0 is expected to hold it and has not said so. */
  MEMBER: 1 << 19,
  /** The member that puts the block's operations in order. */
  PRIMARY: 1 << 20,
  /** Its operations are older than another replica's. */
  BEHIND: 1 << 21,
  /** Known from before its server's newest registration; confirmed or removed by the report that follows. */
  UNCONFIRMED: 1 << 22,
  SUSPECT: 1 << 23,
  QUARANTINED: 1 << 24,
  /** Its configuration is older than another replica's, or it {@link hasGoneBack}: it may lack operations that were acknowledged. */
  STALE: 1 << 25,
  /** About to be left out of the configuration: its server is told so before the others go on without it. */
  DOUBTED: 1 << 26,
  /** Of an earlier generation than another replica, or of one that a later leader had made otherwise. */
  OUTDATED: 1 << 27,
} as const;

const STATE_SHIFT = 16;
const STATE_MASK = 7 << STATE_SHIFT;

export const serverOf = (word: number): ServerId => (word & 0xffff) as ServerId;

/** @returns 0 for a member that has not reported the block */
export const stateOf = (word: number): BlockState | 0 =>
  ((word & STATE_MASK) >>> STATE_SHIFT) as BlockState | 0;

export const withState = (word: number, state: BlockState | 0): number =>
  (word & ~STATE_MASK) | (state << STATE_SHIFT);

const GENERATION_SHIFT = 28;
const GENERATION_MASK = 0xf;

export const withGeneration = (word: number, generation: number): number =>
  ((word & ~(GENERATION_MASK << GENERATION_SHIFT)) | ((generation & GENERATION_MASK) << GENERATION_SHIFT)) >>>
  0;

/** By how many generations the replica is older than the newest one: they are never that far apart that it matters. */
export const generationsBehind = (word: number, newest: number): number =>
  (newest - (word >>> GENERATION_SHIFT)) & GENERATION_MASK;

/** Whether what the replica does not know may have been acknowledged all the same. */
export const isStale = (word: number): boolean =>
  stateOf(word) !== 0 && ((word & (Replica.STALE | Replica.DOUBTED)) !== 0 || (word & Replica.MEMBER) === 0);

/**
 * Stale within the newest configuration: the server said once that the replica has an operation, and says now that it has
 * not. One that holds an older configuration is never behind: across two the numbers say nothing.
 */
export const hasGoneBack = (word: number): boolean => (word & GONE_BACK) === GONE_BACK;
const GONE_BACK = Replica.STALE | Replica.BEHIND;

/** @returns bits of {@link BlockFlag} */
export const flagsOf = (word: number): number =>
  (word & Replica.SUSPECT ? BlockFlag.SUSPECT : 0) | (word & Replica.QUARANTINED ? BlockFlag.QUARANTINED : 0);

/** What a report says of a replica and its digest tells apart. */
export const sameReport = (a: number, b: number): boolean =>
  ((a ^ b) & (STATE_MASK | Replica.SUSPECT | Replica.QUARANTINED)) === 0;

/** @param flags bits of {@link BlockFlag} */
export function withFlags(word: number, flags: number): number {
  let next = word & ~(Replica.SUSPECT | Replica.QUARANTINED);
  if (flags & BlockFlag.SUSPECT) next |= Replica.SUSPECT;
  if (flags & BlockFlag.QUARANTINED) next |= Replica.QUARANTINED;
  return next;
}
