import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError, TfsError } from '../../../common/errors.ts';
import { type Op, OpType, purgeableSlots } from '../../../common/format/ops.ts';
import { recordSpan } from '../../../common/format/record.ts';
import { ALIAS_BIT, type Cookie, type Epoch, type FileId, type Slot } from '../../../common/ids.ts';
import { OLD_GENERATION_MS, SUPERBLOCK_BYTES } from '../../../common/limits.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import type {
  BlockStore,
  CompactionOrder,
  Donor,
  FaultName,
  GenerationOrder,
  PreparedGeneration,
} from '../../../dataserver/block/store.ts';
import {
  aliasOp,
  faultsOf,
  mutation,
  openStore,
  RushingClock,
  raw,
  VERSION,
  type WorldOptions,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH, ReplicaWorld, SEAL_EPOCH } from '../../kit/replica-world.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const MIB = 1 << 20;
const ALL = { offset: 0, length: 0xffff_ffff };
const EPOCH = 3 as Epoch;
const SIZES = [100, 8, 1, 70_001, 33, MIB + 5, 64, 500, 3, 900];
const blk = (generation: number): string => `blocks/${BLOCK}.${generation}.blk`;

const codeOf = async (work: Promise<unknown>): Promise<ErrorCode | undefined> => {
  try {
    await work;
    return undefined;
  } catch (error) {
    assert.ok(isTfsError(error), String(error));
    return error.code;
  }
};

/** Everything that a reader can find out about every name of a block. */
async function readings(store: BlockStore, world: ReplicaWorld): Promise<string[]> {
  const found: string[] = [];
  const one = async (fileId: FileId, cookie: Cookie): Promise<void> => {
    for (const force of [false, true]) {
      const read = await store.read(BLOCK, fileId, cookie, ALL, force).then(
        ({ payload, header, nameFlags, slot }) =>
          `${slot} ${nameFlags} ${header.mtimeMs} ${header.opId.toString('hex')} ${payload.toString('base64')}`,
        (error: unknown) => (isTfsError(error) ? error.code : String(error)),
      );
      found.push(`${fileId} ${force}: ${read}`);
    }
  };
  for (const { slot, cookie } of world.records) await one(slot as number as FileId, cookie);
  const { aliases } = await store.opsState(BLOCK);
  const names = Array.from({ length: aliases?.count ?? 0 }, (_, i) => [
    aliases!.idAt(i),
    aliases!.cookieAt(i),
  ]);
  for (const [id, cookie] of names) await one(id as FileId, cookie as Cookie);
  return found;
}

/** A world whose operations every replica gets. */
class Compaction {
  readonly world: ReplicaWorld;
  seq = 1;

  private constructor(world: ReplicaWorld) {
    this.world = world;
  }

  static async open(
    t: TestContext,
    sizes: readonly number[] = SIZES,
    options: WorldOptions & { replicas?: number } = {},
  ): Promise<Compaction> {
    const world = await ReplicaWorld.open(t, sizes, { blockBytes: 4 * MIB, ...options });
    await world.seal();
    return new Compaction(world);
  }

  /** Sealed when this record verified on no replica. */
  static async withLost(t: TestContext, slot: number): Promise<Compaction> {
    const world = await ReplicaWorld.open(t, SIZES, { blockBytes: 4 * MIB });
    let digest: Buffer | undefined;
    for (const [i, replica] of world.replicas.entries()) {
      await world.restart(i, (disk) =>
        disk.corrupt(BLOCK_PATH, (bytes) => {
          bytes[world.startOf(slot) + 5000]! ^= 0x10;
        }),
      );
      const { validLength: length, slots } = await replica.store.fence(BLOCK, SEAL_EPOCH);
      const order = { length, slots, digest, epoch: SEAL_EPOCH, mayLose: true };
      const seal = await replica.store.seal(BLOCK, order);
      assert.is(seal.lost, 1);
      ({ digest } = seal);
    }
    return new Compaction(world);
  }

  store(replica = 0): BlockStore {
    return this.world.replicas[replica]!.store;
  }

  async give(make: (seq: number) => Op): Promise<void> {
    const op = make(++this.seq);
    for (const { store } of this.world.replicas) await store.appendOps(BLOCK, [op]);
  }

  async delete(...fileIds: number[]): Promise<void> {
    for (const id of fileIds) await this.give((seq) => mutation(OpType.DELETE, id, { seq }));
  }

  /** Of all that is deleted. @returns slots */
  async purge(): Promise<Slot[]> {
    const slots = purgeableSlots(await this.store().opsState(BLOCK), 0, 0);
    await this.give(
      (seq) =>
        ({
          ...mutation(OpType.DELETE, 0, { seq }),
          ...{ type: OpType.PURGE_INTENT, slots },
        }) as Op,
    );
    return slots;
  }

  order(changes: Partial<CompactionOrder> = {}): CompactionOrder {
    const { generation, version, seq } = this.store().info(BLOCK)!;
    return { block: BLOCK, generation: generation + 1, version, seq, bytesPerSecond: 1 << 30, ...changes };
  }

  donors(replica: number): Donor[] {
    return [0, 1, 2]
      .filter((i) => i !== replica && i < this.world.replicas.length)
      .map((i) => this.world.donor(i));
  }

  prepare(replica = 0, changes: Partial<CompactionOrder> = {}, donors = this.donors(replica)) {
    return this.store(replica).prepareCompaction(this.order(changes), donors);
  }

