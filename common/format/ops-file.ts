/**
 * The ops log of a block, `<block>.<n>.ops`: a header of 64 bytes, then operations, each in a frame that ends on a
 * multiple of 8. `n` grows with every rewrite of the log; a rewritten log starts with a SNAPSHOT.
 *
 * | at | header field |
 * |---|---|
 * | 0 | magic 'TFSO' u32 · format version u16 · 0 u16 |
 * | 8 | cluster uuid 16 B |
 * | 24 | block u32 · n u32 |
 * | 32 | salt of the block 16 B |
 * | 48 | zero |
 * | 60 | CRC-32 of everything before it |
 *
 * Frame: body length u32 · CRC u32 · body · zeros. The CRC covers body length and body, and is seeded with salt,
 * block, n and the frame's own offset. Bit 31 of the length says that the frame was written together with the one
 * before it: only a frame without it proves that everything before it had been made durable.
 */

import { crc32 } from '../crc.ts';
import { assert } from '../errors.ts';
import type { BlockId } from '../ids.ts';
import { type Decoded, decoded, magic, rejected } from './decoded.ts';
import { decodeOpBody, encodeOpBody, OP_BODY_BYTES_MIN, type Op, OpType } from './op.ts';
import { FORMAT_VERSION } from './superblock.ts';

export const OPS_HEADER_BYTES = 64;
const MAGIC = magic('TFSO');
const CRC_AT = 60;
const FRAME_HEADER_BYTES = 8;
const CONTINUES = 0x8000_0000;

export interface OpsFileHeader {
  readonly clusterUuid: string;
  readonly block: BlockId;
  readonly n: number;
  /** Of the block's superblock. */
  readonly salt: Buffer;
}

