/**
 * Walks the records of one block in file order, whatever state the bytes are in: recovery, verification, salvage and
 * fsck all stand on it.
 *
 * Where no valid record starts at X, the walk looks on, at every multiple of 8, for a later valid header. A header
 * found there carries `ackedLength`, the length that was durable everywhere when it was written. If any says more
 * than X, then what stood at X had been acknowledged: a **hole**, damage to be repaired from another replica, and the
 * walk goes on behind it. If none does, X is a **torn tail**: the writes that were in flight when the power went,
 * acknowledged to nobody, and the block is valid up to X. So nothing below a watermark is ever cut off.
 *
 * A read error of the source is neither; it rejects the walk.
 */

import { createHash } from 'node:crypto';
import { assert } from '../errors.ts';
import { RECORD_ALIGN_BYTES, SUPERBLOCK_BYTES } from '../limits.ts';
import { magic } from './decoded.ts';
import { ReadWindow } from './read-window.ts';
import {
  blockSeed,
  checkPayload,
  decodeRecordHeader,
  peekRecord,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordHeaderBytes,
  recordPadding,
  recordSpan,
} from './record.ts';
import type { ByteSource } from './source.ts';
import type { Superblock } from './superblock.ts';
import { WalkTrack } from './walk-track.ts';

/** A record with a valid header. The buffers are views of the walk's own: use or copy them before returning. */
export interface WalkedRecord {
  readonly header: RecordHeader;
  readonly offset: number;
  /** Bytes of the block it takes. */
  readonly span: number;
  /** Header and chunk table. */
  readonly headerBytes: Buffer;
  /** Always true where payloads are not checked. */
  readonly payloadOk: boolean;
  /** Nothing but zeros behind the payload; always true where payloads are not checked. No checksum covers them. */
  readonly padOk: boolean;
  /** The payload, where it was read in one piece; large ones are not. */
  readonly payload: Buffer | undefined;
}

export interface WalkOptions {
  /** A record boundary to start from instead of the first record, and the slot of the record there. */
  readonly from?: { readonly offset: number; readonly slot: number };
  /** No record reaches beyond; the whole source when absent. For a sealed block, its length. */
  readonly end?: number;
  /** What is known from elsewhere to have been acknowledged: the length and slots of a SEAL. */
  readonly proven?: { readonly length: number; readonly slots?: number };
  /** Default true. */
  readonly checkPayloads?: boolean;
  /** Read at a time, `walkBufferBytes` of tunables.ts when absent. The header of any record has to fit. */
  readonly windowBytes?: number;
  /** Sees every valid header in file order, those beyond the later `validLength` too. */
  readonly onRecord?: (record: WalkedRecord) => void | Promise<void>;
}

/** Bytes [start, end) that do not verify although they had been acknowledged, and the slots that lie there. */
export interface Hole {
  readonly start: number;
  readonly end: number;
  readonly firstSlot: number;
  readonly slots: number;
}

export interface BlockWalk {
  /** Where the records end: behind the last one that is valid, or the end of the last hole. */
  readonly validLength: number;
  /** The highest acknowledged length that any header (or `proven`) tells; never above `validLength`. */
  readonly provenLength: number;
  /** The same without `proven`. */
  readonly watermark: number;
  /** Slots below `validLength`, those in holes included. */
  readonly slots: number;
  /** One slot word for each, LOST where the record is in a hole; PURGED where a compacted block left the slot out. */
  readonly words: Uint32Array;
  readonly holes: readonly Hole[];
  /** Valid records beyond `validLength`: written, acknowledged to nobody, to be dropped. */
  readonly tornRecords: number;
  /**
   * SHA-256 over the headers in slot order, each hole in its place as {@link lostSpan}. Absent when the walk did not
   * start at the first record, and with holes, unless `proven` told that all of the walk had been acknowledged: without
   * that, where the block ends is known only when it was all read.
   */
  readonly digest: Buffer | undefined;
}

const LOST_MAGIC = magic('LOST');

