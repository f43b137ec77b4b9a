// Writes sealed blocks full of small records through the block store itself, as a DataServer would have left them.
// usage: store-fill JSON({directory, clusterUuid, members, files, size, aliasesPerBlock, blockBytes})
import { hash } from 'node:crypto';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { crcOfChunks } from '../../common/crc.ts';
import { type Op, OpType } from '../../common/format/ops.ts';
import { blockSeed, encodeRecordHeader, type RecordHeader, recordSpan } from '../../common/format/record.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import {
  ALIAS_BIT,
  type BlockId,
  cookieOf,
  type Epoch,
  fileId,
  type Incarnation,
  type ServerId,
  type Session,
  type Slot,
} from '../../common/ids.ts';
import { BATCH_BYTES_MAX, SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { pictureOf } from './picture.ts';

export interface FillOrder {
  /** The mount. */
  readonly directory: string;
  readonly clusterUuid: string;
  /** The write set; the first is the server whose mount this is. */
  readonly members: readonly number[];
  readonly files: number;
  /** Payload bytes of each. */
  readonly size: number;
  readonly aliasesPerBlock: number;
  readonly blockBytes: number;
}

export interface Filled {
  readonly blocks: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** Of a cluster's first series, at counters that a young cluster does not reach meanwhile. */
const FIRST_BLOCK = 0x2_8000;
const EPOCH = 1 as Epoch;
const OPS_AT_ONCE = 1_000;

const order = JSON.parse(process.argv[2]!) as FillOrder;
const members = order.members as ServerId[];
const version = { epoch: EPOCH, n: 1 };
const startedAt = performance.now();
const store = await BlockStore.open({
  disk: await NodeDisk.open(order.directory),
  clock: nodeClock,
  random: nodeRandom,
  clusterUuid: order.clusterUuid,
  server: members[0]!,
  budgets: { indexBytes: 1 << 20, openFiles: 16 },
  log: silentLog,
});
let written = 0;
let bytes = 0;
let block = FIRST_BLOCK;
for (; written < order.files; block++) await fillBlock(block as BlockId);
await store.close();
const filled: Filled = {
  blocks: block - FIRST_BLOCK,
  bytes,
  seconds: (performance.now() - startedAt) / 1000,
};
process.send?.(filled, () => process.exit(0));

async function fillBlock(id: BlockId): Promise<void> {
  const superblock: Superblock = {
    clusterUuid: order.clusterUuid,
    block: id,
    generation: 0,
    session: 1 as Session,
    blockBytes: order.blockBytes,
    targetReplicas: members.length,
    slotCount: 0,
    createdAtMs: Date.now(),
    salt: nodeRandom.bytes(16),
    members: members.map((member) => ({ id: member, incarnation: 1 as Incarnation })),
  };
  await store.create(superblock, { version, opsPrimary: members[0]!, members });
  const seed = blockSeed(superblock);
  const span = recordSpan(order.size);
  const perBatch = Math.max(1, Math.floor(BATCH_BYTES_MAX / span));
  let offset: number = SUPERBLOCK_BYTES;
  let slot = 0;
  while (written < order.files && offset + span <= order.blockBytes) {
    const fits = Math.floor((order.blockBytes - offset) / span);
    const count = Math.min(perBatch, fits, order.files - written);
    const from = offset;
    const headers: RecordHeader[] = [];
    // One buffer for the batch, each record with its header in front.
    const batch = Buffer.alloc(count * span);
    const buffers: Buffer[] = [];
    for (let i = 0; i < count; i++) {
      const payload = payloadOf(written++);
      const header: RecordHeader = {
        slot: slot++ as Slot,
        cookie: cookieOf(nodeRandom.u32() & 0x7fff_ffff),
        size: payload.length,
        ...crcOfChunks(payload),
        ackedLength: from,
        flags: 0,
        mediaType: 2,
        mtimeMs: superblock.createdAtMs,
        opId: nodeRandom.bytes(16),
        sha1: hash('sha1', payload, 'buffer') as Buffer,
        suffixHash: 0,
      };
      const record = batch.subarray(i * span, (i + 1) * span);
      const head = encodeRecordHeader(header, seed, offset, record);
      payload.copy(record, head.length);
      headers.push(header);
      buffers.push(record);
      offset += span;
    }
    await store.appendBatch(id, superblock.session, { offset: from, headers, buffers, bytes: offset - from });
    store.setAcked(id, offset);
  }
  bytes += offset;
  await store.fence(id, EPOCH);
  await store.seal(id, { length: offset, slots: slot, digest: undefined, epoch: EPOCH });
  await addAliases(id, slot);
}

async function addAliases(id: BlockId, slots: number): Promise<void> {
  const first = (store.info(id)?.seq ?? 0) + 1;
  const count = Math.min(order.aliasesPerBlock, slots);
  for (let from = 0; from < count; from += OPS_AT_ONCE) {
    const ops: Op[] = [];
    for (let i = from; i < Math.min(count, from + OPS_AT_ONCE); i++)
      ops.push({
        type: OpType.ALIAS,
        aliasId: fileId((ALIAS_BIT | Math.imul(i + 1, 0x9e37_79b1)) >>> 0),
        cookie: cookieOf(nodeRandom.u32() & 0x7fff_ffff),
        target: i as Slot,
        seq: first + i,
        version,
        opId: nodeRandom.bytes(16),
        atMs: Date.now(),
      });
    await store.appendOps(id, ops);
  }
}

function payloadOf(n: number): Buffer {
  if (order.size >= 64) return pictureOf(n, order.size);
  const payload = Buffer.alloc(order.size);
  payload.writeUInt32LE(n, 0);
  return payload;
}
