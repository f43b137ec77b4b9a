import type { Epoch } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { batchAt, CONFIGURATION, raw, superblockOf, Writer } from '../kit/block-world.ts';
import { endOf, type ModelBlock, NEW_BLOCK } from '../kit/crash-model.ts';
import { appendGiven } from '../kit/crash-workload.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { firstOp } from './start.ts';
import { BLOCK_BYTES, MAIN, mustRefuse, type World } from './world.ts';

/** What is done to the records of the main block, and to its seal. */

const SEALER = 1 as Epoch;
const LATER_SEALER = 2 as Epoch;

export const put = (world: World): Promise<void> => append(world, [100, 300], { raw: false, acked: true });

/** As a member that the primary has sent a record to; another member has not answered yet. */
export const member = (world: World): Promise<void> => append(world, [700], { raw: true, acked: false });

/** With a checksum for each chunk. */
export const large = (world: World): Promise<void> => append(world, [66_000], { raw: false, acked: true });

async function append(
  world: World,
  sizes: readonly number[],
  how: { raw: boolean; acked: boolean },
): Promise<void> {
  const { store, random } = world;
  const block = world.model.blocks.get(MAIN)!;
  const payloads = sizes.map((size) => random.bytes(size));
  const isOpen = store.info(MAIN)?.state === BlockState.OPEN && block.created;
  if (isOpen && sizes.every((size) => block.writer.fits(size)))
    return appendGiven(store, MAIN, block, payloads, how);
  if (isOpen) return;
  const { session } = block.superblock;
  const { offset, slot, acked, seed } = block.writer;
  const batch = batchAt({ offset, slot, acked, seed, random }, payloads);
  await mustRefuse('an append to a block that is not open', () =>
    how.raw
      ? store.appendRaw(MAIN, session, batch.offset, raw(batch), acked)
      : store.appendBatch(MAIN, session, batch),
  );
}

/** Another block, of a spare file where there is one. */
export async function create(world: World): Promise<void> {
  const id = MAIN + 100 + world.unique();
  const superblock = superblockOf(id, 9, 'c3', BLOCK_BYTES);
  const block: ModelBlock = {
    ...NEW_BLOCK,
    superblock,
    writer: new Writer(superblock, new SeededRandom(id), world.faults),
    opsGiven: [firstOp(superblock)],
  };
  world.model.blocks.set(superblock.block, block);
  await world.store.create(superblock, CONFIGURATION);
  block.created = true;
}

export async function spare({ store }: World): Promise<void> {
  await store.prepareSpares(store.totals().spares + 1, BLOCK_BYTES);
}

export async function fence(world: World): Promise<void> {
  const block = world.block();
  if (block === undefined) return mustRefuse('a fence', () => world.store.fence(MAIN, SEALER));
  const { validLength, seal } = await world.store.fence(MAIN, SEALER);
  if (seal === undefined) block.fencedAt = validLength;
}

/** At everything that is here. */
export const seal = (world: World): Promise<void> => sealAt(world, SEALER, () => true);

/** At what is known to be everywhere: what lies behind it is cut off. */
export const sealShort = (world: World): Promise<void> =>
  sealAt(world, SEALER, (end, proven) => end <= proven);

async function sealAt(
  world: World,
  epoch: Epoch,
  isKept: (end: number, proven: number) => boolean,
): Promise<void> {
  const { store } = world;
  const block = world.block();
  if (block === undefined || block.sealed !== undefined) return;
  await fence(world);
  const facts = await store.fence(MAIN, epoch);
  if (facts.seal !== undefined) return;
  const proven = Math.max(facts.provenLength, 4096);
  const kept = block.given.slice(0, facts.slots).filter(({ end }) => isKept(end, proven));
  await give(world, block, { slots: kept.length, digest: undefined, epoch });
}

/** A later leader has found less of it. */
export async function reseal(world: World): Promise<void> {
  const block = world.block();
  if (block?.sealed === undefined || block.generation > 0 || block.damaged) return;
  if (block.sealed.epoch >= LATER_SEALER) return;
  // What is known without the records may be less.
  const { provenLength } = world.store.info(MAIN)!;
  const proven = Math.max(provenLength, ...block.given.map(({ ackedLength }) => ackedLength), 4096);
  const slots = block.given.filter(({ end }) => end <= proven).length;
  if (block.sealed.complete === true || slots === block.sealed.slots) return;
  await give(world, block, { slots, digest: undefined, epoch: LATER_SEALER });
}

/** It is known to be on every member. */
export async function complete(world: World): Promise<void> {
  const block = world.block();
  if (block?.sealed === undefined || block.generation > 0 || block.damaged) return;
  const { slots, digest, epoch } = block.sealed;
  block.sealed = await world.store.seal(MAIN, {
    length: endOf(block, slots),
    slots,
    digest,
    epoch,
    complete: true,
  });
}

async function give(
  { store }: World,
  block: ModelBlock,
  order: { slots: number; digest: Buffer | undefined; epoch: Epoch },
): Promise<void> {
  block.sealing = { ...order, length: endOf(block, order.slots) };
  // What is cut off was confirmed to nobody: this replica alone had it.
  block.acked = Math.min(block.acked, order.slots);
  block.sealed = await store.seal(MAIN, block.sealing);
  block.given = block.given.slice(0, order.slots);
}
