import { type Op, OpType } from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { Epoch } from '../../common/ids.ts';
import type { Faults } from '../../dataserver/block/store.ts';
import {
  CONFIGURATION,
  mutation,
  openStore,
  put as putRecords,
  superblockOf,
  VERSION,
  Writer,
} from '../kit/block-world.ts';
import { type ModelBlock, NEW_BLOCK } from '../kit/crash-model.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { alias, hide, purge, remove } from './letters-names.ts';
import { member, put, seal } from './letters-records.ts';
import { Mount } from './mount.ts';
import { copyOf, emptyModel, type MountModel } from './mount-model.ts';
import { BLOCK_BYTES, DONORS, type Elsewhere, MAIN, OTHER, World } from './world.ts';

/** What a sequence begins with. */
export const STARTS = ['open', 'sealed'] as const;
export type Start = (typeof STARTS)[number];

const EPOCH = 1 as Epoch;

/** The first operation of every block's log, as `createBlock` makes it. */
export function firstOp({ createdAtMs: atMs }: Superblock): Op {
  const { version, opsPrimary, members } = CONFIGURATION;
  return { type: OpType.CFG, version, seq: 1, atMs, opId: Buffer.alloc(16), opsPrimary, members };
}

/** Makes worlds: what is the same in all of them is made once. */
export class Starter {
  readonly #faults: Faults;
  readonly #elsewhere = new Map<Start, Promise<Elsewhere>>();
  #sealed: Promise<{ disk: RecordingDisk; model: MountModel }> | undefined;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  async world(start: Start, random: SeededRandom): Promise<World> {
    if (start === 'open') return this.#open(random);
    this.#sealed ??= this.#seal();
    const { disk, model } = await this.#sealed;
    return this.#worldOn(disk.settled(), copyOf(model), random, start);
  }

  async #worldOn(disk: RecordingDisk, model: MountModel, random: SeededRandom, start: Start): Promise<World> {
    const faults = this.#faults;
    const mount = await Mount.open(disk, faults);
    model.incarnation = mount.incarnation;
    let elsewhere = this.#elsewhere.get(start);
    if (elsewhere === undefined) {
      elsewhere = makeElsewhere(faults, start === 'sealed');
      this.#elsewhere.set(start, elsewhere);
    }
    return new World({ mount, model, random, faults, elsewhere: await elsewhere });
  }

  /** A block that is being written: some records are everywhere. */
  async #open(random: SeededRandom): Promise<World> {
    const world = await this.#worldOn(new RecordingDisk(), emptyModel(), random, 'open');
    const superblock = superblockOf(MAIN, 7, 'a5', BLOCK_BYTES);
    const block: ModelBlock = {
      ...NEW_BLOCK,
      superblock,
      writer: new Writer(superblock, random, this.#faults),
      opsGiven: [firstOp(superblock)],
    };
    world.model.blocks.set(MAIN, block);
    await world.store.create(superblock, CONFIGURATION);
    block.created = true;
    await put(world);
    return world;
  }

  /** A block of which one record is purged, one deleted, one hidden, and one known to this replica alone. */
  async #seal(): Promise<{ disk: RecordingDisk; model: MountModel }> {
    const world = await this.#open(new SeededRandom(1));
    for (const letter of [put, put, member, remove, purge, remove, hide, alias, seal]) await letter(world);
    await world.mount.close();
    return { disk: world.disk.settled(), model: world.model };
  }
}

async function makeElsewhere(faults: Faults, isCompacted: boolean): Promise<Elsewhere> {
  const disk = new RecordingDisk();
  const store = await openStore(disk, { faults, server: DONORS[0]! });
  const superblock = superblockOf(OTHER, 8, 'b6', BLOCK_BYTES);
  const writer = new Writer(superblock, new SeededRandom(2), faults);
  await store.create(superblock, CONFIGURATION);
  for (const size of [120, 600, 40]) await putRecords(store, writer, [writer.random.bytes(size)]);
  const opIdOf = (seq: number) => Buffer.alloc(16, seq);
  const ops: Op[] = [
    mutation(OpType.DELETE, 1, { seq: 2, opId: opIdOf(2) }),
    { type: OpType.PURGE_INTENT, slots: [1 as never], version: VERSION, seq: 3, atMs: 0, opId: opIdOf(3) },
    mutation(OpType.HIDE, 2, { seq: 4, opId: opIdOf(4) }),
  ];
  await store.appendOps(OTHER, ops);
  const { validLength: length, slots } = await store.fence(OTHER, EPOCH);
  const sealing = { length, slots, digest: undefined, epoch: EPOCH };
  await store.seal(OTHER, sealing);
  const order = { block: OTHER, generation: 1, version: VERSION, seq: 4, bytesPerSecond: 1 << 30 };
  const made = isCompacted ? await store.prepareCompaction(order, []) : undefined;
  if (made !== undefined) await store.commitGeneration(OTHER, { ...made, generation: 1, epoch: EPOCH });
  const sealed = store.info(OTHER)!.seal;
  await store.close();
  const block: ModelBlock = {
    ...NEW_BLOCK,
    superblock,
    writer,
    given: writer.written,
    acked: slots,
    opsGiven: [firstOp(superblock), ...ops],
    opsAcked: 1 + ops.length,
    sealing,
    sealed,
    generation: isCompacted ? 1 : 0,
    made,
  };
  return { disk: disk.settled(), block };
}
