import { type Op, OpType } from '../../common/format/ops.ts';
import type { BlockId, Epoch } from '../../common/ids.ts';
import { OLD_GENERATION_MS } from '../../common/limits.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { PreparedGeneration } from '../../dataserver/block/store.ts';
import { demand, type ModelBlock } from '../kit/crash-model.ts';
import type { RecordingDisk } from '../kit/recording-disk.ts';
import { isRefusal, MAIN, mustRefuse, OTHER, type World } from './world.ts';

/** What is done to the files of a sealed block: compaction, copies, drops. */

const LEADER = 3 as Epoch;
const UNPACED = 1 << 30;

/** The next generation, beside the present one: nobody commits it yet. */
export async function prepare(world: World): Promise<void> {
  await prepared(world);
}

async function prepared(world: World): Promise<PreparedGeneration | undefined> {
  const { store } = world;
  const block = world.block();
  const info = store.info(MAIN);
  if (block === undefined || info?.state !== BlockState.SEALED || block.damaged) return undefined;
  const { generation, version, seq } = info;
  const order = { block: MAIN, generation: generation + 1, version, seq, bytesPerSecond: UNPACED };
  return store.prepareCompaction(order, []);
}

export async function compact(world: World): Promise<void> {
  const made = await prepared(world);
  const block = world.block();
  if (made === undefined || block === undefined) return;
  const generation = world.store.info(MAIN)!.generation + 1;
  block.committing = { ...made, generation, epoch: LEADER };
  await world.store.commitGeneration(MAIN, block.committing);
  block.generation = generation;
  block.made = made;
  block.committing = undefined;
  block.sealed = world.store.info(MAIN)!.seal;
}

/** Removes what was kept for a while: replaced generations, damaged files. */
export async function sweep({ clock, store }: World): Promise<void> {
  clock.advance(OLD_GENERATION_MS);
  await store.purgeTrash();
}

export async function leftovers({ store }: World): Promise<void> {
  await store.clearLeftovers();
}

/** Somebody else has it: it may go. */
export async function drop(world: World): Promise<void> {
  const { store } = world;
  const block = world.block();
  if (block === undefined) return;
  const { generation, version, state } = store.info(MAIN)!;
  const { epoch, n } = version;
  const order = { block: MAIN, generation, version: { epoch, n: n + 1 }, reason: 'excess' } as const;
  if (state !== BlockState.SEALED) return mustRefuse('a drop before the seal', () => store.drop(order));
  world.kept = world.disk.settled();
  block.created = false;
  try {
    demand(await store.drop(order), 'a replica that was here could not be dropped');
    block.gone = true;
  } catch (error) {
    if (isRefusal(error)) block.created = true;
    throw error;
  }
}

/** Takes MAIN in again where it was let go of, else a block that was never here. */
export const receive = (world: World): Promise<void> =>
  world.model.blocks.get(MAIN)!.gone && world.kept !== undefined
    ? takeBack(world, world.kept)
    : takeIn(world, OTHER, world.elsewhere.disk, world.elsewhere.block);

async function takeBack(world: World, disk: RecordingDisk): Promise<void> {
  const block = world.model.blocks.get(MAIN)!;
  const { store, donors } = await world.donorsOf(disk, MAIN);
  try {
    // The others have taken it in anew: in a configuration that is newer than the drop.
    const { version, members, opsPrimary, seq } = store.info(MAIN)!;
    const next = { epoch: version.epoch, n: version.n + 2 };
    const place = { version: next, seq: seq + 1, atMs: 0, opId: Buffer.alloc(16) };
    const cfg: Op = { type: OpType.CFG, members, opsPrimary, ...place };
    await store.appendOps(MAIN, [cfg]);
    const opsGiven = [...block.opsGiven.slice(0, seq), cfg];
    Object.assign(block, { opsGiven, opsAcked: opsGiven.length, gone: false, receiving: true });
    await world.store.receiveReplica(world.orderOf(store, MAIN), donors);
    Object.assign(block, { created: true, receiving: false, damaged: false });
  } finally {
    await store.close();
  }
}

async function takeIn(world: World, id: BlockId, disk: RecordingDisk, block: ModelBlock): Promise<void> {
  const held = world.model.blocks.get(id);
  if (held !== undefined && !held.gone && !held.receiving) return;
  const { store, donors } = await world.donorsOf(disk, id);
  try {
    const taken = { ...block, created: false, receiving: true };
    world.model.blocks.set(id, taken);
    await world.store.receiveReplica(world.orderOf(store, id), donors);
    Object.assign(taken, { created: true, receiving: false });
  } finally {
    await store.close();
  }
}

/** A bit of a record changes, is found, and the replica is made whole of another one. */
export async function repair(world: World): Promise<void> {
  const { store, disk, random } = world;
  const block = world.block();
  const info = store.info(MAIN);
  if (block === undefined || info?.state !== BlockState.SEALED || info.length <= 4096) return;
  if (!block.damaged) {
    const good = disk.settled();
    const at = 4096 + random.below(info.length - 4096);
    block.damaged = true;
    disk.corrupt(`blocks/${MAIN}.${info.generation}.blk`, (bytes) => {
      bytes[at]! ^= 1 << random.below(8);
    });
    world.kept = good;
  }
  await store.verify(MAIN);
  await mend(world, block);
}

async function mend(world: World, block: ModelBlock): Promise<void> {
  const other = await world.donorsOf(world.kept!, MAIN);
  try {
    const order = world.orderOf(other.store, MAIN);
    await world.store.receiveReplica(order, other.donors);
    block.damaged = false;
  } finally {
    await other.store.close();
  }
}

/** What a crash has interrupted is done again, until every replica is whole. */
export async function finish(world: World): Promise<void> {
  const { model, kept, elsewhere } = world;
  const main = model.blocks.get(MAIN);
  if (main?.receiving && kept !== undefined) await takeBack(world, kept);
  if (main?.damaged && main.created && kept !== undefined) {
    await world.store.verify(MAIN);
    await mend(world, main);
  }
  if (model.blocks.get(OTHER)?.receiving) await takeIn(world, OTHER, elsewhere.disk, elsewhere.block);
}
