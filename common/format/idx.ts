/**
 * The index of a sealed block, `<block>.<generation>.idx`: a copy, in columns, of what a walk of the records would
 * find, so that a block opens, and the SHA-1 index is rebuilt, without reading pictures. Always rebuildable.
 *
 * | at | field |
 * |---|---|
 * | 0 | magic 'TFSI' u32 · format version u16 · 0 u16 |
 * | 8 | cluster uuid 16 B |
 * | 24 | block u32 · generation u32 · session u32 · length u32 · slots u32 |
 * | 44 | CRC-32 of each column: offsets u32 · flags u32 · SHA-1s u32 |
 * | 56 | zero |
 * | 60 | CRC-32 of everything before it |
 * | 64 | offsets / 8: u32[slots] · flags: u8[slots] · SHA-1s: 20 B[slots]; each starts on a multiple of 8 |
 *
 * Bit 0 of a flag: the record is lost, on every replica. A slot without a SHA-1 (purged or lost) has zeros there.
 */

import { endianness } from 'node:os';
import { crc32 } from '../crc.ts';
import { assert } from '../errors.ts';
import { type BlockId, type Session, SLOT_MAX } from '../ids.ts';
import { type Decoded, decoded, magic, rejected } from './decoded.ts';
import { FORMAT_VERSION } from './superblock.ts';

assert(endianness() === 'LE', 'columns of u32 are used as they lie in the file');

export const IDX_HEADER_BYTES = 64;
export const SHA1_BYTES = 20;
export const IDX_LOST = 1;
const MAGIC = magic('TFSI');
const CRC_AT = 60;

export interface IdxIdentity {
  /** 32 hex digits. */
  readonly clusterUuid: string;
  readonly block: BlockId;
  readonly generation: number;
  readonly session: Session;
  /** Of the sealed block. */
  readonly length: number;
  readonly slots: number;
}

export interface IdxHeader extends IdxIdentity {
  readonly offsetsCrc: number;
  readonly flagsCrc: number;
  readonly sha1sCrc: number;
}

export interface IdxColumns {
  /** Offset in the block file / 8, by slot. */
  readonly offsets: Uint32Array;
  /** {@link IDX_LOST}, by slot. */
  readonly flags: Uint8Array;
  /** 20 bytes each, by slot. */
  readonly sha1s: Buffer;
}

/** Where the columns lie: read only those that are needed. */
export function idxLayout(slots: number): {
  readonly offsetsAt: number;
  readonly flagsAt: number;
  readonly sha1sAt: number;
  /** Of the file. */
  readonly bytes: number;
} {
  const offsetsAt = IDX_HEADER_BYTES;
  const flagsAt = align8(offsetsAt + 4 * slots);
  const sha1sAt = align8(flagsAt + slots);
  return { offsetsAt, flagsAt, sha1sAt, bytes: align8(sha1sAt + SHA1_BYTES * slots) };
}

const align8 = (n: number): number => (n + 7) & -8;

/** @returns the whole file */
export function encodeIdx(identity: IdxIdentity, columns: IdxColumns): Buffer {
  const { slots } = identity;
  assert(slots <= SLOT_MAX + 1, 'slots are bounded');
  assert(
    columns.offsets.length === slots &&
      columns.flags.length === slots &&
      columns.sha1s.length === SHA1_BYTES * slots,
    'columns have an entry for every slot',
  );
  const layout = idxLayout(slots);
  const out = Buffer.alloc(layout.bytes);
  const offsets = bytesOf(columns.offsets);
  out.set(offsets, layout.offsetsAt);
  out.set(columns.flags, layout.flagsAt);
  out.set(columns.sha1s, layout.sha1sAt);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(FORMAT_VERSION, 4);
  out.write(identity.clusterUuid, 8, 'hex');
  out.writeUInt32LE(identity.block, 24);
  out.writeUInt32LE(identity.generation, 28);
  out.writeUInt32LE(identity.session, 32);
  out.writeUInt32LE(identity.length, 36);
  out.writeUInt32LE(slots, 40);
  out.writeUInt32LE(crc32(offsets), 44);
  out.writeUInt32LE(crc32(columns.flags), 48);
  out.writeUInt32LE(crc32(columns.sha1s), 52);
  out.writeUInt32LE(crc32(out.subarray(0, CRC_AT)), CRC_AT);
  return out;
}

/** @param b at least the first 64 bytes of the file */
export function decodeIdxHeader(b: Buffer): Decoded<IdxHeader> {
  if (b.length < IDX_HEADER_BYTES) return rejected('index is shorter than its header');
  if (b.readUInt32LE(0) !== MAGIC) return rejected('not an index (no TFSI at its start)');
  if (crc32(b.subarray(0, CRC_AT)) !== b.readUInt32LE(CRC_AT))
    return rejected('index header checksum mismatch');
  const version = b.readUInt16LE(4);
  if (version !== FORMAT_VERSION)
    return rejected(`index format ${version}; this program reads format ${FORMAT_VERSION}`);
  const slots = b.readUInt32LE(40);
  if (slots > SLOT_MAX + 1) return rejected(`index of ${slots} slots`);
  return decoded({
    clusterUuid: b.toString('hex', 8, 24),
    block: b.readUInt32LE(24) as BlockId,
    generation: b.readUInt32LE(28),
    session: b.readUInt32LE(32) as Session,
    length: b.readUInt32LE(36),
    slots,
    offsetsCrc: b.readUInt32LE(44),
    flagsCrc: b.readUInt32LE(48),
    sha1sCrc: b.readUInt32LE(52),
  });
}

/**
 * @param b the file from its start up to at least the end of the flags column
 * @returns columns of their own, which keep nothing of `b`
 */
export function decodeIdxSlots(b: Buffer, h: IdxHeader): Decoded<Pick<IdxColumns, 'offsets' | 'flags'>> {
  const layout = idxLayout(h.slots);
  if (b.length < layout.flagsAt + h.slots) return rejected('index is cut');
  const offsets = new Uint32Array(h.slots);
  bytesOf(offsets).set(b.subarray(layout.offsetsAt, layout.offsetsAt + 4 * h.slots));
  if (crc32(bytesOf(offsets)) !== h.offsetsCrc) return rejected('index: offsets checksum mismatch');
  const flags = Uint8Array.from(b.subarray(layout.flagsAt, layout.flagsAt + h.slots));
  if (crc32(flags) !== h.flagsCrc) return rejected('index: flags checksum mismatch');
  return decoded({ offsets, flags });
}

/** @param b the SHA-1 column alone */
export function decodeIdxSha1s(b: Buffer, h: IdxHeader): Decoded<Buffer> {
  if (b.length < SHA1_BYTES * h.slots) return rejected('index is cut');
  const sha1s = b.subarray(0, SHA1_BYTES * h.slots);
  return crc32(sha1s) === h.sha1sCrc ? decoded(sha1s) : rejected('index: SHA-1s checksum mismatch');
}

/** @param b the whole file */
export function decodeIdx(b: Buffer): Decoded<{ readonly header: IdxHeader; readonly columns: IdxColumns }> {
  const header = decodeIdxHeader(b);
  if (!header.ok) return header;
  const slots = decodeIdxSlots(b, header.value);
  if (!slots.ok) return slots;
  const sha1s = decodeIdxSha1s(b.subarray(idxLayout(header.value.slots).sha1sAt), header.value);
  if (!sha1s.ok) return sha1s;
  return decoded({ header: header.value, columns: { ...slots.value, sha1s: sha1s.value } });
}

const bytesOf = (words: Uint32Array): Buffer => Buffer.from(words.buffer, words.byteOffset, words.byteLength);