/** What stands in a digest for records that are lost on every replica: start, end, first slot, slots, u32 each. */
export function lostSpan({ start, end, firstSlot, slots }: Hole): Buffer {
  const out = Buffer.allocUnsafe(20);
  out.writeUInt32LE(LOST_MAGIC, 0);
  [start, end, firstSlot, slots].forEach((value, i) => {
    out.writeUInt32LE(value, 4 + 4 * i);
  });
  return out;
}

/** @throws what the source throws */
export async function walkBlock(
  source: ByteSource,
  superblock: Superblock,
  options: WalkOptions = {},
): Promise<BlockWalk> {
  const seed = blockSeed(superblock);
  const end = Math.min(options.end ?? source.size, source.size);
  const start = options.from ?? { offset: SUPERBLOCK_BYTES, slot: 0 };
  assert(start.offset % RECORD_ALIGN_BYTES === 0, 'a walk starts on a record boundary');
  const checkPayloads = options.checkPayloads ?? true;
  const window = new ReadWindow(source, end, options.windowBytes);
  const track = new WalkTrack(superblock, start);
  const hash = createHash('sha256');
  const isAllProven = (options.proven?.length ?? 0) >= end;
  let hashed = 0;
  let at = start.offset;

  while (at + RECORD_HEADER_BYTES <= end) {
    const header = await headerAt(window, at, seed, end);
    if (header === undefined || !track.fits(header, at)) {
      track.damaged(at);
      at = await window.nextMagic(at + RECORD_ALIGN_BYTES);
      continue;
    }
    const span = recordSpan(header.size);
    const headBytes = recordHeaderBytes(header.size);
    let payload: Buffer | undefined;
    let payloadOk = true;
    let padOk = true;
    let found = header;
    let headerBytes = window.view(at, headBytes);
    if (checkPayloads) {
      const fits = window.fits(span);
      if (!fits || !window.has(at, span)) {
        // Kept as it was verified: read once more for the sake of the payload, it may come otherwise from a failing disk.
        headerBytes = Buffer.from(headerBytes);
        found = { ...header, opId: headerBytes.subarray(40, 56), sha1: headerBytes.subarray(56, 76) };
      }
      if (fits) {
        if (!window.has(at, span)) await window.load(at);
        payload = window.view(at + headBytes, header.size);
        payloadOk = checkPayload(header, payload);
      } else payloadOk = (await window.crc(at + headBytes, header.size)) === header.dataCrc;
      const padAt = at + headBytes + header.size;
      const padding = recordPadding(header.size);
      if (padding > 0) {
        if (!window.has(padAt, padding)) await window.load(padAt);
        padOk = window.isZero(padAt, padding);
      }
    }
    if (payloadOk) track.sound(found, at);
    else track.unsound(found, at);
    if (!track.gapSeen) hash.update(headerBytes);
    else if (isAllProven && payloadOk) {
      for (; hashed < track.gaps.length; hashed++) hash.update(lostSpan(track.gaps[hashed]!));
      hash.update(headerBytes);
    }
    const record = { header: found, offset: at, span, headerBytes, payloadOk, padOk, payload };
    const pending = options.onRecord?.(record);
    if (pending !== undefined) await pending;
    at += span;
  }
  const result = track.finish(Math.min(at, end), options.proven);
  for (; hashed < result.holes.length; hashed++) hash.update(lostSpan(result.holes[hashed]!));
  const isKnown = options.from === undefined && (isAllProven || result.holes.length === 0);
  return { ...result, digest: isKnown ? hash.digest() : undefined };
}

async function headerAt(
  window: ReadWindow,
  at: number,
  seed: number,
  end: number,
): Promise<RecordHeader | undefined> {
  if (!window.has(at, RECORD_HEADER_BYTES)) await window.load(at);
  const size = peekRecord(window.bytes, at - window.start);
  // Looked at before the checksum, so that a claim of a huge chunk table in garbage costs nothing.
  if (size < 0 || at + recordSpan(size) > end) return undefined;
  if (!window.has(at, recordHeaderBytes(size))) await window.load(at);
  const header = decodeRecordHeader(window.bytes, at - window.start, seed, at);
  return header.ok ? header.value : undefined;
}
