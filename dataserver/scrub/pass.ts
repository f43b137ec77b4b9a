import type { BlockId } from '../../common/ids.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { BlockInfo } from '../block/store.ts';

/** Of a pass that began later than now by more than this, the clock has been set back since. */
const CLOCK_SET_BACK_MS = 60_000;

/** One reading of all sealed replicas of a disk. Dates are of the wall clock. */
export interface Pass {
  readonly startedAtMs: number;
  /** Absent while it is under way. */
  readonly endedAtMs?: number;
  readonly fullSpeed: boolean;
  /** Read in it so far. */
  readonly replicas: number;
  readonly bytes: number;
  /** Replicas that did not verify. */
  readonly damaged: number;
  /** Places where they did not. */
  readonly problems: number;
}

export const beginPass = (startedAtMs: number, fullSpeed: boolean): Pass => ({
  startedAtMs,
  fullSpeed,
  replicas: 0,
  bytes: 0,
  damaged: 0,
  problems: 0,
});

export interface Due {
  readonly block: BlockId;
  readonly bytes: number;
}

/** Whether a scrub can tell anything new of the replica: what is damaged and about to be repaired it leaves alone. */
export function isScrubbed({ state, flags, seal }: Pick<BlockInfo, 'state' | 'flags' | 'seal'>): boolean {
  if (state !== BlockState.SEALED || seal === undefined || (flags & BlockFlag.QUARANTINED) !== 0)
    return false;
  // Lost records are lost: the others are looked after as before.
  return (flags & BlockFlag.SUSPECT) === 0 || seal.lost !== undefined;
}

export type Replica = Pick<BlockInfo, 'block' | 'state' | 'flags' | 'seal' | 'superblock' | 'length'>;
export type ReadAt = (block: BlockId) => number | undefined;

/** One that nobody has read through counts as read when its block was made. */
export function lastReadAtMs({ block, superblock }: Replica, readAtMs: ReadAt, nowMs: number): number {
  const noted = readAtMs(block);
  return noted === undefined || noted > nowMs ? (superblock?.createdAtMs ?? 0) : noted;
}

/**
 * What is to be read in a pass, the replica that was read longest ago first. One that nobody has read through counts as
 * read when its block was made; so does one that was read in the future, which is what a clock that was set back says.
 *
 * @param readAtMs when the replica was last begun to be read
 */
export function dueIn(pass: Pass, replicas: Iterable<Replica>, readAtMs: ReadAt, nowMs: number): Due[] {
  const due: (Due & { readonly atMs: number })[] = [];
  for (const replica of replicas) {
    if (!isScrubbed(replica)) continue;
    const { block, length } = replica;
    const atMs = lastReadAtMs(replica, readAtMs, nowMs);
    if (atMs < pass.startedAtMs) due.push({ block, bytes: length, atMs });
  }
  return due.sort((a, b) => a.atMs - b.atMs || a.block - b.block);
}

/** Whether the clock was set back since that pass began. */
export const isSetBack = (last: Pass | undefined, nowMs: number): boolean =>
  last !== undefined && last.startedAtMs - nowMs > CLOCK_SET_BACK_MS;

/** Whether a new pass is to begin: as long after the last one began as a pass may take. */
export function isPassDue(last: Pass | undefined, nowMs: number, passMs: number): boolean {
  if (passMs === 0) return false;
  if (last === undefined) return true;
  if (last.endedAtMs === undefined) return false;
  return nowMs - last.startedAtMs >= passMs || isSetBack(last, nowMs);
}