  commit(made: PreparedGeneration, replica = 0, changes: Partial<GenerationOrder> = {}): Promise<void> {
    const generation = this.store(replica).info(BLOCK)!.generation + 1;
    return this.store(replica).commitGeneration(BLOCK, { ...made, generation, epoch: EPOCH, ...changes });
  }

  async compactAll(): Promise<PreparedGeneration> {
    const order = this.order();
    const made = [];
    for (const [i, { store }] of this.world.replicas.entries())
      made.push(await store.prepareCompaction(order, this.donors(i)));
    for (const { digest } of made) assert.ok(digest.equals(made[0]!.digest), 'every replica makes the same');
    for (const { store } of this.world.replicas)
      await store.commitGeneration(BLOCK, { ...made[0]!, generation: order.generation, epoch: EPOCH });
    return made[0]!;
  }

  async liveBytes(): Promise<number> {
    const { slotFlags } = await this.store().opsState(BLOCK);
    const live = this.world.records.filter(({ slot }) => ((slotFlags[slot] ?? 0) & 4) === 0);
    return live.reduce((sum, { payload }) => sum + recordSpan(payload.length), SUPERBLOCK_BYTES);
  }

  files(replica = 0): Promise<string[]> {
    return this.world.replicas[replica]!.disk.list('blocks');
  }

  /** As the next process finds it. */
  async restarted(replica = 0): Promise<BlockStore> {
    await this.world.restart(replica);
    return this.store(replica);
  }
}

