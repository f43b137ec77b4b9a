/**
 * One stored picture in a block: header, chunk table (payloads over 64 KiB), payload, zeros up to a multiple of 8.
 *
 * | at | field |
 * |---|---|
 * | 0 | magic 'TFSR' u32 · header CRC u32 |
 * | 8 | slot u32 · cookie u32 · size u32 (payload bytes) · data CRC u32 (payload) · acked length u32 |
 * | 28 | flags u16 (0) · media type u16 |
 * | 32 | mtime, ms since 1970, f64 |
 * | 40 | op id 16 B |
 * | 56 | SHA-1 of the payload 20 B |
 * | 76 | suffix hash u32 |
 * | 80 | one CRC-32 u32 for every 64 KiB of a payload larger than that, zero padded to a multiple of 8 |
 *
 * The header CRC covers everything from byte 8 to the end of the table, and is seeded with salt, block, generation,
 * session and the record's own offset: a record that is misdirected, stale, recycled or forged never passes. The data
 * CRCs are plain CRC-32 of the payload, so they travel unchanged from the gateway through replication and compaction.
 */

import { crc32 } from '../crc.ts';
import { assert } from '../errors.ts';
import { type Cookie, SLOT_MAX, type Slot } from '../ids.ts';
import { BLOCK_BYTES_MAX, CHUNK_BYTES, RECORD_ALIGN_BYTES } from '../limits.ts';
import { chunkCount } from '../wire/messages.ts';
import { magic } from './decoded.ts';
import type { Superblock } from './superblock.ts';

/** Without the chunk table. */
export const RECORD_HEADER_BYTES = 80;
export const RECORD_MAGIC = magic('TFSR');
const COVERED_FROM = 8;

export interface RecordHeader {
  readonly slot: Slot;
  readonly cookie: Cookie;
  /** Payload bytes. */
  readonly size: number;
  readonly dataCrc: number;
  /** Length of the block that every member had durable when this record was written: never above its offset. */
  readonly ackedLength: number;
  readonly flags: number;
  readonly mediaType: number;
  readonly mtimeMs: number;
  /** 16 bytes; of a decoded header a view of the input. */
  readonly opId: Buffer;
  /** 20 bytes; of a decoded header a view of the input. */
  readonly sha1: Buffer;
  readonly suffixHash: number;
  /** `chunkCount(size)` of them. */
  readonly chunkCrcs: Uint32Array;
}

/** Header and chunk table. */
export const recordHeaderBytes = (size: number): number =>
  size <= CHUNK_BYTES ? RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + align8(4 * chunkCount(size));

/** Bytes of a block that a payload of `size` takes: header, table, payload, padding. */
export const recordSpan = (size: number): number => recordHeaderBytes(size) + align8(size);

/** Zeros to write after a payload. */
export const recordPadding = (size: number): number => align8(size) - size;

const align8 = (n: number): number => (n + (RECORD_ALIGN_BYTES - 1)) & -RECORD_ALIGN_BYTES;

/** What all header checksums of one generation of one block start from. */
export function blockSeed(s: Pick<Superblock, 'salt' | 'block' | 'generation' | 'session'>): number {
  const ids = Buffer.allocUnsafe(12);
  ids.writeUInt32LE(s.block, 0);
  ids.writeUInt32LE(s.generation, 4);
  ids.writeUInt32LE(s.session, 8);
  return crc32(ids, crc32(s.salt));
}

const offsetBytes = Buffer.alloc(4);
function recordSeed(seed: number, offset: number): number {
  offsetBytes.writeUInt32LE(offset, 0);
  return crc32(offsetBytes, seed);
}

/**
 * @param seed of {@link blockSeed}
 * @param offset of the record in its block file
 * @param into where to write, from its start; at least `recordHeaderBytes(size)` long
 * @returns header and chunk table
 */
export function encodeRecordHeader(h: RecordHeader, seed: number, offset: number, into?: Buffer): Buffer {
  const chunks = chunkCount(h.size);
  const length = recordHeaderBytes(h.size);
  assert(h.chunkCrcs.length === chunks, 'a chunk table has one entry for every chunk');
  assert(h.opId.length === 16 && h.sha1.length === 20, 'opId and sha1 have their lengths');
  assert(h.ackedLength <= offset, 'nothing is acked beyond where the block ends');
  assert(h.slot <= SLOT_MAX && offset % RECORD_ALIGN_BYTES === 0, 'slot and offset are in range');
  const out = into === undefined ? Buffer.allocUnsafe(length) : into.subarray(0, length);
  assert(out.length === length, 'the header fits');
  out.writeUInt32LE(RECORD_MAGIC, 0);
  out.writeUInt32LE(h.slot, 8);
  out.writeUInt32LE(h.cookie, 12);
  out.writeUInt32LE(h.size, 16);
  out.writeUInt32LE(h.dataCrc, 20);
  out.writeUInt32LE(h.ackedLength, 24);
  out.writeUInt16LE(h.flags, 28);
  out.writeUInt16LE(h.mediaType, 30);
  out.writeDoubleLE(h.mtimeMs, 32);
  h.opId.copy(out, 40);
  h.sha1.copy(out, 56);
  out.writeUInt32LE(h.suffixHash, 76);
  for (let i = 0; i < chunks; i++) out.writeUInt32LE(h.chunkCrcs[i]!, RECORD_HEADER_BYTES + 4 * i);
  if (chunks % 2 === 1) out.writeUInt32LE(0, length - 4);
  out.writeUInt32LE(crc32(out.subarray(COVERED_FROM), recordSeed(seed, offset)), 4);
  return out;
}

