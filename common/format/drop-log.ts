/**
 * What a DataServer has let go of: `drop.log` of its mount. Appended to, and written anew as a whole when it has grown
 * too long.
 *
 * | at | field |
 * |---|---|
 * | 0 | magic 'TFSD' u32 · format version u16 · 0 u16 |
 * | 8 | cluster uuid 16 B |
 * | 24 | zero u32 |
 * | 28 | CRC-32 of everything before it |
 * | 32 | entries of 32 bytes |
 *
 * Entry: CRC-32 of the other 28 bytes, seeded with the CRC of the header · block u32 · generation u32 · reason u8 · 0 u8 ·
 * n u16 · epoch u48 · 0 u16 · time f64, milliseconds since 1970. An entry never crosses a sector, so a torn end is a
 * number of whole entries.
 */

import { crc32 } from '../crc.ts';
import { type BlockId, epochOf, type Version } from '../ids.ts';
import { type Decoded, decoded, magic, rejected } from './decoded.ts';
import { FORMAT_VERSION } from './superblock.ts';

export const DROP_LOG_HEADER_BYTES = 32;
export const DROP_ENTRY_BYTES = 32;
const MAGIC = magic('TFSD');

/** Numbers are part of the format. */
export const DropReason = {
  /** A copy elsewhere has taken its place. */
  MOVED: 1,
  /** There were more copies than wanted. */
  EXCESS: 2,
  /** The block held nothing and is dropped everywhere: its id names nothing for ever. */
  RETIRED: 3,
  /** No drop: a replica of the block is taken in again, and what is said of it before counts no more. */
  RETURNED: 4,
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

export interface DropEntry {
  readonly block: BlockId;
  readonly generation: number;
  /** The configuration that the replica held; of a returned one, that it was taken in under. */
  readonly version: Version;
  readonly reason: DropReason;
  /** Wall clock. */
  readonly atMs: number;
}

/** @param clusterUuid 32 hex digits */
export function encodeDropLogHeader(clusterUuid: string): Buffer {
  const out = Buffer.alloc(DROP_LOG_HEADER_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(FORMAT_VERSION, 4);
  out.write(clusterUuid, 8, 16, 'hex');
  out.writeUInt32LE(crc32(out.subarray(0, 28)), 28);
  return out;
}

/** @param header of the log that the entry is for */
export function encodeDropEntry(entry: DropEntry, header: Buffer): Buffer {
  const out = Buffer.alloc(DROP_ENTRY_BYTES);
  out.writeUInt32LE(entry.block, 4);
  out.writeUInt32LE(entry.generation, 8);
  out[12] = entry.reason;
  out.writeUInt16LE(entry.version.n, 14);
  out.writeUIntLE(entry.version.epoch, 16, 6);
  out.writeDoubleLE(entry.atMs, 24);
  out.writeUInt32LE(entryCrc(out, header), 0);
  return out;
}

export interface DropLogContents {
  readonly clusterUuid: string;
  readonly header: Buffer;
  /** In the order of the log. */
  readonly entries: readonly DropEntry[];
  /** Entries that do not verify although one behind them does. */
  readonly damaged: number;
  /** Where the next entry goes: whatever lies behind was never confirmed. */
  readonly goodLength: number;
}

export function decodeDropLog(bytes: Buffer): Decoded<DropLogContents> {
  if (bytes.length < DROP_LOG_HEADER_BYTES) return rejected('shorter than its header');
  const header = bytes.subarray(0, DROP_LOG_HEADER_BYTES);
  if (header.readUInt32LE(0) !== MAGIC) return rejected('not a drop log');
  if (header.readUInt32LE(28) !== crc32(header.subarray(0, 28)))
    return rejected('checksum mismatch in its header');
  const version = header.readUInt16LE(4);
  if (version !== FORMAT_VERSION) return rejected(`format version ${version} is not known here`);
  const entries: DropEntry[] = [];
  let bad = 0;
  let damaged = 0;
  let goodLength = DROP_LOG_HEADER_BYTES;
  for (let at = goodLength; at + DROP_ENTRY_BYTES <= bytes.length; at += DROP_ENTRY_BYTES) {
    const entry = decodeEntry(bytes.subarray(at, at + DROP_ENTRY_BYTES), header);
    if (entry === undefined) {
      bad++;
      continue;
    }
    damaged += bad;
    bad = 0;
    goodLength = at + DROP_ENTRY_BYTES;
    entries.push(entry);
  }
  return decoded({
    clusterUuid: header.toString('hex', 8, 24),
    header: Buffer.from(header),
    entries,
    damaged,
    goodLength,
  });
}

function decodeEntry(bytes: Buffer, header: Buffer): DropEntry | undefined {
  const reason = bytes[12]!;
  if (bytes.readUInt32LE(0) !== entryCrc(bytes, header)) return undefined;
  if (reason < DropReason.MOVED || reason > DropReason.RETURNED) return undefined;
  return {
    block: bytes.readUInt32LE(4) as BlockId,
    generation: bytes.readUInt32LE(8),
    version: { epoch: epochOf(bytes.readUIntLE(16, 6)), n: bytes.readUInt16LE(14) },
    reason: reason as DropReason,
    atMs: bytes.readDoubleLE(24),
  };
}

const entryCrc = (entry: Buffer, header: Buffer): number =>
  crc32(entry.subarray(4, DROP_ENTRY_BYTES), header.readUInt32LE(28));

/**
 * What of a log is still needed: the newest entry of each block, for as long as it is kept, and the newest
 * `entriesMax` of those. The highest id of each series and NameServer stays in any case: a NameServer that has lost its
 * store learns from it which ids were used.
 *
 * @returns oldest first
 */
export function keptDrops(
  entries: readonly DropEntry[],
  {
    nowMs,
    keepMs,
    entriesMax,
  }: { readonly nowMs: number; readonly keepMs: number; readonly entriesMax: number },
): DropEntry[] {
  const newest = new Map<BlockId, DropEntry>();
  for (const entry of entries) {
    // Set anew, so that the order is that of the newest entries.
    newest.delete(entry.block);
    newest.set(entry.block, entry);
  }
  const highest = new Map<number, BlockId>();
  for (const block of newest.keys())
    highest.set(block >>> 16, Math.max(highest.get(block >>> 16) ?? 0, block) as BlockId);
  const all = [...newest.values()];
  const first = Math.max(0, all.length - entriesMax);
  return all.filter(
    ({ block, atMs }, i) => highest.get(block >>> 16) === block || (i >= first && nowMs - atMs < keepMs),
  );
}
