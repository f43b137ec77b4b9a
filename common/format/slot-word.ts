/**
 * What memory keeps of a record: one u32. Low 27 bits: offset in the block file / 8; above them the state bits of the
 * record's own name, in the order of NameFlag: DELETED, HIDDEN, PURGED, LOST; bit 31 is spare.
 */

import { RECORD_ALIGN_BYTES } from '../limits.ts';

const OFFSET_MASK = 0x07ff_ffff;
const FLAGS_SHIFT = 27;
const FLAGS_MASK = 0xf;

/** @param nameFlags bits of NameFlag */
export const slotWord = (offset: number, nameFlags = 0): number =>
  ((offset / RECORD_ALIGN_BYTES) | (nameFlags << FLAGS_SHIFT)) >>> 0;

/** @returns the offset of the record in its block file */
export const slotOffset = (word: number): number => (word & OFFSET_MASK) * RECORD_ALIGN_BYTES;

/** @returns bits of NameFlag */
export const slotFlags = (word: number): number => (word >>> FLAGS_SHIFT) & FLAGS_MASK;

export const withSlotFlags = (word: number, nameFlags: number): number =>
  ((word & OFFSET_MASK) | ((nameFlags & FLAGS_MASK) << FLAGS_SHIFT)) >>> 0;

/**
 * Bytes of a record: up to the next slot's offset, or to the end of the block's records.
 *
 * @param count slots in use
 * @param length of the block file that holds records
 */
export function slotSpan(words: Uint32Array, count: number, slot: number, length: number): number {
  const start = slotOffset(words[slot]!);
  const end = slot + 1 < count ? slotOffset(words[slot + 1]!) : length;
  return end - start;
}
