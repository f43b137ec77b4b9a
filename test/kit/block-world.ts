import { createHash } from 'node:crypto';
import { crcOfChunks } from '../../common/crc.ts';
import { type MutationType, type Op, OpType } from '../../common/format/ops.ts';
import {
  blockSeed,
  encodeRecordHeader,
  type RecordHeader,
  recordHeaderBytes,
  recordPadding,
  recordSpan,
} from '../../common/format/record.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type {
  BlockId,
  Cookie,
  Epoch,
  FileId,
  Incarnation,
  ServerId,
  Session,
  Slot,
  Version,
} from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Disk } from '../../common/seams/disk.ts';
import { type FaultName, type Faults, seededAs } from '../../dataserver/block/faults.ts';
import { type Batch, BlockStore, type BlockStoreOptions } from '../../dataserver/block/store.ts';
import { ManualClock } from './manual-clock.ts';
import { SeededRandom } from './seeded-random.ts';

export const CLUSTER = '0123456789abcdef0123456789abcdef';
export const SERVER = 1 as ServerId;
export const MEMBERS = [1, 2, 3] as ServerId[];
export const VERSION: Version = { epoch: 1 as Epoch, n: 1 };
export const BLOCK_BYTES = 64 * 1024;

export const faultsOf = (...names: FaultName[]): Faults => ({ has: (name) => names.includes(name) });

export interface WorldOptions {
  readonly faults?: Faults;
  readonly clock?: Clock;
  readonly seed?: number;
  readonly server?: ServerId;
  readonly limits?: BlockStoreOptions['limits'];
  readonly budgets?: BlockStoreOptions['budgets'];
  readonly events?: BlockStoreOptions['events'];
}

/** Sleeping takes no time but that of the clock. */
export class RushingClock extends ManualClock {
  override sleep(delayMs: number): Promise<void> {
    this.advance(delayMs);
    return Promise.resolve();
  }
}

/** A store with everything around it that a test does not care about; no reserve file, unless asked for. */
export function openStore(disk: Disk, options: WorldOptions = {}): Promise<BlockStore> {
  return BlockStore.open({
    disk,
    clock: options.clock ?? new RushingClock(),
    random: new SeededRandom(options.seed ?? 1),
    clusterUuid: CLUSTER,
    server: options.server ?? SERVER,
    budgets: options.budgets ?? { indexBytes: 1 << 24, openFiles: 64 },
    log: silentLog,
    faults: options.faults ?? { has: () => false },
    limits: options.limits ?? { opsReserveBytes: 0 },
    ...(options.events === undefined ? {} : { events: options.events }),
  });
}

export function superblockOf(block: number, session = 7, salt = 'a5', blockBytes = BLOCK_BYTES): Superblock {
  return {
    clusterUuid: CLUSTER,
    block: block as BlockId,
    generation: 0,
    session: session as Session,
    blockBytes,
    targetReplicas: 3,
    slotCount: 0,
    createdAtMs: 1_700_000_000_000,
    salt: Buffer.from(salt.repeat(16), 'hex'),
    members: MEMBERS.map((id) => ({ id, incarnation: 1 as Incarnation })),
  };
}

export const CONFIGURATION = { version: VERSION, opsPrimary: SERVER, members: MEMBERS };

/** What was written, in the words of the one who asked for it. */
export interface Written {
  readonly slot: Slot;
  readonly cookie: Cookie;
  readonly payload: Buffer;
  readonly sha1: Buffer;
  /** End of the record in the block. */
  readonly end: number;
  /** The watermark in its header. */
  readonly ackedLength: number;
}

/** Plays the primary's session of one block: gives records their place and their headers. */
export class Writer {
  readonly superblock: Superblock;
  readonly seed: number;
  readonly random: SeededRandom;
  offset = SUPERBLOCK_BYTES;
  slot = 0;
  acked = SUPERBLOCK_BYTES;
  readonly written: Written[] = [];

  constructor(superblock: Superblock, random = new SeededRandom(1), faults: Faults = { has: () => false }) {
    this.superblock = superblock;
    this.seed = blockSeed(seededAs(superblock, faults));
    this.random = random;
  }

  fits(size: number): boolean {
    return this.offset + recordSpan(size) <= this.superblock.blockBytes;
  }

  /** The next batch; its records count as given, whatever becomes of it. */
  batch(payloads: readonly Buffer[]): WrittenBatch {
    const { offset, slot, acked, seed, random } = this;
    const batch = batchAt({ offset, slot, acked, seed, random }, payloads);
    this.offset += batch.bytes;
    this.slot += payloads.length;
    this.written.push(...batch.records);
    return batch;
  }
}

export type WrittenBatch = Batch & { readonly records: readonly Written[] };

export interface BatchPlace {
  readonly offset: number;
  readonly slot: number;
  readonly acked: number;
  readonly seed: number;
  readonly random: SeededRandom;
}

export function batchAt(place: BatchPlace, payloads: readonly Buffer[]): WrittenBatch {
  const headers: RecordHeader[] = [];
  const buffers: Buffer[] = [];
  const records: Written[] = [];
  let end = place.offset;
  for (const payload of payloads) {
    const header: RecordHeader = {
      slot: (place.slot + headers.length) as Slot,
      cookie: (place.random.u32() & 0x7fff_ffff) as Cookie,
      size: payload.length,
      ...crcOfChunks(payload),
      ackedLength: place.acked,
      flags: 0,
      mediaType: 2,
      mtimeMs: 1_700_000_000_000,
      opId: place.random.bytes(16),
      sha1: createHash('sha1').update(payload).digest(),
      suffixHash: 0,
    };
    headers.push(header);
    buffers.push(encodeRecordHeader(header, place.seed, end), payload);
    const padding = recordPadding(payload.length);
    if (padding > 0) buffers.push(Buffer.alloc(padding));
    end += recordSpan(payload.length);
    const { slot, cookie, sha1, ackedLength } = header;
    records.push({ slot, cookie, payload, sha1, end, ackedLength });
  }
  return { offset: place.offset, headers, buffers, bytes: end - place.offset, records };
}

export async function put(
  store: BlockStore,
  writer: Writer,
  payloads: readonly Buffer[],
): Promise<readonly Written[]> {
  const batch = writer.batch(payloads);
  const { block, session } = writer.superblock;
  await store.appendBatch(block, session, batch);
  writer.acked = batch.offset + batch.bytes;
  store.setAcked(block, writer.acked);
  return batch.records;
}

/** All of a record's bytes, as a primary sends them. */
export const raw = (batch: Batch): Buffer => Buffer.concat(batch.buffers);

export interface OpPlaceOptions {
  readonly seq: number;
  readonly version?: Version;
  readonly opId?: Buffer;
}

export function mutation(type: MutationType, fileId: number, place: OpPlaceOptions): Op {
  return { type, fileId: fileId as FileId, ...placeOf(place) };
}

export function aliasOp(aliasId: number, cookie: number, target: number, place: OpPlaceOptions): Op {
  return {
    type: OpType.ALIAS,
    aliasId: aliasId as FileId,
    cookie: cookie as Cookie,
    target: target as Slot,
    ...placeOf(place),
  };
}

function placeOf({ seq, version = VERSION, opId }: OpPlaceOptions) {
  const id = opId ?? Buffer.alloc(16, seq & 0xff);
  id.writeUInt32LE(seq, 0);
  return { seq, version, atMs: 1_700_000_000_000, opId: id };
}

export { recordHeaderBytes, recordSpan };