export type DecodedHeader = { readonly ok: true; readonly value: RecordHeader } | BadHeader;
export interface BadHeader {
  readonly ok: false;
  readonly why: string;
  /** Bytes from `at` needed to decide, where the buffer ends too early; 0 for a header that is bad whatever follows. */
  readonly short: number;
}

const bad = (why: string): BadHeader => ({ ok: false, why, short: 0 });
const NO_CHUNKS = new Uint32Array(0);

/**
 * @param at where in the buffer the record starts
 * @param offset of the record in its block file
 * @returns views of the buffer for op id and SHA-1
 */
export function decodeRecordHeader(b: Buffer, at: number, seed: number, offset: number): DecodedHeader {
  if (b.length - at < RECORD_HEADER_BYTES)
    return { ok: false, why: 'record header is cut', short: RECORD_HEADER_BYTES };
  if (b.readUInt32LE(at) !== RECORD_MAGIC) return bad('no record here (no TFSR)');
  const size = b.readUInt32LE(at + 16);
  if (size > BLOCK_BYTES_MAX) return bad(`record size ${size}`);
  const length = recordHeaderBytes(size);
  if (b.length - at < length) return { ok: false, why: 'record header is cut', short: length };
  if (crc32(b.subarray(at + COVERED_FROM, at + length), recordSeed(seed, offset)) !== b.readUInt32LE(at + 4))
    return bad('record header checksum mismatch');
  const slot = b.readUInt32LE(at + 8);
  const ackedLength = b.readUInt32LE(at + 24);
  const flags = b.readUInt16LE(at + 28);
  if (slot > SLOT_MAX) return bad(`slot ${slot}`);
  if (ackedLength > offset) return bad(`acked length ${ackedLength} above the record's own offset ${offset}`);
  if (flags !== 0) return bad(`record flags ${flags}`);
  return {
    ok: true,
    value: {
      slot: slot as Slot,
      cookie: b.readUInt32LE(at + 12) as Cookie,
      size,
      dataCrc: b.readUInt32LE(at + 20),
      ackedLength,
      flags,
      mediaType: b.readUInt16LE(at + 30),
      mtimeMs: b.readDoubleLE(at + 32),
      opId: b.subarray(at + 40, at + 56),
      sha1: b.subarray(at + 56, at + 76),
      suffixHash: b.readUInt32LE(at + 76),
      chunkCrcs:
        size > CHUNK_BYTES ? readChunkCrcs(b, at + RECORD_HEADER_BYTES, chunkCount(size)) : NO_CHUNKS,
    },
  };
}

/** @param b at least a header @returns what it says, unchecked */
export const slotAt = (b: Buffer): number => b.readUInt32LE(8);

/** A cheap look for forward scans: whether a header may start here. @returns its payload size, or -1 */
export function peekRecord(b: Buffer, at: number): number {
  if (b.length - at < RECORD_HEADER_BYTES || b.readUInt32LE(at) !== RECORD_MAGIC) return -1;
  const size = b.readUInt32LE(at + 16);
  return size <= BLOCK_BYTES_MAX && b.readUInt32LE(at + 8) <= SLOT_MAX ? size : -1;
}

/** What a payload is checked against. */
export type PayloadFacts = Pick<RecordHeader, 'size' | 'dataCrc' | 'chunkCrcs'>;

/** Whether a whole payload is what its header says, chunk by chunk too. */
export function checkPayload(h: PayloadFacts, payload: Uint8Array): boolean {
  if (payload.length !== h.size || crc32(payload) !== h.dataCrc) return false;
  return h.chunkCrcs.length === 0 || checkChunks(h, 0, payload);
}

/**
 * Whether whole chunks of a payload are what the header says. A payload without a chunk table is its own only chunk.
 *
 * @param bytes from the start of chunk `first` to the end of a chunk or of the payload
 */
export function checkChunks(h: PayloadFacts, first: number, bytes: Uint8Array): boolean {
  if (h.chunkCrcs.length === 0) return first === 0 && bytes.length === h.size && crc32(bytes) === h.dataCrc;
  for (let at = 0, i = first; at < bytes.length; at += CHUNK_BYTES, i++) {
    if (crc32(bytes.subarray(at, at + CHUNK_BYTES)) !== h.chunkCrcs[i]) return false;
  }
  return true;
}

/** The whole chunks that a range of a payload touches: first chunk, and the bytes [start, end) of the payload. */
export function chunkRange(
  size: number,
  offset: number,
  length: number,
): { readonly first: number; readonly start: number; readonly end: number } {
  if (size <= CHUNK_BYTES) return { first: 0, start: 0, end: size };
  const first = Math.floor(offset / CHUNK_BYTES);
  const end = Math.min(size, Math.ceil((offset + length) / CHUNK_BYTES) * CHUNK_BYTES);
  return { first, start: first * CHUNK_BYTES, end };
}

function readChunkCrcs(b: Buffer, at: number, count: number): Uint32Array {
  const crcs = new Uint32Array(count);
  for (let i = 0; i < count; i++) crcs[i] = b.readUInt32LE(at + 4 * i);
  return crcs;
}