export function encodeOpsFileHeader(h: OpsFileHeader): Buffer {
  assert(/^[0-9a-f]{32}$/.test(h.clusterUuid) && h.salt.length === 16, 'uuid and salt have their lengths');
  const out = Buffer.alloc(OPS_HEADER_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(FORMAT_VERSION, 4);
  out.write(h.clusterUuid, 8, 'hex');
  out.writeUInt32LE(h.block, 24);
  out.writeUInt32LE(h.n, 28);
  h.salt.copy(out, 32);
  out.writeUInt32LE(crc32(out.subarray(0, CRC_AT)), CRC_AT);
  return out;
}

export function decodeOpsFileHeader(b: Buffer): Decoded<OpsFileHeader> {
  if (b.length < OPS_HEADER_BYTES) return rejected('ops log is shorter than its header');
  if (b.readUInt32LE(0) !== MAGIC) return rejected('not an ops log (no TFSO at its start)');
  if (crc32(b.subarray(0, CRC_AT)) !== b.readUInt32LE(CRC_AT))
    return rejected('ops log header checksum mismatch');
  const version = b.readUInt16LE(4);
  if (version !== FORMAT_VERSION)
    return rejected(`ops log format ${version}; this program reads format ${FORMAT_VERSION}`);
  return decoded({
    clusterUuid: b.toString('hex', 8, 24),
    block: b.readUInt32LE(24) as BlockId,
    n: b.readUInt32LE(28),
    salt: Buffer.from(b.subarray(32, 48)),
  });
}

/** What the checksums of all frames of one file start from. */
export function opsSeed(h: OpsFileHeader): number {
  const ids = Buffer.allocUnsafe(8);
  ids.writeUInt32LE(h.block, 0);
  ids.writeUInt32LE(h.n, 4);
  return crc32(ids, crc32(h.salt));
}

/** Bytes of a log that a body takes. */
export const frameSpan = (bodyLength: number): number => (FRAME_HEADER_BYTES + bodyLength + 7) & -8;

/**
 * @param seed of {@link opsSeed}
 * @param offset of the frame in its file, a multiple of 8
 * @param continues not the first of the frames that are made durable together
 */
export function frameOp(body: Buffer, seed: number, offset: number, continues = false): Buffer {
  assert(offset % 8 === 0, 'a frame starts on a multiple of 8');
  const out = Buffer.alloc(frameSpan(body.length));
  out.writeUInt32LE(continues ? (body.length | CONTINUES) >>> 0 : body.length, 0);
  body.copy(out, FRAME_HEADER_BYTES);
  out.writeUInt32LE(frameCrc(out, 0, body.length, seed, offset), 4);
  return out;
}

export interface OpsFile {
  readonly header: OpsFileHeader;
  /** Up to the first bad frame. */
  readonly ops: readonly Op[];
  /** End of the last good frame before any bad one: what to append at. */
  readonly goodLength: number;
  /**
   * - `clean`: every byte is a good frame
   * - `torn`: the end is no good frame, and what good frames follow were written together with it: an append that
   *   was never acknowledged
   * - `corrupt`: frames that were written later follow a bad one, or an operation is good that this program cannot
   *   read; operations that were acknowledged are lost here, and another replica has them
   */
  readonly end: 'clean' | 'torn' | 'corrupt';
  /** Of a corrupt file: the operations behind the damage that are good. */
  readonly beyond: readonly Op[];
  /** Of a corrupt file whose last bytes are a good frame: the operation in it. What else was lost came before. */
  readonly last: Op | undefined;
  /** Of a file that is not clean: what is wrong at `goodLength`. */
  readonly why: string | undefined;
}

/** @param b a whole ops file */
export function readOpsFile(b: Buffer): Decoded<OpsFile> {
  const header = decodeOpsFileHeader(b);
  if (!header.ok) return header;
  const seed = opsSeed(header.value);
  const ops: Op[] = [];
  let at = OPS_HEADER_BYTES;
  let why: string | undefined;
  let unreadable = false;
  while (at < b.length && why === undefined) {
    const body = bodyAt(b, at, seed);
    if (body === undefined) {
      why = 'no valid frame';
      break;
    }
    const op = decodeOpBody(body);
    if (op.ok) {
      ops.push(op.value);
      at += frameSpan(body.length);
    } else {
      why = op.why;
      unreadable = true;
    }
  }
  const goodLength = at;
  const rest = why === undefined ? undefined : scan(b, at + 8, seed);
  const end = rest === undefined ? 'clean' : unreadable || rest.provesMore ? 'corrupt' : 'torn';
  const beyond = end === 'corrupt' ? rest!.found : [];
  const last = rest?.end === b.length ? beyond.at(-1) : undefined;
  return decoded({ header: header.value, ops, goodLength, end, beyond, last, why });
}

/**
 * All good operations from `from` on, wherever they start, where the last of them ends, and whether any was not written
 * with the one before.
 */
function scan(b: Buffer, from: number, seed: number): { found: Op[]; provesMore: boolean; end: number } {
  const found: Op[] = [];
  let provesMore = false;
  let end = from;
  let at = from;
  while (at + FRAME_HEADER_BYTES + OP_BODY_BYTES_MIN <= b.length) {
    const body = looksLikeOp(b, at + FRAME_HEADER_BYTES) ? bodyAt(b, at, seed) : undefined;
    const op = body && decodeOpBody(body);
    if (body !== undefined && op?.ok) {
      found.push(op.value);
      if (b.readUInt32LE(at) < CONTINUES) provesMore = true;
      at += frameSpan(body.length);
      end = at;
    } else at += 8;
  }
  return { found, provesMore, end };
}

/** Known type, no flags: looked at before the checksum, so that a scan of garbage is cheap. */
const looksLikeOp = (b: Buffer, at: number): boolean =>
  b[at]! >= OpType.SNAPSHOT && b[at]! <= OpType.GEN_COMMIT && b.readUIntLE(at + 1, 3) === 0;

function bodyAt(b: Buffer, at: number, seed: number): Buffer | undefined {
  if (b.length - at < FRAME_HEADER_BYTES) return undefined;
  const length = b.readUInt32LE(at) & ~CONTINUES;
  if (length < OP_BODY_BYTES_MIN || length > b.length - at - FRAME_HEADER_BYTES) return undefined;
  if (at + frameSpan(length) > b.length) return undefined;
  if (frameCrc(b, at, length, seed, at) !== b.readUInt32LE(at + 4)) return undefined;
  return b.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length);
}

const prefix = Buffer.alloc(8);
function frameCrc(b: Buffer, at: number, length: number, seed: number, offset: number): number {
  prefix.writeUInt32LE(offset, 0);
  b.copy(prefix, 4, at, at + 4);
  const body = b.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length);
  return crc32(body, crc32(prefix, seed));
}

/** The payload of an OPS message: each body with its length u32 before it. */
export function encodeOpBodies(ops: readonly Op[]): Buffer {
  const parts: Buffer[] = [];
  for (const op of ops) {
    const body = encodeOpBody(op);
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(body.length, 0);
    parts.push(length, body);
  }
  return Buffer.concat(parts);
}

export function decodeOpBodies(b: Buffer): Decoded<Op[]> {
  const ops: Op[] = [];
  for (let at = 0; at < b.length; ) {
    if (b.length - at < 4) return rejected('list of operations is cut');
    const length = b.readUInt32LE(at);
    if (length > b.length - at - 4) return rejected('list of operations is cut');
    const op = decodeOpBody(b.subarray(at + 4, at + 4 + length));
    if (!op.ok) return op;
    ops.push(op.value);
    at += 4 + length;
  }
  return decoded(ops);
}
