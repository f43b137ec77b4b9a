import * as assert from 'uvu/assert';
import { OpType } from '../../../common/format/ops.ts';
import type { FileId } from '../../../common/ids.ts';
import { BlockFlag, BlockState, NameFlag } from '../../../common/wire/messages.ts';
import { tableDigest } from '../../../common/wire/table-digest.ts';
import { mutation } from '../../kit/block-world.ts';
import { codeOf } from '../../kit/code-of.ts';
import type { RecordingDisk } from '../../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH, OPS_PATH, ReplicaWorld, SEAL_EPOCH } from '../../kit/replica-world.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ALL = { offset: 0, length: 0xffff_ffff };
const SIZES = [300, 500, 40];
const UNUSABLE = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;

/** The only replica of a block, under a process at whose start the disk failed to read that file. */
async function unread(t: TestContext, path: string, { seal = true } = {}): Promise<ReplicaWorld> {
  const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
  if (seal) await world.seal();
  await world.replicas[0]!.store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
  await world.restart(0, (disk) => disk.spoil(path, 0, 4096));
  const { store } = world.replicas[0]!;
  assert.is(store.info(BLOCK)!.flags, UNUSABLE);
  assert.is(await codeOf(read(world, 0)), 'DONT_KNOW');
  assert.equal(await store.reopenQuarantined(), [], 'it still fails');
  assert.is(store.info(BLOCK)!.flags, UNUSABLE);
  return world;
}

const read = (world: ReplicaWorld, slot: number) =>
  world.replicas[0]!.store.read(BLOCK, slot as FileId, world.records[slot]!.cookie, ALL, false);

async function answers(world: ReplicaWorld): Promise<void> {
  for (const slot of [0, 2])
    assert.ok((await read(world, slot)).payload.equals(world.records[slot]!.payload));
  assert.is(await codeOf(read(world, 1)), 'NOT_FOUND', 'deleted stays deleted');
  const { store } = world.replicas[0]!;
  assert.equal((await store.verify(BLOCK)).problems, []);
  assert.is(store.digest, tableDigest(store.entries()), 'and is reported so');
}

describe('an ops log that its disk fails to read before it is written to for the first time', (test) => {
  test('is suspect; the disk goes on being written to', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
    await world.seal();
    await world.replicas[0]!.store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
    await world.restart(0);
    const { store, disk } = world.replicas[0]!;
    await store.opsState(BLOCK);
    disk.spoil(OPS_PATH, 0, 4096);
    const undelete = () => store.appendOps(BLOCK, [mutation(OpType.UNDELETE, 1, { seq: 3 })]);
    assert.is(await codeOf(undelete()), undefined, 'what it said is in memory, and goes into a new file');
    assert.is(store.readOnly, undefined);
    assert.is(store.info(BLOCK)!.flags, 0);
    assert.ok((await read(world, 1)).payload.equals(world.records[1]!.payload));
    assert.equal((await store.verify(BLOCK)).problems, []);
    await world.restart(0);
    assert.ok((await read(world, 1)).payload.equals(world.records[1]!.payload));
  });

  test('is suspect where it is not in memory either; the disk goes on being written to', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
    await world.seal();
    await world.replicas[0]!.store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
    await world.restart(0);
    const { store, disk } = world.replicas[0]!;
    disk.spoil(OPS_PATH, 0, 4096);
    const undelete = () => store.appendOps(BLOCK, [mutation(OpType.UNDELETE, 1, { seq: 3 })]);
    assert.is(await codeOf(undelete()), 'IO');
    assert.is(store.readOnly, undefined);
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    disk.spoil(OPS_PATH, 0, 0);
    assert.is(await codeOf(undelete()), undefined);
    assert.ok((await read(world, 1)).payload.equals(world.records[1]!.payload));
  });
});

describe('a block that its disk failed to read when the server started', (test) => {
  for (const path of [BLOCK_PATH, OPS_PATH])
    test(`is used as soon as it can be read again: ${path}`, async (t) => {
      const world = await unread(t, path);
      const { store, disk } = world.replicas[0]!;
      disk.spoil(path, 0, 0);
      assert.equal(await store.reopenQuarantined(), [BLOCK]);
      assert.equal([store.info(BLOCK)!.state, store.info(BLOCK)!.flags], [BlockState.SEALED, 0]);
      assert.equal([store.info(BLOCK)!.length, store.info(BLOCK)!.seq], [world.writer.offset, 2]);
      await answers(world);
      assert.equal(await store.reopenQuarantined(), [], 'nothing more to do');
      // Its log goes on where it was.
      await store.appendOps(BLOCK, [mutation(OpType.HIDE, 2, { seq: 3 })]);
      assert.is(await store.check(BLOCK, 2 as FileId), NameFlag.HIDDEN);
      await world.restart(0);
      assert.is(await world.replicas[0]!.store.check(BLOCK, 2 as FileId), NameFlag.HIDDEN);
    });

  test('and that waits for its seal gets it', async (t) => {
    const world = await unread(t, BLOCK_PATH, { seal: false });
    const { store, disk } = world.replicas[0]!;
    disk.spoil(BLOCK_PATH, 0, 0);
    assert.equal(await store.reopenQuarantined(), [BLOCK]);
    assert.equal([store.info(BLOCK)!.state, store.info(BLOCK)!.flags], [BlockState.RECOVERED, 0]);
    const { validLength: length, slots } = await store.fence(BLOCK, SEAL_EPOCH);
    assert.equal([length, slots], [world.writer.offset, SIZES.length]);
    await store.seal(BLOCK, { length, slots, digest: undefined, epoch: SEAL_EPOCH });
    await answers(world);
    await world.restart(0);
    await answers(world);
  });

  test('and is damaged, or gone, stays as it is', async (t) => {
    const damages: ((disk: RecordingDisk) => void | Promise<void>)[] = [
      (disk) => disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 100, 101)),
      (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0x77, 80, 81)),
      (disk) => disk.unlink(BLOCK_PATH),
      (disk) => disk.unlink(OPS_PATH),
    ];
    for (const damage of damages) {
      const world = await unread(t, BLOCK_PATH);
      const { store, disk } = world.replicas[0]!;
      disk.spoil(BLOCK_PATH, 0, 0);
      await damage(disk);
      assert.equal(await store.reopenQuarantined(), []);
      assert.is(store.info(BLOCK)!.flags, UNUSABLE);
    }
  });

  test('and is being made anew from another replica is left to that', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    await world.seal();
    await world.restart(0, (disk) => disk.spoil(BLOCK_PATH, 0, 4096));
    const { store, disk } = world.replicas[0]!;
    disk.spoil(BLOCK_PATH, 0, 0);
    const repaired = world.repair(0, [1]);
    assert.equal(await store.reopenQuarantined(), []);
    assert.is((await repaired).whole, true);
    assert.is(store.info(BLOCK)!.flags, 0);
  });
});