describe('compaction', (test) => {
  test('leaves out what is purged; every other name reads the same, before and after a restart', async (t) => {
    const c = await Compaction.open(t);
    await c.give((seq) => aliasOp(ALIAS_BIT + 5, 77, 3, { seq }));
    await c.give((seq) => mutation(OpType.HIDE, 4, { seq }));
    await c.delete(0, 3, 5, 6, 9);
    assert.equal(await c.purge(), [0, 5, 6, 9], '3 lives by its second name');
    const before = await readings(c.store(), c.world);
    const made = await c.compactAll();
    assert.is(made.length, await c.liveBytes());
    assert.is(made.slots, SIZES.length);
    const image = await c.world.replicas[0]!.disk.readFile(blk(1));
    assert.is(image.length, made.length);
    for (const i of [0, 1, 2]) {
      const { disk } = c.world.replicas[i]!;
      assert.ok((await disk.readFile(blk(1))).equals(image), 'the same bytes on every replica');
      assert.equal(await readings(c.store(i), c.world), before);
      const info = c.store(i).info(BLOCK)!;
      assert.equal(
        [info.generation, info.length, info.slots, info.state],
        [1, made.length, 10, BlockState.SEALED],
      );
      assert.equal((await c.store(i).verify(BLOCK)).problems, []);
      const entry = c.store(i).entry(BLOCK)!;
      assert.equal([entry.generation, entry.length, entry.deadBytes], [1, made.length, 0]);
      const again = await c.restarted(i);
      assert.equal(await readings(again, c.world), before);
      assert.equal((await again.verify(BLOCK)).problems, []);
      assert.is(again.info(BLOCK)!.generation, 1);
      assert.equal(await c.files(i), [`${BLOCK}.1.blk`, `${BLOCK}.1.idx`, `${BLOCK}.1.ops`]);
    }
    const shas: number[] = [];
    for await (const { slot, sha1 } of c.store().records.refs(BLOCK)) {
      assert.ok(sha1.equals(c.world.records[slot]!.sha1));
      shas.push(slot);
    }
    assert.equal(shas, [1, 2, 3, 4, 7, 8]);
  });

  test('whoever asks for the SHA-1s of a block meanwhile gets those of its records', async (t) => {
    for (const hasIndex of [true, false]) {
      let isOver = false;
      let moments = 0;
      for (; !isOver; moments++) {
        const c = await Compaction.open(t, [300, 500, 40], { replicas: 1 });
        await c.delete(0);
        await c.purge();
        if (!hasIndex) await c.world.replicas[0]!.disk.unlink(`blocks/${BLOCK}.0.idx`);
        const made = await c.prepare();
        const committing = c.commit(made).then(() => {
          isOver = true;
        });
        for (let i = 0; i < moments; i++) await undefined;
        const wasOver: boolean = isOver;
        const { sha1 } = c.world.records[2]!;
        const found = c.store().records.slotsWith(BLOCK, sha1);
        for await (const { slot, sha1: of } of c.store().records.refs(BLOCK))
          assert.ok(of.equals(c.world.records[slot]!.sha1), `slot ${slot}, asked for after ${moments}`);
        assert.equal(await found, [2], `asked for after ${moments}`);
        await committing;
        isOver = wasOver;
      }
      assert.ok(moments > 20, `a compaction had ${moments} moments`);
    }
  });

  test('what was prepared before a block was sealed anew is not committed after it', async (t) => {
    const world = await ReplicaWorld.open(t, [300, 500, 40], { replicas: 1 });
    const { writer } = world;
    const { store } = world.replicas[0]!;
    // Nobody was told of the last one.
    const batch = writer.batch([writer.random.bytes(80)]);
    await store.appendRaw(BLOCK, writer.superblock.session, batch.offset, raw(batch), writer.acked);
    await world.seal();
    const { version, seq } = store.info(BLOCK)!;
    const order = { block: BLOCK, generation: 1, version, seq, bytesPerSecond: 1 << 30 };
    const early = await store.prepareCompaction(order, []);
    const shorter = { length: world.startOf(3), slots: 3, digest: undefined, epoch: 9 as Epoch };
    await store.seal(BLOCK, shorter);
    const commit = (made: PreparedGeneration) =>
      store.commitGeneration(BLOCK, { ...made, generation: 1, epoch: EPOCH });
    assert.is(await codeOf(commit(early)), 'CONFLICT');
    const late = await store.prepareCompaction(order, []);
    assert.equal([early.slots, late.slots], [4, 3]);
    await commit(late);
    assert.equal([store.info(BLOCK)!.slots, store.info(BLOCK)!.length], [3, late.length]);
    assert.is(await codeOf(store.read(BLOCK, 3 as FileId, undefined, ALL, true)), 'NOT_FOUND');
  });

  test('whatever happened to the names: bytes are what lives, generation after generation', async (t) => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new SeededRandom(seed);
      const sizes = Array.from({ length: 1 + random.below(40) }, () => random.below(3000));
      const c = await Compaction.open(t, sizes, { replicas: 2 });
      for (let generation = 1; generation <= 3; generation++) {
        const aliases: number[] = [];
        for (let i = random.below(60); i > 0; i--) {
          const target = random.below(sizes.length);
          const name = aliases.length > 0 && random.below(3) === 0 ? random.pick(aliases) : target;
          const type = random.pick([
            OpType.DELETE,
            OpType.DELETE,
            OpType.UNDELETE,
            OpType.HIDE,
            OpType.REVEAL,
          ] as const);
          if (random.below(5) > 0)
            await c.give((seq) => mutation(type, name, { seq, opId: random.bytes(16) }));
          else {
            aliases.push((ALIAS_BIT + random.u32() / 2) >>> 0);
            await c.give((seq) => aliasOp(aliases.at(-1)!, 9, target, { seq, opId: random.bytes(16) }));
          }
        }
        await c.purge();
        const before = await readings(c.store(), c.world);
        // One of them is asked for without its index in memory, or as another process.
        if (random.below(2) === 0) await c.restarted(1);
        const made = await c.compactAll();
        assert.is(made.length, await c.liveBytes(), `seed ${seed}`);
        for (const i of [0, 1]) {
          assert.equal(await readings(c.store(i), c.world), before, `seed ${seed}, generation ${generation}`);
          assert.equal((await c.store(i).verify(BLOCK)).problems, []);
        }
        const images = await Promise.all(c.world.replicas.map(({ disk }) => disk.readFile(blk(generation))));
        assert.ok(images[0]!.equals(images[1]!));
      }
      const other = await readings(await c.restarted(1), c.world);
      assert.equal(other, await readings(c.store(), c.world));
    }
  });

  test('a block of which nothing lives keeps its names', async (t) => {
    const c = await Compaction.open(t, [10, 20]);
    await c.delete(0, 1);
    await c.purge();
    assert.is((await c.compactAll()).length, SUPERBLOCK_BYTES);
    for (const isNext of [false, true]) {
      const store = isNext ? await c.restarted() : c.store();
      assert.is(await store.check(BLOCK, 1 as FileId), 5);
      assert.is(await codeOf(store.read(BLOCK, 0 as FileId, undefined, ALL, true)), 'NOT_FOUND');
      assert.equal((await store.verify(BLOCK)).problems, []);
    }
  });

  test('names go on changing between the two steps, and reads go on throughout', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(5, 7);
    await c.purge();
    const store = c.store();
    let done = false;
    let reads = 0;
    const reading = [3, 4, 8].map(async (slot) => {
      const { cookie, payload } = c.world.records[slot]!;
      for (; !done; reads++) {
        // In several steps, each of which has to be of the same file.
        const offset = slot === 3 ? 10_000 : 0;
        const { payload: got } = await store.read(BLOCK, slot as FileId, cookie, { ...ALL, offset }, true);
        assert.ok(got.equals(payload.subarray(offset)));
      }
    });
    const made = await c.prepare();
    await c.delete(4);
    await c.give((seq) => aliasOp(ALIAS_BIT + 1, 5, 8, { seq }));
    await c.commit(made);
    await c.give((seq) => mutation(OpType.UNDELETE, 4, { seq }));
    done = true;
    await Promise.all(reading);
    assert.ok(reads > 5);
    const read = (fileId: number, cookie: number) =>
      store.read(BLOCK, fileId as FileId, cookie as Cookie, ALL, false);
    assert.ok((await read(4, c.world.records[4]!.cookie)).payload.equals(c.world.records[4]!.payload));
    assert.ok((await read(ALIAS_BIT + 1, 5)).payload.equals(c.world.records[8]!.payload));
    const entry = store.entry(BLOCK)!;
    await c.delete(3);
    assert.is(store.entry(BLOCK)!.deadBytes - entry.deadBytes, recordSpan(70_001));
  });

  test('the old file stays for those who read it, and then for a while', async (t) => {
    const clock = new RushingClock();
    const c = await Compaction.open(t, SIZES, { replicas: 1, clock });
    await c.delete(5);
    await c.purge();
    const made = await c.prepare();
    assert.is(c.store().totals().generationBytes, made.length);
    await c.commit(made);
    await c.store().purgeTrash();
    const before = c.world.records.at(-1)!.end;
    assert.equal(
      await c.files(),
      [0, 1].flatMap((n) => [`${BLOCK}.${n}.blk`, `${BLOCK}.${n}.idx`]).concat(`${BLOCK}.1.ops`),
    );
    assert.is(c.store().totals().generationBytes, before);
    clock.advance(OLD_GENERATION_MS);
    await c.store().purgeTrash();
    assert.equal(await c.files(), [`${BLOCK}.1.blk`, `${BLOCK}.1.idx`, `${BLOCK}.1.ops`]);
    assert.is(c.store().totals().generationBytes, 0);
  });

  test('an old file that the disk does not remove is counted still, and removed later', async (t) => {
    const clock = new RushingClock();
    const c = await Compaction.open(t, SIZES, { replicas: 1, clock });
    await c.delete(5);
    await c.purge();
    await c.commit(await c.prepare());
    const { disk } = c.world.replicas[0]!;
    const before = c.world.records.at(-1)!.end;
    const kept = await c.files();
    disk.failure = { nth: 1, code: 'READ_ONLY', kinds: ['name'], sticky: true };
    clock.advance(OLD_GENERATION_MS);
    await c.store().purgeTrash();
    assert.equal(await c.files(), kept);
    assert.is(c.store().totals().generationBytes, before);
    disk.failure = undefined;
    await c.store().purgeTrash();
    assert.equal(await c.files(), kept, 'not again at once');
    clock.advance(OLD_GENERATION_MS);
    await c.store().purgeTrash();
    assert.equal(await c.files(), [`${BLOCK}.1.blk`, `${BLOCK}.1.idx`, `${BLOCK}.1.ops`]);
    assert.is(c.store().totals().generationBytes, 0);
  });

  test('nor is one forgotten that a start could not remove', async (t) => {
    const c = await Compaction.open(t, SIZES, { replicas: 1 });
    await c.delete(5);
    await c.purge();
    await c.commit(await c.prepare());
    let isFailing = true;
    await c.world.restart(0, (disk) => {
      const unlink = disk.unlink.bind(disk);
      const fails = (path: string) => isFailing && path.endsWith('.0.blk');
      disk.unlink = (path) => (fails(path) ? Promise.reject(new TfsError('IO', 'EIO')) : unlink(path));
    });
    const look = async () => [
      (await c.files()).includes(`${BLOCK}.0.blk`),
      c.store().totals().generationBytes === c.world.records.at(-1)!.end,
      c.store().totals().generationBytes === 0,
    ];
    assert.equal(await look(), [true, true, false]);
    await c.store().purgeTrash();
    assert.equal(await look(), [true, true, false]);
    isFailing = false;
    await c.store().purgeTrash();
    assert.equal(await look(), [false, false, true]);
    const { payload } = await c.store().read(BLOCK, 4 as FileId, c.world.records[4]!.cookie, ALL, false);
    assert.ok(payload.equals(c.world.records[4]!.payload));
  });

  test('what may be gained is told again after a start, once the block is looked at', async (t) => {
    const changed: number[] = [];
    const events = { changed: (block: number) => void changed.push(block) };
    const c = await Compaction.open(t, SIZES, { replicas: 1, events });
    await c.delete(5, 9);
    const { deadBytes } = c.store().entry(BLOCK)!;
    assert.is(deadBytes, recordSpan(SIZES[5]!) + recordSpan(SIZES[9]!));
    const store = await c.restarted();
    assert.is(store.entry(BLOCK)!.deadBytes, 0, 'nobody has looked');
    changed.length = 0;
    await store.check(BLOCK, 0 as FileId);
    assert.equal(changed, [BLOCK]);
    assert.is(store.entry(BLOCK)!.deadBytes, deadBytes);
  });

  test('keeps to its rate', async (t) => {
    const clock = new RushingClock();
    const c = await Compaction.open(t, SIZES, { replicas: 1, clock });
    const startedMs = clock.monotonic();
    const { length } = await c.prepare(0, { bytesPerSecond: 100_000 });
    // Written and read back.
    const seconds = (clock.monotonic() - startedMs) / 1000;
    assert.ok(seconds > (1.9 * length) / 100_000 && seconds < (2.1 * length) / 100_000, `${seconds} s`);
  });

  test('an order that is not for this replica is refused', async (t) => {
    const c = await Compaction.open(t);
    const open = await ReplicaWorld.open(t, [5]);
    const refused = (changes: Partial<CompactionOrder>) => codeOf(c.prepare(0, changes));
    assert.is(await refused({ generation: 2 }), 'CONFLICT');
    assert.is(await refused({ generation: 0 }), 'CONFLICT');
    assert.is(await refused({ seq: c.seq + 1 }), 'CONFLICT');
    assert.is(await refused({ version: { epoch: VERSION.epoch, n: VERSION.n + 1 } }), 'CONFLICT');
    assert.is(
      await codeOf(open.replicas[0]!.store.prepareCompaction(c.order(), [])),
      'CONFLICT',
      'not sealed',
    );
    assert.is(
      await codeOf((await openStore(new RecordingDisk())).prepareCompaction(c.order(), [])),
      'DONT_KNOW',
    );
    const made = await c.prepare();
    assert.is(await codeOf(c.commit(made, 1)), 'CONFLICT', 'it has prepared nothing');
    assert.is(await codeOf(c.commit({ ...made, digest: Buffer.alloc(32) })), 'CONFLICT');
    assert.is(await codeOf(c.commit(made, 0, { generation: 2 })), 'CONFLICT');
    await c.commit(made);
    const sealed = { ...made, epoch: 9 as Epoch, length: made.length - 8, digest: undefined };
    assert.is(await codeOf(c.store().seal(BLOCK, sealed)), 'CONFLICT', 'a seal of before it is over');
  });

  test('the same order twice, one after the other or at once, does it once', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(5);
    await c.purge();
    const both = await Promise.allSettled([c.prepare(), c.prepare()]);
    assert.equal(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    const made = await c.prepare();
    assert.equal(await c.prepare(), made);
    const order = { ...made, generation: 1, epoch: EPOCH };
    const commits = await Promise.allSettled([1, 2].map(() => c.store().commitGeneration(BLOCK, order)));
    assert.ok(commits.some(({ status }) => status === 'fulfilled'));
    await c.store().commitGeneration(BLOCK, order);
    assert.is(c.store().info(BLOCK)!.generation, 1);
    assert.is(await codeOf(c.prepare(0, { generation: 1 })), 'CONFLICT');
  });

  test('what is given up leaves nothing, and the next one is made anew', async (t) => {
    const c = await Compaction.open(t);
    const files = await c.files();
    const made = await c.prepare();
    await c.store().abandonCompaction(BLOCK);
    assert.equal(await c.files(), files);
    assert.is(await codeOf(c.commit(made)), 'CONFLICT');
    const running = c.prepare();
    await c.store().abandonCompaction(BLOCK);
    assert.is(await codeOf(running), 'CONFLICT');
    assert.equal(await c.files(), files);
    await c.delete(5);
    await c.purge();
    const stale = await c.prepare();
    await c.delete(7);
    await c.purge();
    const fresh = await c.prepare();
    assert.ok(fresh.length < stale.length, 'another barrier: another file');
    await c.commit(fresh);
  });

  test('a preparation that is left alone is given up, and there are never too many', async (t) => {
    const clock = new RushingClock();
    const c = await Compaction.open(t, SIZES, { clock });
    const files = await c.files();
    await c.prepare();
    clock.advance(3600_000);
    await c.store().purgeTrash();
    assert.equal(await c.files(), files);
  });
}, 60_000);

