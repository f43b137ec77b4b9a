import { createHash } from 'node:crypto';
import { crc32 } from '../../common/crc.ts';
import {
  peekRecord,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';
import type { ByteSource } from '../../common/format/source.ts';
import type { WalkedRecord } from '../../common/format/walk.ts';
import type { Cookie, Slot } from '../../common/ids.ts';
import { RECORD_ALIGN_BYTES, SUPERBLOCK_BYTES } from '../../common/limits.ts';

const MAGIC_BYTES = Buffer.alloc(4);
MAGIC_BYTES.writeUInt32LE(RECORD_MAGIC, 0);
const WINDOW_BYTES = 4 << 20;

/**
 * Finds records in a block file whose superblock is lost. Without its salt no header checksum can be computed; so a
 * record is believed, its slot and cookie with it, when the CRC-32 and the SHA-1 in its header are both those of the
 * payload behind it. Only sound records are found.
 *
 * @returns how many spans between records hold something else
 */
export async function walkWithoutSuperblock(
  source: ByteSource,
  onRecord: (record: WalkedRecord) => Promise<void>,
): Promise<number> {
  let gaps = 0;
  let inGap = false;
  let at = SUPERBLOCK_BYTES;
  while (at + RECORD_HEADER_BYTES <= source.size) {
    const record = await recordAt(source, at);
    if (record !== undefined) {
      if (inGap) gaps++;
      inGap = false;
      await onRecord(record);
      at += record.span;
      continue;
    }
    inGap = true;
    at = await nextMagic(source, at + RECORD_ALIGN_BYTES);
  }
  return gaps;
}

async function recordAt(source: ByteSource, at: number): Promise<WalkedRecord | undefined> {
  const head = Buffer.alloc(RECORD_HEADER_BYTES);
  if ((await source.read(head, at)) < head.length) return undefined;
  const size = peekRecord(head, 0);
  if (size < 0 || at + recordSpan(size) > source.size) return undefined;
  const payload = Buffer.allocUnsafe(size);
  const headBytes = recordHeaderBytes(size);
  if ((await source.read(payload, at + headBytes)) < size) return undefined;
  const sha1 = head.subarray(56, 76);
  if (crc32(payload) !== head.readUInt32LE(20)) return undefined;
  if (!createHash('sha1').update(payload).digest().equals(sha1)) return undefined;
  const header: RecordHeader = {
    slot: head.readUInt32LE(8) as Slot,
    cookie: head.readUInt32LE(12) as Cookie,
    size,
    dataCrc: head.readUInt32LE(20),
    ackedLength: head.readUInt32LE(24),
    flags: head.readUInt16LE(28),
    mediaType: head.readUInt16LE(30),
    mtimeMs: head.readDoubleLE(32),
    opId: head.subarray(40, 56),
    sha1,
    suffixHash: head.readUInt32LE(76),
    chunkCrcs: new Uint32Array(0),
  };
  return {
    header,
    offset: at,
    span: recordSpan(size),
    headerBytes: head,
    payloadOk: true,
    padOk: true,
    payload,
  };
}

async function nextMagic(source: ByteSource, from: number): Promise<number> {
  const window = Buffer.allocUnsafe(WINDOW_BYTES);
  for (let at = from; at + RECORD_HEADER_BYTES <= source.size; ) {
    const bytes = window.subarray(0, await source.read(window, at));
    if (bytes.length === 0) break;
    for (let hit = bytes.indexOf(MAGIC_BYTES); hit >= 0; hit = bytes.indexOf(MAGIC_BYTES, hit + 1))
      if ((at + hit) % RECORD_ALIGN_BYTES === 0) return at + hit;
    at += bytes.length - (bytes.length % RECORD_ALIGN_BYTES) || RECORD_ALIGN_BYTES;
  }
  return source.size;
}
