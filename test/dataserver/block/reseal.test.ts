import * as assert from 'uvu/assert';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import { tune, untune } from '../../../common/tunables.ts';
import { BlockFlag, BlockState, NameFlag } from '../../../common/wire/messages.ts';
import type { BlockStore, SealOrder } from '../../../dataserver/block/store.ts';
import { CONFIGURATION, mutation, openStore, raw, superblockOf } from '../../kit/block-world.ts';
import { codeOf } from '../../kit/code-of.ts';
import type { RecordingDisk } from '../../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH, IDX_PATH, OPS_PATH, ReplicaWorld } from '../../kit/replica-world.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ALL = { offset: 0, length: 0xffff_ffff };
const SIZES = [300, 500, 40];

const at = (
  world: ReplicaWorld,
  slots: number,
  epoch: number,
  change: Partial<SealOrder> = {},
): SealOrder => ({
  length: world.startOf(slots),
  slots,
  digest: undefined,
  epoch: epoch as Epoch,
  ...change,
});

/** Two replicas of three acknowledged records; one, the first by default, has two more that nobody was told of. */
async function uneven(
  t: TestContext,
  longer = 0,
): Promise<{ world: ReplicaWorld; long: BlockStore; short: BlockStore }> {
  const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
  const { writer } = world;
  const [long, short] = [longer, 1 - longer].map((i) => world.replicas[i]!.store);
  const batch = writer.batch([writer.random.bytes(80), writer.random.bytes(160)]);
  await long!.appendRaw(BLOCK, writer.superblock.session, batch.offset, raw(batch), writer.acked);
  for (const store of [long!, short!]) await store.fence(BLOCK, 1 as Epoch);
  return { world, long: long!, short: short! };
}

async function fillAll(store: BlockStore, source: BlockStore, order: SealOrder): Promise<void> {
  for (const { start, end } of await store.missingFor(BLOCK, order))
    await store.fill(BLOCK, start, (await source.readRaw(BLOCK, 0, start, end - start)).bytes);
}

