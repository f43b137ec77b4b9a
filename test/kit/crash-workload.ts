import { type Op, OpType } from '../../common/format/ops.ts';
import { recordSpan } from '../../common/format/record.ts';
import { ALIAS_BIT, type BlockId, type Epoch, type Slot } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { Faults } from '../../dataserver/block/faults.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { aliasOp, CONFIGURATION, mutation, raw, superblockOf, VERSION, Writer } from './block-world.ts';
import { endOf, type Model, type ModelBlock, NEW_BLOCK } from './crash-model.ts';
import { SeededRandom } from './seeded-random.ts';

export const SMALL_BLOCK_BYTES = 16 * 1024;
const PAYLOAD_BYTES_MAX = 1400;

export interface Workload {
  readonly random: SeededRandom;
  readonly faults: Faults;
  /** Actions to take, each a call or a few at once. */
  readonly actions: number;
}

/** Random work on a store, told to the model before each call and after each confirmation. */
export async function runWorkload(store: BlockStore, model: Model, workload: Workload): Promise<void> {
  const { random } = workload;
  for (let i = 0; i < workload.actions && store.readOnly === undefined; i++) {
    const open = [...model].filter(([id, b]) => b.created && store.info(id)?.state === BlockState.OPEN);
    const held = [...model].filter(([, b]) => b.created);
    const dice = random.below(100);
    if (open.length === 0 || dice < 5) {
      if (random.below(2) === 0) await tolerate(store.prepareSpares(1, SMALL_BLOCK_BYTES));
      await create(store, model, workload);
    } else if (dice < 55) {
      const [id, block] = random.pick(open);
      // Sometimes several batches at once: the second waits in the queue for the first.
      const batches = Array.from({ length: 1 + random.below(2) }, () => append(store, id, block, random));
      const other = random.below(3) === 0 ? [mutate(store, ...random.pick(held), random)] : [];
      const fenced = random.below(12) === 0 ? [fence(store, id, block)] : [];
      await Promise.all([...batches, ...other, ...fenced]);
    } else if (dice < 82) {
      const [id, block] = random.pick(held);
      await Promise.all(Array.from({ length: 1 + random.below(3) }, () => mutate(store, id, block, random)));
    } else if (dice < 90) await fence(store, ...random.pick(open));
    else await fenceAndSeal(store, ...random.pick(held), random);
  }
}

/** What follows a crash: the blocks that were open are fenced and sealed, names go on changing. */
export async function goOn(store: BlockStore, model: Model, random: SeededRandom): Promise<void> {
  for (const [id, block] of model) {
    if (block.gone) continue;
    await mutate(store, id, block, random);
    if (random.below(2) === 0) await fenceAndSeal(store, id, block, random);
    await mutate(store, id, block, random);
  }
}

export async function create(store: BlockStore, model: Model, { random, faults }: Workload): Promise<void> {
  const id = 65_536 + model.size;
  const salt = random.bytes(1).toString('hex');
  const superblock = superblockOf(id, 1 + random.below(1000), salt, SMALL_BLOCK_BYTES);
  const { version, opsPrimary, members } = CONFIGURATION;
  const cfg: Op = { type: OpType.CFG, version, seq: 1, atMs: 0, opId: Buffer.alloc(16), opsPrimary, members };
  const block: ModelBlock = {
    superblock,
    writer: new Writer(superblock, new SeededRandom(random.u32()), faults),
    ...NEW_BLOCK,
    opsGiven: [cfg],
  };
  model.set(superblock.block, block);
  await tolerate(
    store.create(superblock, CONFIGURATION).then(() => {
      block.created = true;
    }),
  );
}

export async function append(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  random: SeededRandom,
): Promise<void> {
  const { writer } = block;
  const payloads: Buffer[] = [];
  let bytes = writer.offset;
  for (let count = 1 + random.below(4); count > 0; count--) {
    const payload = random.bytes(random.below(PAYLOAD_BYTES_MAX));
    bytes += recordSpan(payload.length);
    if (bytes <= SMALL_BLOCK_BYTES) payloads.push(payload);
  }
  if (payloads.length === 0) return;
  // Half of it as a primary, half as a member; sometimes another member has not answered yet.
  await appendGiven(store, id, block, payloads, { raw: random.below(2) === 0, acked: random.below(4) > 0 });
}