describe('compaction: a live record that does not read', (test) => {
  test('comes from another replica, and the file is the same as theirs', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(5);
    await c.purge();
    c.world.flip(0, c.world.startOf(3) + 5000);
    c.world.flip(0, c.world.startOf(7) + 3);
    c.world.replicas[0]!.disk.spoil(blk(0), 0, 100);
    const made = await c.compactAll();
    assert.is(made.length, await c.liveBytes());
    assert.is(c.store().info(BLOCK)!.flags, 0, 'the damage is gone with the old file');
    assert.equal((await c.store().verify(BLOCK)).problems, []);
  });

  test('also where the damage has hidden how many there are', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(5);
    await c.purge();
    for (const slot of [2, 3]) c.world.flip(0, c.world.startOf(slot) + 3);
    await c.world.restart(0, (disk) => disk.unlink(`blocks/${BLOCK}.0.idx`));
    await c.compactAll();
    assert.equal((await c.store().verify(BLOCK)).problems, []);
  });

  test('ends the compaction where nobody has it: nothing is made and nothing is lost', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(5);
    await c.purge();
    for (const i of [0, 1, 2]) c.world.flip(i, c.world.startOf(3) + 5000);
    const files = await c.files();
    assert.is(await codeOf(c.prepare()), 'CORRUPT');
    assert.equal(await c.files(), files);
    assert.is(await codeOf(c.prepare(0, {}, [c.world.donor(1), c.world.lostDonor(2)])), 'UNAVAILABLE');
    assert.equal(await c.files(), files);
    assert.is(c.store().info(BLOCK)!.generation, 0);
    const { cookie, payload } = c.world.records[4]!;
    assert.ok((await c.store().read(BLOCK, 4 as FileId, cookie, ALL, false)).payload.equals(payload));
  });

  test('was sealed as lost: no generation is made without it until it is purged, and none has a record lost', async (t) => {
    const c = await Compaction.withLost(t, 3);
    await c.delete(5);
    await c.purge();
    const files = await c.files();
    assert.is(await codeOf(c.prepare()), 'CORRUPT');
    assert.equal(await c.files(), files);
    await c.delete(3);
    await c.purge();
    await c.compactAll();
    for (const { store } of c.world.replicas) {
      const { generation, flags, seal } = store.info(BLOCK)!;
      assert.equal([generation, flags, seal!.lost], [1, 0, undefined]);
      assert.equal((await store.verify(BLOCK)).problems, []);
    }
  });

  test('matters to nobody once it is purged', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(3);
    await c.purge();
    for (const i of [0, 1, 2]) c.world.flip(i, c.world.startOf(3) + 5000);
    await c.compactAll();
    assert.equal((await c.store().verify(BLOCK)).problems, []);
  });

  test('would make replicas differ if it were left out', async (t) => {
    const c = await Compaction.open(t, SIZES, { faults: faultsOf('drop-unreadable-live') });
    c.world.flip(0, c.world.startOf(3) + 5000);
    const mine = await c.prepare(0, {}, []);
    const theirs = await c.prepare(1);
    assert.not.ok(mine.digest.equals(theirs.digest), 'the leader compares before anything is committed');
  });
}, 60_000);