describe('a block that two leaders have sealed', (test) => {
  test('at a longer length loses nothing where it was killed before the newer seal was durable, and the power fails then', async (t) => {
    const { world, long } = await uneven(t);
    await long.seal(BLOCK, at(world, 5, 4));
    const { disk } = world.replicas[0]!;
    const killed: RecordingDisk[] = [];
    disk.onStep = async () => {
      killed.push(disk.fork());
    };
    await long.seal(BLOCK, at(world, 3, 6));
    disk.onStep = undefined;
    let again = 0;
    for (const left of killed) {
      const open = await openStore(left);
      await open.close();
      // Of what that process has changed the power failure keeps the one or the other.
      const point = left.crashPoint();
      for (let kept = -1; kept < point.units; kept++) {
        const store = await openStore(point.image((unit) => unit === kept));
        const { flags, length } = store.info(BLOCK)!;
        assert.is(flags, 0, `sealed at ${length}`);
        assert.ok(length === world.startOf(5) || length === world.startOf(3));
        assert.equal((await store.verify(BLOCK)).problems, []);
        if (length === world.startOf(5)) again++;
        await store.close();
      }
    }
    assert.ok(again > 0 && killed.length > 4);
  });

  test('at a shorter length gets the rest, under the newer epoch', async (t) => {
    const { world, long, short } = await uneven(t);
    await short.seal(BLOCK, at(world, 3, 4));
    const { digest } = await long.seal(BLOCK, at(world, 5, 6));
    const order = at(world, 5, 6, { digest });
    await fillAll(short, long, order);
    assert.is(short.info(BLOCK)!.state, BlockState.RECOVERED, 'it waits for its seal again');
    assert.is(await codeOf(short.read(BLOCK, 5 as FileId, undefined, ALL, false)), 'DONT_KNOW');
    await short.seal(BLOCK, order);
    for (const [i, { disk }] of world.replicas.entries()) {
      const files = [BLOCK_PATH, IDX_PATH].map((path) => disk.readFile(path));
      const first = [BLOCK_PATH, IDX_PATH].map((path) => world.replicas[0]!.disk.readFile(path));
      assert.equal(await Promise.all(files), await Promise.all(first));
      await world.restart(i);
      const { store } = world.replicas[i]!;
      assert.equal([store.info(BLOCK)!.length, store.info(BLOCK)!.seal?.epoch], [world.startOf(5), 6]);
      assert.equal((await store.verify(BLOCK)).problems, []);
    }
  });

  test('at a longer length is cut, and what is cut is kept', async (t) => {
    const { world, long, short } = await uneven(t);
    await long.seal(BLOCK, at(world, 5, 4));
    const before = await world.replicas[0]!.disk.readFile(BLOCK_PATH);
    const { digest } = await short.seal(BLOCK, at(world, 3, 6));
    await long.seal(BLOCK, at(world, 3, 6, { digest }));
    const { disk } = world.replicas[0]!;
    assert.is((await disk.readFile(BLOCK_PATH)).length, world.startOf(3));
    const surplus = await disk.readFile(`surplus/65537.0.${world.startOf(3)}.surplus`);
    assert.ok(surplus.equals(before.subarray(world.startOf(3))));
    assert.is(await codeOf(long.read(BLOCK, 3 as FileId, undefined, ALL, false)), 'NOT_FOUND');
    await world.restart(0);
    assert.is(world.replicas[0]!.store.info(BLOCK)!.length, world.startOf(3));
  });

  test('obeys no older epoch, no other digest, and nothing at all below a watermark', async (t) => {
    const { world, long, short } = await uneven(t);
    await long.seal(BLOCK, at(world, 5, 6));
    assert.is(await codeOf(long.seal(BLOCK, at(world, 3, 5))), 'CONFLICT');
    assert.is(await codeOf(long.seal(BLOCK, at(world, 5, 7, { digest: Buffer.alloc(32) }))), 'CONFLICT');
    await short.seal(BLOCK, at(world, 3, 6));
    // Two records were acknowledged when the third was written: its header says so.
    for (const again of [false, true]) {
      if (again) await world.restart(1);
      const { store } = world.replicas[1]!;
      assert.is(await codeOf(store.missingFor(BLOCK, at(world, 1, 8))), 'CONFLICT');
      assert.is(await codeOf(store.seal(BLOCK, at(world, 1, 8))), 'CONFLICT');
      assert.is(store.info(BLOCK)!.state, BlockState.SEALED);
      assert.is(store.refusedCuts, 2);
    }
  });

  test('and knows that its seal is complete gives it up for none; any other gives way to a complete one', async (t) => {
    const { world, long, short } = await uneven(t);
    const { digest } = await long.seal(BLOCK, at(world, 5, 4));
    await long.seal(BLOCK, at(world, 5, 4, { digest, complete: true }));
    await short.seal(BLOCK, at(world, 3, 9));
    await world.restart(0);
    const kept = world.replicas[0]!.store;
    assert.is(kept.info(BLOCK)!.seal?.complete, true, 'over a restart');
    assert.is(await codeOf(kept.seal(BLOCK, at(world, 3, 9))), 'CONFLICT');
    const order = at(world, 5, 4, { digest, complete: true });
    await fillAll(short, kept, order);
    await short.seal(BLOCK, order);
    assert.equal([short.info(BLOCK)!.length, short.info(BLOCK)!.seal?.complete], [world.startOf(5), true]);
  });

  test('and is killed before it was sealed again is as it was', async (t) => {
    const { world, long, short } = await uneven(t);
    const old = await short.seal(BLOCK, at(world, 3, 4));
    const { digest } = await long.seal(BLOCK, at(world, 5, 6));
    await fillAll(short, long, at(world, 5, 6, { digest }));
    const facts = await short.fence(BLOCK, 7 as Epoch);
    assert.equal([facts.validLength, facts.clean, facts.seal?.epoch], [world.startOf(5), false, 4]);
    await world.restart(1);
    const { store } = world.replicas[1]!;
    assert.is(store.info(BLOCK)!.state, BlockState.SEALED);
    assert.ok(store.info(BLOCK)!.seal!.digest.equals(old.digest));
    assert.equal((await store.verify(BLOCK)).problems, []);
    assert.is((await world.replicas[1]!.disk.stat(BLOCK_PATH))?.size, world.startOf(3));
  });

  test('and whose log is found damaged when it is to be sealed again takes log and seal of the others', async (t) => {
    tune({ opsLogsWarmMax: 1 });
    t.defer(untune);
    const { world, long, short } = await uneven(t);
    await short.seal(BLOCK, at(world, 3, 4));
    const { digest } = await long.seal(BLOCK, at(world, 5, 6));
    // What its operations add up to has to make room for those of another block; the index stays.
    const other = (BLOCK + 1) as BlockId;
    await short.create(superblockOf(other), CONFIGURATION);
    await short.fence(other, 1 as Epoch);
    await short.read(BLOCK, 0 as FileId, undefined, ALL, false);
    await short.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
    await long.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
    await short.seal(other, { length: 4096, slots: 0, digest: undefined, epoch: 1 as Epoch });
    for (const seq of [2, 3]) await short.appendOps(other, [mutation(OpType.DELETE, 0, { seq })]);

    world.flip(1, 80, OPS_PATH);
    const order = at(world, 5, 6, { digest });
    assert.is(await codeOf(short.missingFor(BLOCK, order)), 'CORRUPT');
    assert.is(await codeOf(short.fence(BLOCK, 6 as Epoch)), 'CORRUPT', 'again and again');
    assert.is(short.info(BLOCK)!.state, BlockState.RECOVERED);
    assert.is((await world.repair(1, [0])).whole, true);
    assert.equal(
      [short.info(BLOCK)!.state, short.info(BLOCK)!.flags, short.info(BLOCK)!.length],
      [BlockState.SEALED, 0, world.startOf(5)],
    );
    await world.restart(1);
    const { store } = world.replicas[1]!;
    assert.equal((await store.verify(BLOCK)).problems, []);
    assert.is(await store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
  });

  test('and cannot be loaded, because its log was damaged after its start, takes log and seal of the others', async (t) => {
    /** Replica 1, the longer one or the other, is sealed otherwise than replica 0, and not loaded. */
    const damaged = async (longer: number, epochs: { readonly long: number; readonly short: number }) => {
      const { world, long, short } = await uneven(t, longer);
      await long.seal(BLOCK, at(world, 5, epochs.long));
      await short.seal(BLOCK, at(world, 3, epochs.short));
      for (const store of [long, short])
        await store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
      await world.restart(1);
      world.flip(1, 80, OPS_PATH);
      const { store } = world.replicas[1]!;
      const { seal, version } = world.replicas[0]!.store.info(BLOCK)!;
      assert.is(await codeOf(store.opsAfter(BLOCK, 0)), 'CORRUPT');
      const { state, flags } = store.info(BLOCK)!;
      assert.equal([state, flags], [BlockState.SEALED, BlockFlag.SUSPECT]);
      return { world, store, order: { block: BLOCK, generation: 0, version, seal: seal! } };
    };
    for (const longer of [0, 1]) {
      for (const epochs of [
        { long: 4, short: 6 },
        { long: 6, short: 4 },
      ]) {
        const { world, order } = await damaged(longer, epochs);
        assert.is(await codeOf(world.replicas[1]!.store.fence(BLOCK, 7 as Epoch)), 'CORRUPT');
        assert.is((await world.receive(1, [world.donor(0)], order)).whole, true);
        for (const again of [false, true]) {
          if (again) await world.restart(1);
          const { store, disk } = world.replicas[1]!;
          const { state, flags, length } = store.info(BLOCK)!;
          assert.equal([state, flags, length], [BlockState.SEALED, 0, order.seal.length]);
          assert.is((await disk.stat(BLOCK_PATH))?.size, order.seal.length);
          assert.equal((await store.verify(BLOCK)).problems, []);
          assert.is(await store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
        }
      }
    }
    // Where its disk does not even tell how much of it was acknowledged, nothing is cut.
    const untold = await damaged(1, { long: 4, short: 6 });
    const { disk } = untold.world.replicas[1]!;
    await disk.unlink(IDX_PATH);
    disk.spoil(BLOCK_PATH, untold.world.startOf(4), untold.world.startOf(5));
    const repair = () => untold.world.receive(1, [untold.world.donor(0)], untold.order);
    assert.is(await codeOf(repair()), 'IO');
    assert.is(untold.store.info(BLOCK)!.length, untold.world.startOf(5));
    disk.spoil(BLOCK_PATH, 0, 0);
    assert.is((await repair()).whole, true);
    // Two records were acknowledged when the third was written, as that says.
    const { world, store, order } = await damaged(0, { long: 4, short: 6 });
    const below = { ...order, seal: { ...order.seal, length: world.startOf(1), slots: 1 } };
    assert.is(await codeOf(world.receive(1, [world.donor(0)], below)), 'CONFLICT');
    assert.is(store.info(BLOCK)!.length, world.startOf(3));
  });

  test('and knows that its seal is complete keeps it, also where its log is lost', async (t) => {
    const { world, long, short } = await uneven(t);
    await long.seal(BLOCK, at(world, 5, 9));
    const { digest } = await short.seal(BLOCK, at(world, 3, 4));
    await short.seal(BLOCK, at(world, 3, 4, { digest, complete: true }));
    await world.restart(1);
    world.flip(1, 80, OPS_PATH);
    const { store } = world.replicas[1]!;
    assert.is(await codeOf(store.read(BLOCK, 0 as FileId, undefined, ALL, false)), 'CORRUPT');
    const { seal, version } = long.info(BLOCK)!;
    const order = { block: BLOCK, generation: 0, version, seal: seal! };
    assert.is(await codeOf(world.receive(1, [world.donor(0)], order)), 'CONFLICT');
    assert.is(store.info(BLOCK)!.length, world.startOf(3));
  });

  const unusable: Record<string, (disk: RecordingDisk) => void | Promise<void>> = {
    'its superblock': (disk) => disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 60, 61)),
    'its superblock and index file': async (disk) => {
      disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 60, 61));
      await disk.unlink(IDX_PATH);
    },
    'its superblock and, later, its file': (disk) =>
      disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 60, 61)),
    'its log, behind the seal': (disk) =>
      disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0x77, bytes.length - 70, bytes.length - 69)),
  };
  for (const [what, damage] of Object.entries(unusable)) {
    test(`and has lost ${what}, before its start, takes file and seal of the others`, async (t) => {
      for (const longer of [0, 1]) {
        for (const epochs of [
          { long: 4, short: 6 },
          { long: 6, short: 4 },
        ]) {
          const { world, long, short } = await uneven(t, longer);
          await long.seal(BLOCK, at(world, 5, epochs.long));
          await short.seal(BLOCK, at(world, 3, epochs.short));
          for (const store of [long, short])
            for (const seq of [2, 3, 4])
              await store.appendOps(BLOCK, [
                mutation(seq === 3 ? OpType.UNDELETE : OpType.DELETE, 1, { seq }),
              ]);
          const { seal, version } = world.replicas[0]!.store.info(BLOCK)!;
          await world.restart(1, damage);
          const order = { block: BLOCK, generation: 0, version, seal: seal! };
          const before = world.replicas[1]!.store.info(BLOCK)!;
          assert.equal(before.flags, BlockFlag.SUSPECT | BlockFlag.QUARANTINED);
          assert.is(before.length, world.startOf(longer === 1 ? 5 : 3), 'it knows its seal');
          if (what.includes('later')) await world.replicas[1]!.disk.unlink(BLOCK_PATH);
          assert.is((await world.receive(1, [world.donor(0)], order)).whole, true);
          for (const again of [false, true]) {
            if (again) await world.restart(1);
            const { store, disk } = world.replicas[1]!;
            const { state, flags, length, seq } = store.info(BLOCK)!;
            assert.equal([state, flags, length, seq], [BlockState.SEALED, 0, order.seal.length, 4]);
            assert.is((await disk.stat(BLOCK_PATH))?.size, order.seal.length);
            assert.equal((await store.verify(BLOCK)).problems, []);
            assert.is(await store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
          }
        }
      }
    });
  }

  test('and has lost its superblock keeps a seal that is complete, and what it knows to have been acknowledged', async (t) => {
    let sound: number | undefined;
    const loseSuperblock = (disk: RecordingDisk) =>
      disk.corrupt(BLOCK_PATH, (bytes) => {
        sound = bytes[60]!;
        bytes[60] = sound + 1;
      });
    const mendSuperblock = (disk: RecordingDisk) =>
      disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(sound!, 60, 61));
    const { world, long, short } = await uneven(t, 1);
    await short.seal(BLOCK, at(world, 3, 9));
    const { digest } = await long.seal(BLOCK, at(world, 5, 4));
    const { seal, version } = short.info(BLOCK)!;
    const order = { block: BLOCK, generation: 0, version, seal: seal! };
    await world.restart(1, loseSuperblock);
    // Two records were acknowledged when the third was written, as that says.
    const shorter = await ReplicaWorld.open(t, SIZES.slice(0, 1), { replicas: 1 });
    const below = await shorter.seal();
    const donor = shorter.donor(0);
    const { store } = world.replicas[1]!;
    assert.is(await codeOf(world.receive(1, [donor], { ...order, seal: below })), 'CONFLICT');
    assert.is(store.info(BLOCK)!.length, world.startOf(5));

    // What it would be written with is lost, too.
    const complete = at(world, 5, 4, { digest, complete: true });
    assert.is(await codeOf(store.seal(BLOCK, complete)), 'IO');

    await world.restart(1, mendSuperblock);
    await world.replicas[1]!.store.seal(BLOCK, complete);
    await world.restart(1, loseSuperblock);
    assert.is(await codeOf(world.receive(1, [world.donor(0)], order)), 'CONFLICT');
    assert.is(world.replicas[1]!.store.info(BLOCK)!.length, world.startOf(5));
  });

  test('answers the reads that had begun', async (t) => {
    const { world, long, short } = await uneven(t);
    await short.seal(BLOCK, at(world, 3, 4));
    const { digest } = await long.seal(BLOCK, at(world, 5, 6));
    const order = at(world, 5, 6, { digest });
    const reads = Array.from({ length: 20 }, async (_, i) => {
      for (let turn = 0; turn < 10; turn++)
        await short.read(BLOCK, (i % 3) as FileId, undefined, { offset: turn, length: 7 }, false);
    });
    await fillAll(short, long, order);
    await short.seal(BLOCK, order);
    await Promise.all(reads);
  });

  test('an empty block is sealed without an index file, and found again', async (t) => {
    const world = await ReplicaWorld.open(t, [], { replicas: 1 });
    const { store, disk } = world.replicas[0]!;
    await store.fence(BLOCK, 1 as Epoch);
    await store.seal(BLOCK, at(world, 0, 1));
    assert.equal(disk.paths, [BLOCK_PATH, 'blocks/65537.0.ops']);
    await world.restart(0);
    const again = world.replicas[0]!.store;
    assert.is(await codeOf(again.read(BLOCK, 0 as FileId, undefined, ALL, false)), 'NOT_FOUND');
    assert.equal((await again.verify(BLOCK)).problems, []);
    assert.equal(world.replicas[0]!.disk.paths, [BLOCK_PATH, 'blocks/65537.0.ops']);
  });
});
