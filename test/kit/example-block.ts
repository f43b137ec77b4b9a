import { createHash } from 'node:crypto';
import { crcOfChunks } from '../../common/crc.ts';
import { encodeIdx, type IdxColumns } from '../../common/format/idx.ts';
import {
  emptyOpsState,
  encodeOpBody,
  encodeOpsFileHeader,
  foldOp,
  frameOp,
  type Op,
  OpType,
  opsSeed,
} from '../../common/format/ops.ts';
import {
  blockSeed,
  encodeRecordHeader,
  type RecordHeader,
  recordPadding,
  recordSpan,
} from '../../common/format/record.ts';
import { encodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import type {
  BlockId,
  Cookie,
  Epoch,
  FileId,
  Incarnation,
  ServerId,
  Session,
  Slot,
} from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { MediaType } from '../../common/wire/messages.ts';

/** Blocks with known contents: for golden files, worked examples, and walks over every kind of damage. */

export const EXAMPLE_CLUSTER = '00112233445566778899aabbccddeeff';
export const EXAMPLE_SUPERBLOCK: Superblock = {
  clusterUuid: EXAMPLE_CLUSTER,
  block: 65_537 as BlockId,
  generation: 0,
  session: 0xcafe_f00d as Session,
  blockBytes: 1 << 20,
  targetReplicas: 3,
  slotCount: 0,
  createdAtMs: Date.UTC(2026, 0, 2, 3, 4, 5),
  salt: Buffer.from('5a17'.repeat(8), 'hex'),
  members: [
    { id: 1 as ServerId, incarnation: 7 as Incarnation },
    { id: 2 as ServerId, incarnation: 4 as Incarnation },
    { id: 3 as ServerId, incarnation: 9 as Incarnation },
  ],
};

export interface BuiltRecord {
  readonly header: RecordHeader;
  readonly payload: Buffer;
  readonly offset: number;
  readonly headerBytes: Buffer;
}

export interface BuiltBlock {
  readonly superblock: Superblock;
  readonly records: readonly BuiltRecord[];
  /** Superblock and records. */
  readonly length: number;
  readonly bytes: Buffer;
  /** SHA-256 over the headers. */
  readonly digest: Buffer;
}

export interface BuildOptions {
  readonly superblock?: Superblock;
  /** Records written together: the acked length moves only from one batch to the next. */
  readonly batch?: number;
  readonly cookie?: (slot: number) => number;
  /** Of all records; PNG when absent. */
  readonly mediaType?: (slot: number) => number;
  /** Slots of a compacted block; 0, 1, 2 … when absent. */
  readonly slots?: readonly number[];
}

export function buildBlock(payloads: readonly Buffer[], options: BuildOptions = {}): BuiltBlock {
  const superblock = options.superblock ?? EXAMPLE_SUPERBLOCK;
  const batch = options.batch ?? 1;
  const seed = blockSeed(superblock);
  const parts = [encodeSuperblock(superblock)];
  const records: BuiltRecord[] = [];
  const digest = createHash('sha256');
  let offset = SUPERBLOCK_BYTES;
  let ackedLength = 0;
  payloads.forEach((payload, i) => {
    // What a batch says was acked is all that came before the batch.
    if (i % batch === 0) ackedLength = i === 0 ? 0 : offset;
    const header: RecordHeader = {
      slot: (options.slots?.[i] ?? i) as Slot,
      cookie: (options.cookie?.(i) ?? 0x1234_5600 + i) as Cookie,
      size: payload.length,
      ...crcOfChunks(payload),
      ackedLength,
      flags: 0,
      mediaType: options.mediaType?.(i) ?? MediaType.PNG,
      mtimeMs: superblock.createdAtMs + 1000 * (i + 1),
      opId: createHash('sha256').update(`op ${i}`).digest().subarray(0, 16),
      sha1: createHash('sha1').update(payload).digest(),
      suffixHash: 0,
    };
    const headerBytes = encodeRecordHeader(header, seed, offset);
    digest.update(headerBytes);
    records.push({ header, payload, offset, headerBytes });
    parts.push(headerBytes, payload, Buffer.alloc(recordPadding(payload.length)));
    offset += recordSpan(payload.length);
  });
  return { superblock, records, length: offset, bytes: Buffer.concat(parts), digest: digest.digest() };
}

/** One grey pixel, 67 bytes. */
export const TINY_PNG = Buffer.from(
  '89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55' +
    '0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082',
  'hex',
);
export const TINY_GIF = Buffer.from(
  '47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b',
  'hex',
);

const EXAMPLE_TYPES = [MediaType.PNG, MediaType.GIF, MediaType.UNKNOWN];
const EXAMPLE_PAYLOADS = [TINY_PNG, TINY_GIF, Buffer.alloc(70_000, 'TFS ')];

/** @param records two small pictures, and one with a chunk table */
export function exampleBlock(records = 3): BuiltBlock {
  return buildBlock(EXAMPLE_PAYLOADS.slice(0, records), { mediaType: (slot) => EXAMPLE_TYPES[slot]! });
}

const opId = (text: string): Buffer => createHash('sha256').update(text).digest().subarray(0, 16);

/** One operation of every kind that this block went through, in order. */
export function exampleOps(block = exampleBlock()): Op[] {
  const at = block.superblock.createdAtMs;
  const version = { epoch: 5 as Epoch, n: 1 };
  const none = Buffer.alloc(16);
  const alias = 0x8000_002a as FileId;
  return [
    {
      type: OpType.CFG,
      version,
      seq: 1,
      atMs: at,
      opId: none,
      members: [1, 2, 3] as ServerId[],
      opsPrimary: 1 as ServerId,
    },
    { type: OpType.HIDE, version, seq: 2, atMs: at + 1, opId: opId('hide'), fileId: 0 as FileId },
    { type: OpType.REVEAL, version, seq: 3, atMs: at + 2, opId: opId('reveal'), fileId: 0 as FileId },
    {
      type: OpType.ALIAS,
      version,
      seq: 4,
      atMs: at + 3,
      opId: opId('alias'),
      aliasId: alias,
      cookie: 0x0bad_cafe as Cookie,
      target: 0 as Slot,
    },
    { type: OpType.DELETE, version, seq: 5, atMs: at + 4, opId: opId('delete'), fileId: 1 as FileId },
    {
      type: OpType.SEAL,
      version,
      seq: 5,
      atMs: at + 5,
      opId: none,
      length: block.length,
      slots: block.records.length,
      digest: block.digest,
      epoch: 6 as Epoch,
    },
  ];
}

/** The same, folded; then the compaction that takes slot 1 away. */
export function rewrittenOps(block = exampleBlock()): Op[] {
  const state = emptyOpsState();
  const ops = exampleOps(block);
  for (const op of ops) foldOp(state, op);
  const { version, seq } = state;
  const at = block.superblock.createdAtMs + 4 * 24 * 3600 * 1000;
  const base = { version, seq, atMs: at, opId: Buffer.alloc(16) };
  const { header, offset } = block.records[0]!;
  const seed = blockSeed({ ...block.superblock, generation: 1 });
  const kept = encodeRecordHeader({ ...header, ackedLength: offset }, seed, offset);
  return [
    { ...base, type: OpType.SNAPSHOT, state },
    { ...base, type: OpType.PURGE_INTENT, seq: seq + 1, atMs: at + 1, slots: [1 as Slot] },
    {
      ...base,
      type: OpType.GEN_COMMIT,
      seq: seq + 1,
      atMs: at + 2,
      generation: 1,
      length: block.records[1]!.offset,
      slots: block.records.length,
      epoch: 7 as Epoch,
      digest: createHash('sha256').update(kept).digest(),
    },
  ];
}

/** @param groups how many operations were written together, from the first on; one by one behind the last group */
export function buildOpsFile(
  ops: readonly Op[],
  superblock = EXAMPLE_SUPERBLOCK,
  n = 0,
  groups: readonly number[] = [],
): Buffer {
  const header = { clusterUuid: superblock.clusterUuid, block: superblock.block, n, salt: superblock.salt };
  const parts = [encodeOpsFileHeader(header)];
  const firsts = new Set<number>();
  for (let i = 0, group = 0; i < ops.length; i += groups[group++] ?? 1) firsts.add(i);
  let offset = parts[0]!.length;
  ops.forEach((op, i) => {
    const frame = frameOp(encodeOpBody(op), opsSeed(header), offset, !firsts.has(i));
    parts.push(frame);
    offset += frame.length;
  });
  return Buffer.concat(parts);
}

export function buildIdx(block: BuiltBlock): Buffer {
  const { superblock, records } = block;
  const columns: IdxColumns = {
    offsets: Uint32Array.from(records, (record) => record.offset / 8),
    flags: new Uint8Array(records.length),
    sha1s: Buffer.concat(records.map((record) => record.header.sha1)),
  };
  return encodeIdx({ ...superblock, length: block.length, slots: records.length }, columns);
}