describe('compaction that is cut short', (test) => {
  const SMALL = [100, 8, 900, 33, 64, 700];

  interface Point {
    readonly disk: RecordingDisk;
    readonly expected: readonly string[];
    readonly committed: boolean;
  }

  /** All disks that a power failure, or a kill, may leave during a compaction with operations in between. */
  async function crashes(t: TestContext, faults: readonly FaultName[] = []) {
    let isArmed = false;
    const planted = faultsOf(...faults);
    const c = await Compaction.open(t, SMALL, {
      replicas: 1,
      faults: { has: (name) => isArmed && planted.has(name) },
    });
    await c.give((seq) => aliasOp(ALIAS_BIT + 5, 77, 4, { seq }));
    await c.delete(0, 2, 4);
    const { disk } = c.world.replicas[0]!;
    const points: Point[] = [];
    const random = new SeededRandom(4);
    const some = Array.from({ length: 8 }, (_, i) => () => random.below(2 + (i % 3)) === 0);
    const keeps = [() => true, () => false, ...some];
    let expected: string[] = [];
    let committed = false;
    isArmed = true;
    const look = async (): Promise<void> => {
      const point = disk.crashPoint();
      for (const keep of keeps) points.push({ disk: point.image(keep), expected, committed });
      const killed = disk.fork();
      points.push({ disk: killed, expected, committed });
    };
    const confirmed = async (): Promise<void> => {
      disk.onStep = undefined;
      expected = await readings(c.store(), c.world);
      disk.onStep = look;
    };
    await confirmed();
    await c.purge();
    await confirmed();
    const made = await c.prepare();
    await c.give((seq) => mutation(OpType.HIDE, 1, { seq }));
    await c.give((seq) => aliasOp(ALIAS_BIT + 6, 78, 3, { seq }));
    await confirmed();
    await c.commit(made);
    committed = true;
    await c.delete(1);
    await confirmed();
    await look();
    disk.onStep = undefined;
    return { c, points };
  }

  /** What a process finds that starts on such a disk; undefined when all is well. */
  async function trouble(
    { world }: Compaction,
    { disk, expected, committed }: Point,
  ): Promise<string | undefined> {
    const store = await openStore(disk);
    try {
      const { flags, generation } = store.info(BLOCK)!;
      if (flags !== 0) return `flagged ${flags}`;
      if (committed && generation !== 1) return 'a committed generation is gone';
      const now = await readings(store, world);
      // An operation that was under way may have come to be or not.
      const names = (list: readonly string[]) => new Map(list.map((line) => [line.split(':')[0], line]));
      const [was, is] = [names(expected), names(now)];
      for (const [name, line] of is) {
        const before = was.get(name);
        const isDamaged = /: (CORRUPT|DONT_KNOW|IO)$/.test(line);
        if (isDamaged) return line;
        if (
          name?.endsWith('true') &&
          before !== undefined &&
          before !== line &&
          !line.endsWith('NOT_FOUND')
        ) {
          const payload = (text: string) => text.split(' ').at(-1);
          if (payload(before) !== payload(line)) return `${line} instead of ${before}`;
        }
      }
      for (const name of was.keys()) if (!is.has(name)) return `${name} is gone`;
      const { problems } = await store.verify(BLOCK);
      if (problems.length > 0) return problems.join();
      const files = (await disk.list('blocks')).filter((name) => !name.endsWith('.ops'));
      const orphan = files.find((name) => !name.startsWith(`${BLOCK}.${generation}.`));
      return orphan === undefined ? undefined : `orphan ${orphan}`;
    } finally {
      await store.close();
    }
  }

  test('by a power failure or a kill at any step leaves the old generation or the new one, whole', async (t) => {
    const { c, points } = await crashes(t);
    assert.ok(points.length > 200, `${points.length} states`);
    const seen = new Set<number>();
    for (const point of points) {
      // And once more, after whatever a killed process's successor did was cut off as well.
      const found = await trouble(c, point);
      assert.is(found, undefined);
      const after = point.disk.crashPoint().image(() => false);
      assert.is(await trouble(c, { ...point, disk: after }), undefined, 'the power fails behind the restart');
      const store = await openStore(after);
      seen.add(store.info(BLOCK)!.generation);
      await store.close();
    }
    assert.equal([...seen].sort(), [0, 1]);
  });

  for (const fault of ['commit-before-datasync', 'skip-directory-sync', 'ack-op-before-datasync'] as const) {
    test(`a planted bug is caught: ${fault}`, async (t) => {
      const { c, points } = await crashes(t, [fault]);
      for (const point of points) if ((await trouble(c, point)) !== undefined) return;
      assert.unreachable(`${points.length} states did not show it`);
    });
  }

  test('a file that was committed and is gone, or is not whole, makes the replica one to be repaired', async (t) => {
    const damages: Record<string, (disk: RecordingDisk) => void | Promise<void>> = {
      gone: (disk) => disk.unlink(blk(1)),
      short: (disk) => disk.corrupt(blk(1), (bytes) => bytes.subarray(0, 4200)),
      'without superblock': (disk) => disk.corrupt(blk(1), (bytes) => void bytes.fill(3, 0, 10)),
    };
    for (const [what, damage] of Object.entries(damages)) {
      const c = await Compaction.open(t, SMALL);
      await c.delete(0, 2);
      await c.purge();
      await c.compactAll();
      const before = await readings(c.store(1), c.world);
      await c.world.restart(0, damage);
      const info = c.store().info(BLOCK)!;
      assert.is(info.generation, 1, what);
      assert.ok((info.flags & (BlockFlag.SUSPECT | BlockFlag.QUARANTINED)) !== 0, what);
      assert.is((await c.world.repair(0, [1, 2])).whole, true, what);
      assert.equal(await readings(c.store(), c.world), before);
      assert.equal((await c.store().verify(BLOCK)).problems, []);
      assert.equal(await readings(await c.restarted(), c.world), before);
      assert.is((await c.files()).filter((name) => name.endsWith('.blk')).length, 1);
    }
  });

  for (const code of ['IO', 'DISK_FULL'] as const) {
    test(`by the disk, at any call (${code}), loses nothing`, async (t) => {
      for (let nth = 1; ; nth++) {
        const c = await Compaction.open(t, SMALL, { replicas: 1 });
        await c.delete(0, 2);
        await c.purge();
        const before = await readings(c.store(), c.world);
        const files = await c.files();
        const { disk } = c.world.replicas[0]!;
        const failure = { nth, code, kinds: ['write', 'sync', 'name', 'open', 'read'] as const };
        disk.failure = failure;
        const made = await c.prepare(0, {}, []).catch((error: unknown) => error);
        const failed = isTfsError(made) ? made : undefined;
        const isPrepared = failed === undefined;
        const outcome = isPrepared ? await codeOf(c.commit(made as PreparedGeneration)) : failed.code;
        disk.failure = undefined;
        assert.ok([undefined, code, 'IO', 'READ_ONLY', 'CORRUPT'].includes(outcome), String(outcome));
        if (code === 'DISK_FULL' && outcome === 'DISK_FULL') {
          assert.equal(await c.files(), files, `nothing is left behind (${nth})`);
          assert.is(c.store().readOnly, undefined);
          await c.commit(await c.prepare(0, {}, []));
        }
        if (failure.nth <= 0 && outcome === undefined) await c.store().purgeTrash();
        const store = await c.restarted();
        assert.equal(await readings(store, c.world), before, `${code} ${nth}`);
        assert.equal((await store.verify(BLOCK)).problems, []);
        const { generation } = store.info(BLOCK)!;
        if (outcome === undefined) assert.is(generation, 1);
        const others = (await c.files()).filter(
          (n) => !n.endsWith('.ops') && !n.startsWith(`${BLOCK}.${generation}.`),
        );
        assert.equal(others, [], `${code} ${nth}`);
        if (failure.nth > 0) break;
      }
    });
  }
}, 60_000);

