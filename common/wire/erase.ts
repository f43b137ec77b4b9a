/** Messages of a legal erasure: operator -> DataServer and leader, leader -> DataServer. */

import { z } from 'zod';
import { type Cookie, type FileId, SLOT_MAX, type Slot } from '../ids.ts';
import { ERASE_BLOCKS_MAX, ERASE_SLOTS_MAX } from '../limits.ts';
import { hex, u32, zBlock, zReign, zServer, zVersion } from './control.ts';

export const zSlot = z
  .number()
  .int()
  .min(0)
  .max(SLOT_MAX)
  .transform((n) => n as Slot);
const zFileId = u32.transform((n) => n as FileId);
const zCookie = u32.transform((n) => n as Cookie);

/** Operator -> DataServer: which records of this content are here? Some blocks at a time, by their ids. */
export const zFindContent = z.object({ sha1: hex(20), from: u32 });

const zFoundName = z.object({
  fileId: zFileId,
  /** Absent where the record does not read here. */
  cookie: zCookie.optional(),
  /** Bits of NameFlag. */
  flags: u32,
});

const zFoundRecord = z.object({
  block: zBlock,
  slot: zSlot,
  version: zVersion,
  seq: u32,
  /** The record's own name first, then its aliases. */
  names: z.array(zFoundName),
});
export type FoundRecord = z.infer<typeof zFoundRecord>;

/** Its answer, as a payload. */
export const zFoundContent = z.object({
  records: z.array(zFoundRecord),
  /** Blocks that do not read here now. */
  unread: z.array(zBlock),
  /** Blocks that wait for their seal: behind their last whole record there may be bytes of one that was never acknowledged. */
  unsettled: z.array(zBlock),
  /** Looked at by this call, and all there are. */
  looked: u32,
  blocks: u32,
  /** Where to go on; absent at the end. */
  next: u32.optional(),
});
export type FoundContent = z.infer<typeof zFoundContent>;

/** A record that is to be erased with all its names. */
export const zErasedSlot = z.object({
  slot: zSlot,
  /** How many aliases it had, deleted ones too, when somebody agreed to erase it: with one more it is kept. */
  aliases: u32,
});
export type ErasedSlot = z.infer<typeof zErasedSlot>;
export const zErasedSlots = z.array(zErasedSlot).min(1).max(ERASE_SLOTS_MAX);

/** Operator -> leader: have the bytes of these records, whose names are all deleted, go from all members of the block. */
export const zEraseRecords = z.object({ block: zBlock, slots: zErasedSlots });
export type EraseRecords = z.infer<typeof zEraseRecords>;
export const zEraseRecordsReply = z.object({
  /** Those that have a name which is not deleted, or more names than were said. */
  kept: z.array(zSlot).default([]),
});
export type EraseRecordsReply = z.infer<typeof zEraseRecordsReply>;

const zErasedBlock = z.object({ block: zBlock, slots: z.array(zSlot).min(1).max(ERASE_SLOTS_MAX) });
export type ErasedBlock = z.infer<typeof zErasedBlock>;

/**
 * Operator -> leader: have every DataServer remove what may hold the bytes beside the blocks in use, and say whether those
 * hold them.
 */
export const zClearTraces = z.object({ sha1: hex(20), blocks: z.array(zErasedBlock).max(ERASE_BLOCKS_MAX) });
export type ClearTraces = z.infer<typeof zClearTraces>;

/** Leader -> DataServer. */
export const zClearTracesOrder = zClearTraces.extend({ reign: zReign });
export type ClearTracesOrder = z.infer<typeof zClearTracesOrder>;

export const LEFT_FILES_MAX = 20;
export const zTracesCleared = z.object({
  /** Blocks whose file here holds at least one of the records, or may hold it. */
  holds: z.array(zBlock),
  /** Files that may hold the bytes and could not be removed, or that are nobody's; the first few. */
  left: z.array(z.string().max(300)).max(LEFT_FILES_MAX),
  /** Files that were removed. */
  removed: u32,
});
export type TracesCleared = z.infer<typeof zTracesCleared>;

export const zClearTracesReply = z.object({
  servers: z.array(
    z.object({
      server: zServer,
      /** Taken out of the cluster for good: nobody will ever ask it. */
      isRemoved: z.boolean(),
      /** Absent where it could not be asked. */
      cleared: zTracesCleared.optional(),
      /** Why it could not. */
      failure: z.string().optional(),
    }),
  ),
});
export type ClearTracesReply = z.infer<typeof zClearTracesReply>;
