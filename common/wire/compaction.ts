/** Messages of the compaction of a block: leader -> DataServer, and operator -> leader. */

import { z } from 'zod';
import { hex, u32, zBlock, zMember, zReign, zVersion } from './control.ts';
import { zErasedSlots, zSlot } from './erase.ts';

/**
 * Leader -> the sequencer of the block: order the purge of what nobody may undelete any more, if that and what is purged
 * already give back at least `bytesMin`.
 */
export const zPurge = z.object({
  block: zBlock,
  reign: zReign,
  bytesMin: u32,
  /** What time it is there, ms since 1970: where it is another one than here, nothing is purged by time. */
  wallMs: z.number(),
  /** Of these alone, without regard to the time in which they may be undeleted; of all that are due when absent. */
  erase: zErasedSlots.optional(),
});
export type Purge = z.infer<typeof zPurge>;
export const zPurgeReply = z.object({
  /** Records that the next generation can do without, in bytes. */
  bytes: u32,
  /** Of an erasure: those that are not purged, because a name of theirs lives, or there are more than were said. */
  kept: z.array(zSlot).optional(),
  /** Where the purge stands in the order of operations; absent where it would not have been worth it. */
  barrier: z.object({ version: zVersion, seq: u32 }).optional(),
  /** Where it would not: for how many milliseconds more that much is sure not to be due. */
  notBeforeMs: z.number().min(0).optional(),
});
export type PurgeReply = z.infer<typeof zPurgeReply>;

/** Leader -> every member: make the next generation, durable, and keep it beside the present one. */
export const zPrepareGeneration = z.object({
  block: zBlock,
  reign: zReign,
  generation: u32,
  version: zVersion,
  seq: u32,
  bytesPerSecond: u32.min(1),
  /** What does not verify here is asked of these. */
  sources: z.array(zMember).max(8),
});
export type PrepareGeneration = z.infer<typeof zPrepareGeneration>;
export const zPreparedGeneration = z.object({ length: u32, slots: u32, digest: hex(32) });
export type PreparedGenerationFact = z.infer<typeof zPreparedGeneration>;

/** Leader -> a member that has made just this: it is the block from now on. Durable when answered. */
export const zCommitGeneration = zPreparedGeneration.extend({
  block: zBlock,
  reign: zReign,
  generation: u32,
  /** Of the leader that first had it committed. */
  epoch: zReign.shape.epoch,
});
export type CommitGeneration = z.infer<typeof zCommitGeneration>;

/** Leader -> a member: what was prepared is not wanted. */
export const zAbandonGeneration = z.object({ block: zBlock, reign: zReign });
export type AbandonGeneration = z.infer<typeof zAbandonGeneration>;

/** Operator, or whoever works on the leader's behalf -> leader: compact this block now. */
export const zCompact = z.object({
  block: zBlock,
  /**
   * `any`: if there is anything to gain. `share`: if it is what garbage has to be before it is looked for. `noted`: without
   * the records whose erasure the leader has noted.
   */
  gain: z.enum(['any', 'share', 'noted']).default('any'),
});
export type Compact = z.infer<typeof zCompact>;
export const zCompactReply = z.object({
  generation: u32,
  /** Given back on each replica; 0 when there was nothing to gain. */
  freedBytes: u32,
});
export type CompactReply = z.infer<typeof zCompactReply>;