describe('replicas of a compacted block', (test) => {
  async function compacted(t: TestContext): Promise<Compaction> {
    const c = await Compaction.open(t);
    await c.delete(0, 2, 5, 9);
    await c.purge();
    await c.compactAll();
    return c;
  }

  test('are made whole from each other', async (t) => {
    const damages: Record<string, (c: Compaction) => void | Promise<void>> = {
      'a payload': (c) => c.world.flip(0, SUPERBLOCK_BYTES + 85, blk(1)),
      'two headers in a row': (c) => {
        const first = SUPERBLOCK_BYTES + recordSpan(8);
        for (const at of [first, first + recordSpan(70_001)]) c.world.flip(0, at + 3, blk(1));
      },
      'everything behind the superblock': (c) =>
        c.world.replicas[0]!.disk.corrupt(blk(1), (bytes) => void bytes.fill(0x55, 4096)),
      'the ops log': (c) =>
        c.world.restart(0, (disk) => disk.corrupt(`blocks/${BLOCK}.1.ops`, (bytes) => void bytes.fill(1))),
      'all of it': (c) =>
        c.world.restart(0, async (disk) => {
          for (const name of await disk.list('blocks')) await disk.unlink(`blocks/${name}`);
        }),
    };
    for (const [what, damage] of Object.entries(damages)) {
      const c = await compacted(t);
      const before = await readings(c.store(1), c.world);
      await damage(c);
      await c
        .store()
        .verify(BLOCK)
        .catch(() => undefined);
      assert.equal(await c.world.repair(0, [1, 2]).then(({ whole, lost }) => [whole, lost]), [true, 0], what);
      for (const isNext of [false, true]) {
        const store = isNext ? await c.restarted() : c.store();
        assert.equal(await readings(store, c.world), before, what);
        assert.equal((await store.verify(BLOCK)).problems, [], what);
        assert.is(store.info(BLOCK)!.generation, 1);
      }
    }
  });

  test('one that was not there gets the new file, by its own log or with theirs', async (t) => {
    for (const how of ['a member', 'left out', 'damaged']) {
      const c = await Compaction.open(t);
      await c.delete(0, 2, 5, 9);
      const version = { epoch: VERSION.epoch, n: VERSION.n + 1 };
      if (how !== 'left out') await c.purge();
      else {
        // The others go on without it, and purge what they have.
        const slots = purgeableSlots(await c.store().opsState(BLOCK), 0, 0);
        const [cfg] = await c.store().opsAfter(BLOCK, 0);
        const base = { version, atMs: 0, opId: Buffer.alloc(16) };
        for (const i of [1, 2])
          await c
            .store(i)
            .appendOps(BLOCK, [
              { ...cfg!, ...base, seq: c.seq + 1, members: [2, 3], opsPrimary: 2 } as unknown as Op,
              { ...base, type: OpType.PURGE_INTENT, slots, seq: c.seq + 2 },
            ]);
      }
      const { generation, version: held, seq } = c.store(1).info(BLOCK)!;
      const order = { block: BLOCK, generation: generation + 1, version: held, seq, bytesPerSecond: 1 << 30 };
      for (const i of [1, 2]) await c.commit(await c.store(i).prepareCompaction(order, []), i);
      const before = await readings(c.store(1), c.world);
      const { payload, cookie } = c.world.records[3]!;
      assert.ok(
        (await c.store().read(BLOCK, 3 as FileId, cookie, ALL, false)).payload.equals(payload),
        'it serves meanwhile',
      );
      if (how === 'damaged')
        await c.world.restart(0, (disk) => disk.corrupt(blk(0), (bytes) => void bytes.fill(1, 0, 9)));
      const both = [c.world.donor(1), c.world.donor(2)];
      assert.is((await c.world.receive(0, both)).whole, true, how);
      for (const isNext of [false, true]) {
        const store = isNext ? await c.restarted() : c.store();
        assert.equal(await readings(store, c.world), before, how);
        assert.equal((await store.verify(BLOCK)).problems, []);
        assert.is(store.info(BLOCK)!.generation, 1);
      }
      assert.equal(
        (await c.files()).filter((name) => !name.endsWith('.ops')),
        [`${BLOCK}.1.blk`, `${BLOCK}.1.idx`],
      );
    }
  });

  test('the file that was left out with it goes, also where the disk does not name it, or not remove it at once', async (t) => {
    for (const what of ['list', 'unlink'] as const) {
      const clock = new RushingClock();
      const c = await Compaction.open(t, SIZES, { clock });
      await c.delete(0, 2, 5, 9);
      await c.purge();
      const { generation, version, seq } = c.store(1).info(BLOCK)!;
      const order = { block: BLOCK, generation: generation + 1, version, seq, bytesPerSecond: 1 << 30 };
      for (const i of [1, 2]) await c.commit(await c.store(i).prepareCompaction(order, []), i);
      let [isFailing, isMended] = [false, false];
      const before = c.world.records.at(-1)!.end;
      await c.world.restart(0, (disk) => {
        disk.corrupt(blk(0), (bytes) => void bytes.fill(1, 0, 9));
        const [list, unlink] = [disk.list.bind(disk), disk.unlink.bind(disk)];
        const fail = () => Promise.reject(new TfsError('IO', 'EIO'));
        // From when the new file has the place of the old one.
        disk.list = async (directory) => {
          const names = await list(directory);
          isFailing = !isMended && names.includes(`${BLOCK}.1.idx`);
          return isFailing && what === 'list' ? fail() : names;
        };
        disk.unlink = (path) =>
          isFailing && what === 'unlink' && path.endsWith('.0.blk') ? fail() : unlink(path);
      });
      assert.is((await c.world.receive(0, [c.world.donor(1), c.world.donor(2)])).whole, true, what);
      assert.ok(isFailing);
      [isFailing, isMended] = [false, true];
      const isThere = async () => (await c.files()).includes(`${BLOCK}.0.blk`);
      if (what === 'unlink') {
        assert.is(await isThere(), true);
        assert.is(c.store().totals().generationBytes, before, 'it is counted');
        clock.advance(OLD_GENERATION_MS);
        await c.store().purgeTrash();
      }
      assert.equal([await isThere(), c.store().totals().generationBytes], [false, 0], what);
    }
  });

  test('a member whose log does not say yet what was purged waits for its operations', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(0);
    const purge = {
      ...mutation(OpType.DELETE, 0, { seq: 3 }),
      type: OpType.PURGE_INTENT,
      slots: [0],
    } as unknown as Op;
    for (const i of [1, 2]) await c.store(i).appendOps(BLOCK, [purge]);
    const { seq } = c.store(1).info(BLOCK)!;
    for (const i of [1, 2]) await c.commit(await c.store(i).prepareCompaction(c.order({ seq }), []), i);
    assert.is(await codeOf(c.world.repair(0, [1, 2])), 'UNAVAILABLE');
    assert.is(c.store().info(BLOCK)!.generation, 0);
    await c.store().appendOps(BLOCK, [purge]);
    assert.is((await c.world.repair(0, [1, 2])).whole, true);
    assert.equal((await c.store().verify(BLOCK)).problems, []);
  });

  test('of two that were made under two leaders the later one stands', async (t) => {
    const c = await Compaction.open(t);
    await c.delete(0);
    await c.purge();
    await c.commit(await c.prepare(), 0, { epoch: 4 as Epoch });
    await c.delete(2);
    await c.purge();
    const { seq } = c.store(1).info(BLOCK)!;
    const order = c.order({ generation: 1, seq });
    for (const i of [1, 2])
      await c.commit(await c.store(i).prepareCompaction(order, []), i, { epoch: 5 as Epoch });
    const before = await readings(c.store(1), c.world);
    const info = c.store(1).info(BLOCK)!;
    const to = { block: BLOCK, generation: 1, seal: info.seal!, version: info.version };
    assert.is((await c.world.receive(0, [c.world.donor(1), c.world.donor(2)], to)).whole, true);
    for (const isNext of [false, true]) {
      const store = isNext ? await c.restarted() : c.store();
      assert.equal(await readings(store, c.world), before);
      assert.ok(store.info(BLOCK)!.seal!.digest.equals(info.seal!.digest));
      assert.equal((await store.verify(BLOCK)).problems, []);
    }
    const back = { ...to, seal: { ...info.seal!, digest: Buffer.alloc(32), epoch: 4 as Epoch } };
    assert.is(await codeOf(c.world.receive(0, [], back)), 'CONFLICT');
  });

  test('are sources for each other: records where they are, not the gaps before them', async (t) => {
    const c = await compacted(t);
    const first = await c.store().readRaw(BLOCK, 1, SUPERBLOCK_BYTES, 4 * MIB);
    const image = await c.world.replicas[0]!.disk.readFile(blk(1));
    assert.ok(first.bytes.equals(image.subarray(SUPERBLOCK_BYTES)));
    assert.is(await codeOf(c.store().readRaw(BLOCK, 0, SUPERBLOCK_BYTES, 100)), 'CONFLICT');
    const at = SUPERBLOCK_BYTES + recordSpan(8);
    const one = await c.store().readRaw(BLOCK, 1, at, 1);
    assert.equal([one.bytes.length, one.next?.offset], [recordSpan(70_001), at + recordSpan(70_001)]);
  });
}, 60_000);