export async function appendGiven(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  payloads: readonly Buffer[],
  how = { raw: false, acked: true },
): Promise<void> {
  const { writer } = block;
  const batch = writer.batch(payloads);
  block.given = [...block.given, ...batch.records];
  const { session } = block.superblock;
  const appended = how.raw
    ? store.appendRaw(id, session, batch.offset, raw(batch), writer.acked)
    : store.appendBatch(id, session, batch);
  await tolerate(
    appended.then(() => {
      block.acked = batch.records.at(-1)!.slot + 1;
      if (!how.acked) return;
      writer.acked = endOf(block, block.acked);
      store.setAcked(id, writer.acked);
    }),
  );
}

export async function mutate(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  random: SeededRandom,
): Promise<void> {
  const slots = Math.max(1, block.acked);
  const aliases = block.opsGiven.flatMap((op) => (op.type === OpType.ALIAS ? [op.aliasId] : []));
  const ops: Op[] = [];
  for (let count = 1 + random.below(3); count > 0; count--) {
    const seq = block.opsGiven.length + 1 + ops.length;
    const opId = random.bytes(16);
    const dice = random.below(10);
    if (dice < 3) {
      const aliasId = (ALIAS_BIT | random.u32()) >>> 0;
      ops.push(aliasOp(aliasId, random.u32() & 0x7fff_ffff, random.below(slots), { seq, opId }));
    } else if (dice === 3) {
      const slot = random.below(slots) as Slot;
      ops.push({ type: OpType.PURGE_INTENT, slots: [slot], version: VERSION, seq, atMs: 0, opId });
    } else {
      const type = random.pick([
        OpType.DELETE,
        OpType.DELETE,
        OpType.UNDELETE,
        OpType.HIDE,
        OpType.REVEAL,
      ] as const);
      const target = aliases.length > 0 && random.below(3) === 0 ? random.pick(aliases) : random.below(slots);
      ops.push(mutation(type, target, { seq, opId }));
    }
  }
  block.opsGiven = [...block.opsGiven, ...ops];
  const seq = block.opsGiven.length;
  await tolerate(
    store.appendOps(id, ops).then(() => {
      block.opsAcked = Math.max(block.opsAcked, seq);
    }),
  );
}

export async function fence(store: BlockStore, id: BlockId, block: ModelBlock): Promise<void> {
  await tolerate(
    store.fence(id, 1 as Epoch).then((facts) => {
      block.fencedAt = facts.validLength;
    }),
  );
}

/** At everything that is there, or at less where that is not known to be everywhere. */
async function fenceAndSeal(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  random: SeededRandom,
): Promise<void> {
  await fence(store, id, block);
  const facts = await store.fence(id, 1 as Epoch);
  if (facts.holes.length > 0 || facts.digest === undefined || block.sealing !== undefined) return;
  const records = block.given.findIndex(({ end }) => end > facts.validLength);
  const all = records < 0 ? block.given.length : records;
  let slots = all;
  while (slots > 0 && endOf(block, slots - 1) >= facts.provenLength && random.below(3) === 0) slots--;
  const [length, digest] = [endOf(block, slots), slots === all ? facts.digest : undefined];
  block.sealing = { length, slots, digest, epoch: 1 as Epoch };
  // What is cut off was confirmed to nobody: this replica alone had it.
  block.acked = Math.min(block.acked, slots);
  await tolerate(
    store.seal(id, block.sealing).then((seal) => {
      block.sealed = seal;
    }),
  );
}

/** An action may fail where the disk does; what it would have confirmed is then not confirmed. */
async function tolerate(work: Promise<unknown>): Promise<void> {
  await work.catch(() => undefined);
}
