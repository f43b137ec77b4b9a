import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError, TfsError } from '../../../common/errors.ts';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { NO_OP_ID, OpType } from '../../../common/format/ops.ts';
import type { FileId, ServerId } from '../../../common/ids.ts';
import { BlockFlag, BlockState, NameFlag } from '../../../common/wire/messages.ts';
import type { BlockStore, FaultName } from '../../../dataserver/block/store.ts';
import { faultsOf, mutation, openStore, VERSION, type WorldOptions } from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import {
  BLOCK,
  BLOCK_PATH,
  donorOf,
  IDX_PATH,
  OPS_PATH,
  type Replica,
  ReplicaWorld,
  SEAL_EPOCH,
} from '../../kit/replica-world.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const MIB = 1 << 20;
const ALL = { offset: 0, length: 0xffff_ffff };
const SIZES = [100, 8, 1, 70_001, 33, MIB + 5, 64, 500, 3];
const BLOCK_BYTES = 4 * MIB;

const codeOf = async (work: Promise<unknown>): Promise<ErrorCode | undefined> => {
  try {
    await work;
    return undefined;
  } catch (error) {
    assert.ok(isTfsError(error), String(error));
    return (error as TfsError).code;
  }
};

/** Three sealed replicas with a name deleted; 0 is the one that gets damaged. */
async function sealed(
  t: TestContext,
  sizes: readonly number[] = SIZES,
  options: WorldOptions & { replicas?: number } = {},
): Promise<ReplicaWorld> {
  const world = await ReplicaWorld.open(t, sizes, { blockBytes: BLOCK_BYTES, ...options });
  await world.seal();
  for (const { store } of world.replicas)
    await store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
  return world;
}

/** Marks what a reader would have found. */
async function suspect({ store }: Replica): Promise<void> {
  assert.ok((await store.verify(BLOCK)).problems.length > 0, 'the damage is seen');
}

async function isLikeTheOthers(world: ReplicaWorld, replica = 0): Promise<void> {
  const { disk, store } = world.replicas[replica]!;
  const good = world.replicas[2]!.disk;
  assert.ok((await disk.readFile(BLOCK_PATH)).equals(await good.readFile(BLOCK_PATH)), 'the same bytes');
  assert.ok((await disk.readFile(IDX_PATH)).equals(await good.readFile(IDX_PATH)), 'the same index');
  assert.equal((await store.verify(BLOCK)).problems, []);
  assert.is(store.info(BLOCK)!.flags, 0);
  assert.is(store.info(BLOCK)!.state, BlockState.SEALED);
  for (const { slot, cookie, payload } of world.records) {
    const read = store.read(BLOCK, slot as number as FileId, cookie, ALL, false);
    if (slot === 1) assert.is(await codeOf(read), 'NOT_FOUND', 'deleted stays deleted');
    else assert.ok((await read).payload.equals(payload), `slot ${slot}`);
  }
  // And for the next process.
  await world.restart(replica);
  const again = world.replicas[replica]!.store;
  assert.equal((await again.verify(BLOCK)).problems, []);
  assert.is(await again.check(BLOCK, 1 as FileId), NameFlag.DELETED);
}

const NEWER = { epoch: VERSION.epoch, n: VERSION.n + 1 };
/** A newer configuration, of the same members. */
const BEGIN = {
  ...({ type: OpType.CFG, version: NEWER, seq: 3, atMs: 0, opId: NO_OP_ID } as const),
  ...{ members: [1, 2, 3].map((id) => id as ServerId), opsPrimary: 1 as ServerId },
};

describe('a replica is made whole', (test) => {
  const damages: Record<string, (world: ReplicaWorld) => void> = {
    'a payload': (world) => world.flip(0, world.startOf(3) + 5000),
    'a header': (world) => world.flip(0, world.startOf(4) + 9),
    'two headers in a row and a payload behind them': (world) => {
      for (const slot of [3, 4]) world.flip(0, world.startOf(slot) + 2);
      world.flip(0, world.startOf(5) + 200);
    },
    'the first and the last record': (world) => {
      world.flip(0, world.startOf(0));
      world.flip(0, world.startOf(8) + 82);
    },
    'the padding between two records': (world) => world.flip(0, world.startOf(1) - 1),
    'the superblock': (world) => world.flip(0, 60),
    'everything behind the superblock': (world) =>
      world.replicas[0]!.disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x55, 4096)),
    'its end, cut off': (world) =>
      world.replicas[0]!.disk.corrupt(BLOCK_PATH, (bytes) => bytes.subarray(0, world.startOf(4) + 7)),
    'sectors that cannot be read': (world) => world.replicas[0]!.disk.spoil(BLOCK_PATH, 8192, 16_384),
  };

  for (const [what, damage] of Object.entries(damages)) {
    test(`${what}: from the others`, async (t) => {
      const world = await sealed(t);
      damage(world);
      await suspect(world.replicas[0]!);
      const received = await world.repair(0, [1, 2]);
      assert.equal([received.whole, received.lost], [true, 0]);
      await isLikeTheOthers(world);
      const trash = await world.replicas[0]!.disk.list('trash');
      assert.is(trash.length, 1, 'the damaged file is kept');
    });

    test(`${what}: in another process, without an index file`, async (t) => {
      const world = await sealed(t);
      damage(world);
      await world.restart(0, (disk) => disk.unlink(IDX_PATH));
      if (world.replicas[0]!.store.info(BLOCK)!.flags === 0) await suspect(world.replicas[0]!);
      assert.is((await world.repair(0, [1, 2])).whole, true);
      await isLikeTheOthers(world);
    });
  }

  test('a good replica is left alone', async (t) => {
    const world = await sealed(t);
    const received = await world.repair(0, [1, 2]);
    assert.equal(received, { whole: true, fetched: 0, lost: 0 });
    assert.equal(await world.replicas[0]!.disk.list('trash'), []);
  });

  test('suspected, and sound after all: the file stays, the suspicion goes', async (t) => {
    const world = await sealed(t);
    world.flip(0, 5000);
    await suspect(world.replicas[0]!);
    world.flip(0, 5000);
    assert.equal(await world.repair(0, [1, 2]), { whole: true, fetched: 0, lost: 0 });
    assert.equal(await world.replicas[0]!.disk.list('trash'), []);
    await isLikeTheOthers(world);
  });

  test('only the bad records travel, each from a source that has it', async (t) => {
    const world = await sealed(t);
    for (const slot of [2, 3, 7]) world.flip(0, world.startOf(slot) + 80);
    // Neither source is whole: 1 lacks what 2 has, and the other way round.
    world.flip(1, world.startOf(3) + 80);
    world.flip(2, world.startOf(2) + 80);
    for (const replica of world.replicas) await suspect(replica);
    assert.equal(await world.repair(0, [1, 2]), { whole: true, fetched: 3, lost: 0 });
    assert.is((await world.repair(1, [0, 2])).whole, true);
    assert.is((await world.repair(2, [1, 0])).whole, true);
    for (const i of [0, 1, 2]) await isLikeTheOthers(world, i);
  });

  test('a source that sends something else is not believed, and not asked again', async (t) => {
    const world = await sealed(t);
    for (const slot of [2, 7]) world.flip(0, world.startOf(slot) + 80);
    await suspect(world.replicas[0]!);
    const liar = world.donor(1);
    let asked = 0;
    const records: typeof liar.records = async (offset, length) => {
      asked++;
      const answer = await liar.records(offset, length);
      const bytes = Buffer.from(answer.bytes);
      bytes[bytes.length - 1]! ^= 1;
      return { ...answer, bytes };
    };
    const received = await world.receive(0, [{ ...liar, records }, world.donor(2)]);
    assert.equal([received.whole, asked], [true, 1]);
    await isLikeTheOthers(world);
  });

  test('a record that nobody has is lost, alone; the rest is made good and read on', async (t) => {
    const world = await sealed(t);
    for (const i of [0, 1, 2]) world.flip(i, world.startOf(3) + 3);
    for (const i of [0, 1, 2]) world.flip(i, world.startOf(4) + 3);
    for (const slot of [2, 5, 6]) world.flip(0, world.startOf(slot) + 80);
    await suspect(world.replicas[0]!);
    const before = await world.replicas[0]!.disk.readFile(BLOCK_PATH);
    assert.equal(await world.repair(0, [1, 2]), { whole: false, fetched: 3, lost: 2 });
    const { disk, store } = world.replicas[0]!;
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    const after = await disk.readFile(BLOCK_PATH);
    const [from, to] = [world.startOf(3), world.startOf(5)];
    assert.ok(after.subarray(from, to).equals(before.subarray(from, to)), 'its bytes stay as they are');
    for (const { slot, cookie, payload } of world.records) {
      if (slot === 1) continue;
      const read = store.read(BLOCK, slot as number as FileId, cookie, ALL, false);
      if (slot === 3 || slot === 4) assert.is(await codeOf(read), 'CORRUPT');
      else assert.ok((await read).payload.equals(payload), `slot ${slot}`);
    }
    // Again, with nothing better to be had: nothing is replaced.
    const trash = await disk.list('trash');
    assert.is((await world.repair(0, [1, 2])).lost, 2);
    assert.equal(await disk.list('trash'), trash);
    // What turns up later is taken.
    world.flip(2, world.startOf(3) + 3);
    world.flip(2, world.startOf(4) + 3);
    assert.equal(await world.repair(0, [1, 2]), { whole: true, fetched: 2, lost: 0 });
    await isLikeTheOthers(world);
  });

  const failures: Record<string, (world: ReplicaWorld) => void> = {
    'a sector': (world) => world.replicas[0]!.disk.spoil(BLOCK_PATH, world.startOf(3), world.startOf(4)),
    'the file': ({ replicas }) => {
      const { disk } = replicas[0]!;
      disk.open = async (path, mode) => {
        if (path === BLOCK_PATH) throw new TfsError('IO', 'planted');
        return RecordingDisk.prototype.open.call(disk, path, mode);
      };
    },
  };
  for (const [what, fail] of Object.entries(failures))
    test(`${what} that the disk fails to read for a while, and of which nobody else has all, is not lost`, async (t) => {
      const world = await sealed(t);
      for (const i of [1, 2]) world.flip(i, world.startOf(3) + 3);
      world.flip(0, world.startOf(6) + 80);
      await suspect(world.replicas[0]!);
      await world.restart(0);
      const { disk, store } = world.replicas[0]!;
      const before = await disk.readFile(BLOCK_PATH);
      fail(world);
      await suspect(world.replicas[0]!);
      assert.is(await codeOf(world.repair(0, [1, 2])), 'IO');
      assert.equal(await disk.list('trash'), []);
      disk.open = RecordingDisk.prototype.open;
      disk.spoil(BLOCK_PATH, 0, 0);
      assert.ok((await disk.readFile(BLOCK_PATH)).equals(before), 'its file stays as it is');
      assert.equal(await world.repair(0, [1, 2]), { whole: true, fetched: 1, lost: 0 });
      assert.is(store.info(BLOCK)!.flags, 0);
      const { cookie, payload } = world.records[3]!;
      assert.ok((await store.read(BLOCK, 3 as FileId, cookie, ALL, false)).payload.equals(payload));
    });

  test('a sector that the disk will never read again is given up when that is ordered', async (t) => {
    const world = await sealed(t);
    for (const i of [1, 2]) world.flip(i, world.startOf(3) + 3);
    world.replicas[0]!.disk.spoil(BLOCK_PATH, world.startOf(3), world.startOf(4));
    await suspect(world.replicas[0]!);
    const order = { ...world.order(), mayLoseUnread: true };
    const { whole, lost } = await world.receive(0, [world.donor(1), world.donor(2)], order);
    assert.equal([whole, lost], [false, 1]);
    assert.is((await world.replicas[0]!.disk.list('trash')).length, 1, 'the file is kept for a while');
    for (const slot of [2, 5]) {
      const { cookie, payload } = world.records[slot]!;
      const read = await world.replicas[0]!.store.read(BLOCK, slot as FileId, cookie, ALL, false);
      assert.ok(read.payload.equals(payload), 'what it shared its sectors with came from the others');
    }
  });

  test('a source that is away may have what is missing: what can be mended is, and the repair is not done', async (t) => {
    const world = await sealed(t);
    for (const slot of [3, 5]) world.flip(0, world.startOf(slot) + 80);
    world.flip(1, world.startOf(3) + 80);
    await suspect(world.replicas[0]!);
    assert.is(await codeOf(world.receive(0, [world.donor(1), world.lostDonor(2)])), 'UNAVAILABLE');
    const { store } = world.replicas[0]!;
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    const mended = world.records[5]!;
    const read = await store.read(BLOCK, 5 as FileId, mended.cookie, ALL, false);
    assert.ok(read.payload.equals(mended.payload));
    assert.is((await world.repair(0, [1, 2])).whole, true);
    await isLikeTheOthers(world);
  });

  test('records that are sound and not those that were sealed are replaced as a whole', async (t) => {
    const world = await sealed(t);
    const other = await ReplicaWorld.open(t, [7, 7, 7], { replicas: 1, blockBytes: BLOCK_BYTES, seed: 9 });
    const foreign = await other.replicas[0]!.disk.readFile(BLOCK_PATH);
    world.replicas[0]!.disk.corrupt(BLOCK_PATH, (bytes) => {
      foreign.copy(bytes, 0, 0, other.writer.offset);
      bytes.fill(0, other.writer.offset);
    });
    await suspect(world.replicas[0]!);
    assert.is((await world.repair(0, [1, 2])).whole, true);
    await isLikeTheOthers(world);
  });

  test('reads go on while it happens, each of them right', async (t) => {
    const world = await sealed(t);
    for (const slot of [0, 5]) world.flip(0, world.startOf(slot) + 80);
    await suspect(world.replicas[0]!);
    const { store } = world.replicas[0]!;
    let done = false;
    let reads = 0;
    const reading = [3, 4, 6, 8].map(async (slot) => {
      const { cookie, payload } = world.records[slot]!;
      while (!done) {
        const offset = slot === 3 ? 10_000 : 0;
        const { payload: got } = await store.read(BLOCK, slot as FileId, cookie, { ...ALL, offset }, false);
        assert.ok(got.equals(payload.subarray(offset)));
        reads++;
      }
    });
    assert.is((await world.repair(0, [1, 2])).whole, true);
    done = true;
    await Promise.all(reading);
    assert.ok(reads > 8);
    await isLikeTheOthers(world);
  });

  test('a file that is removed under a running server: what is open is the last copy, what is not is made anew', async (t) => {
    for (const isLoaded of [true, false]) {
      const world = await sealed(t);
      await world.restart(0);
      const { store, disk } = world.replicas[0]!;
      const read = () => store.read(BLOCK, 0 as FileId, world.records[0]!.cookie, ALL, false);
      if (isLoaded) {
        await read();
        await disk.unlink(BLOCK_PATH);
        await suspect(world.replicas[0]!);
        // Nobody else has this one.
        for (const i of [1, 2]) world.flip(i, world.startOf(3) + 200);
      } else {
        await disk.unlink(BLOCK_PATH);
        assert.is(await codeOf(read()), 'IO');
        assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
      }
      assert.is((await world.repair(0, [1, 2])).whole, true);
      for (const i of [1, 2]) if (isLoaded) world.flip(i, world.startOf(3) + 200);
      await isLikeTheOthers(world);
    }
  });

  test('an order for another generation, length or digest is refused, and a second one at the same time', async (t) => {
    const world = await sealed(t);
    world.flip(0, 5000);
    await suspect(world.replicas[0]!);
    const order = world.order();
    const to = (changes: object) => codeOf(world.receive(0, [world.donor(1)], { ...order, ...changes }));
    assert.is(await to({ generation: 1 }), 'UNAVAILABLE', 'nobody has it');
    assert.is(await to({ seal: { ...order.seal, length: 4096 } }), 'CONFLICT');
    assert.is(await to({ seal: { ...order.seal, digest: Buffer.alloc(32) } }), 'CONFLICT');
    const both = await Promise.all([to({}), to({})]);
    assert.equal(both.sort(), ['CONFLICT', undefined]);
  });

  test('a block that is not sealed is left to its seal', async (t) => {
    const world = await ReplicaWorld.open(t, [100, 200]);
    const sealedOne = await sealed(t, [100, 200]);
    world.flip(0, 4096 + 81);
    await suspect(world.replicas[0]!);
    assert.is(await codeOf(world.receive(0, [world.donor(1)], sealedOne.order())), 'CONFLICT');
  });

  test('a disk without room gives up its trash first', async (t) => {
    const world = await sealed(t);
    world.flip(0, 5000);
    await suspect(world.replicas[0]!);
    await world.repair(0, [1, 2]);
    world.flip(0, 5000);
    await suspect(world.replicas[0]!);
    const { disk } = world.replicas[0]!;
    assert.is((await disk.list('trash')).length, 1);
    disk.capacityBytes = disk.usedBytes + world.writer.offset;
    assert.is((await world.repair(0, [1, 2])).whole, true);
    assert.is((await disk.list('trash')).length, 1, 'the newer one');
    world.flip(0, 5000);
    await suspect(world.replicas[0]!);
    disk.capacityBytes = disk.usedBytes - world.writer.offset + 1000;
    assert.is(await codeOf(world.repair(0, [1, 2])), 'DISK_FULL');
    assert.is(world.replicas[0]!.store.readOnly, undefined);
    assert.is(world.replicas[0]!.store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
  });
}, 60_000);

describe('a replica that could not be opened is made whole', (test) => {
  const damages: Record<string, (disk: RecordingDisk) => void | Promise<void>> = {
    'the superblock': (disk) => disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 100, 101)),
    'the ops log': (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0x77, 80, 81)),
    'the header of the ops log': (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0x77, 20, 21)),
    'the ops log, gone': (disk) => disk.unlink(OPS_PATH),
    'the ops log, of a file that was not cut yet': (disk) => {
      disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0x77, 20, 21));
      disk.corrupt(BLOCK_PATH, (bytes) => Buffer.concat([bytes, Buffer.alloc(8192)]));
    },
    'the ops log, unreadable': (disk) => disk.spoil(OPS_PATH, 0, 4096),
    'superblock, ops log and records': (disk) => {
      disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0xaa, 0, 6000));
      disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(0xaa));
    },
    'an empty block file': (disk) => disk.corrupt(BLOCK_PATH, () => Buffer.alloc(0)),
    'no block file': (disk) => disk.unlink(BLOCK_PATH),
    'no file at all': async (disk) => {
      for (const path of [BLOCK_PATH, OPS_PATH, IDX_PATH]) await disk.unlink(path);
    },
  };
  for (const [what, damage] of Object.entries(damages)) {
    test(what, async (t) => {
      const world = await sealed(t);
      await world.restart(0, damage);
      const info = world.replicas[0]!.store.info(BLOCK);
      if (info !== undefined) assert.ok((info.flags & BlockFlag.QUARANTINED) !== 0);
      assert.is((await world.repair(0, [1, 2])).whole, true);
      await isLikeTheOthers(world);
      assert.is(world.replicas[0]!.store.info(BLOCK)!.seq, 2);
    });
  }

  test('a replica that waited for its seal takes the seal of the others', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { blockBytes: BLOCK_BYTES });
    await world.restart(0, (disk) => disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 100, 101)));
    const bad = world.replicas.shift()!;
    await world.seal();
    world.replicas.unshift(bad);
    assert.is((await world.repair(0, [1, 2])).whole, true);
    const { disk, store } = bad;
    assert.ok((await disk.readFile(BLOCK_PATH)).equals(await world.replicas[2]!.disk.readFile(BLOCK_PATH)));
    assert.is(store.info(BLOCK)!.state, BlockState.SEALED);
    assert.equal((await store.verify(BLOCK)).problems, []);
  });

  test('a replica that waits for its seal, on a disk that fails to read it: only while it does', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { blockBytes: BLOCK_BYTES });
    await world.restart(0, (disk) => disk.spoil(BLOCK_PATH, 8192, 16_384));
    const bad = world.replicas.shift()!;
    await world.seal();
    world.replicas.unshift(bad);
    assert.is(await codeOf(world.repair(0, [1, 2])), 'CONFLICT', 'nobody has tried to read it');
    assert.is(await codeOf(bad.store.fence(BLOCK, SEAL_EPOCH)), 'IO');
    assert.is(bad.store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    bad.disk.spoil(BLOCK_PATH, 0, 0);
    assert.is(await codeOf(world.repair(0, [1, 2])), 'CONFLICT', 'it can be read again: it may hold more');
    assert.is(bad.store.info(BLOCK)!.flags, 0);

    await world.restart(0, (disk) => disk.spoil(BLOCK_PATH, 8192, 16_384));
    assert.is(await codeOf(bad.store.fence(BLOCK, SEAL_EPOCH)), 'IO');
    const { whole, lost, fetched } = await world.repair(0, [1, 2]);
    assert.equal([whole, lost], [true, 0]);
    assert.ok(fetched < SIZES.length, 'what can be read stays');
    assert.ok(
      (await bad.disk.readFile(BLOCK_PATH)).equals(await world.replicas[2]!.disk.readFile(BLOCK_PATH)),
    );
    assert.is(bad.store.info(BLOCK)!.state, BlockState.SEALED);
    assert.is((await bad.disk.list('trash')).length, 1, 'the old file is kept');
    await world.restart(0);
    assert.equal((await bad.store.verify(BLOCK)).problems, []);
  });

  test('an ops log that is found damaged in memory is written again from there, or taken from another', async (t) => {
    for (const warm of [true, false]) {
      const world = await sealed(t);
      if (!warm) await world.restart(0);
      world.flip(0, 80, OPS_PATH);
      await suspect(world.replicas[0]!);
      if (!warm)
        assert.is(
          await codeOf(Promise.resolve(world.replicas[0]!.store.check(BLOCK, 1 as FileId))),
          'CORRUPT',
        );
      assert.is((await world.repair(0, [1, 2])).whole, true);
      const kept = await world.replicas[0]!.disk.list('trash');
      assert.ok(
        kept.some((name) => name.includes('.ops.')),
        kept.join(),
      );
      await isLikeTheOthers(world);
    }
  });

  test('an ops log that could not be read before its block was sealed is written again', async (t) => {
    for (const isFenced of [false, true]) {
      const world = await ReplicaWorld.open(t, SIZES, { blockBytes: BLOCK_BYTES });
      const [bad] = world.replicas as [Replica];
      await world.restart(0);
      for (const { store } of world.replicas)
        await store.appendOps(BLOCK, [mutation(OpType.DELETE, 1, { seq: 2 })]);
      if (isFenced) await bad.store.fence(BLOCK, SEAL_EPOCH);
      bad.disk.spoil(OPS_PATH, 0, 80);
      const next = { epoch: VERSION.epoch, n: VERSION.n + 1 };
      assert.is(await codeOf(bad.store.prepareOps(BLOCK, next)), 'IO');
      await world.seal();
      assert.ok(
        (bad.store.info(BLOCK)!.flags & BlockFlag.SUSPECT) !== 0,
        'the seal is no word about the log',
      );
      assert.is((await world.repair(0, [1, 2])).whole, true);
      assert.is((await bad.store.prepareOps(BLOCK, { ...next, n: next.n + 1 })).at(-1)?.seq, 2);
      await isLikeTheOthers(world);
    }
  });

  test('an ops log that the disk failed to read for a moment needs no other replica', async (t) => {
    const world = await sealed(t, SIZES, { replicas: 1 });
    await world.restart(0);
    const [only] = world.replicas as [Replica];
    only.disk.spoil(OPS_PATH, 0, 80);
    assert.ok((await only.store.verify(BLOCK)).problems.length > 0, 'the damage is seen');
    assert.is(await codeOf(world.repair(0, [])), 'UNAVAILABLE');
    only.disk.spoil(OPS_PATH, 0, 0);
    assert.is((await world.repair(0, [])).whole, true);
    assert.equal((await only.store.verify(BLOCK)).problems, []);
    assert.is(only.store.info(BLOCK)!.flags, 0);
    assert.is(await only.store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
  });

  test('operations come from a member of the newest configuration alone', async (t) => {
    const world = await sealed(t);
    await world.restart(0, (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1)));
    assert.is(
      await codeOf(world.receive(0, [world.donor(1)], { ...world.order(), version: NEWER })),
      'UNAVAILABLE',
    );
    assert.ok((world.replicas[0]!.store.info(BLOCK)!.flags & BlockFlag.QUARANTINED) !== 0);
    // Not a member: it may have missed what was acknowledged since.
    const stranger = { ...world.donor(1), server: 9 as ServerId };
    assert.is(await codeOf(world.receive(0, [stranger])), 'UNAVAILABLE');
  });

  test('the sequencer asks every member for its log, and takes the longest', async (t) => {
    const world = await sealed(t);
    await world.replicas[2]!.store.appendOps(BLOCK, [mutation(OpType.HIDE, 2, { seq: 3 })]);
    await world.restart(0, (disk) => disk.unlink(OPS_PATH));
    assert.is(await codeOf(world.receive(0, [world.donor(1), world.lostDonor(2)])), 'UNAVAILABLE');
    assert.is((await world.repair(0, [1, 2])).whole, true);
    assert.is(world.replicas[0]!.store.info(BLOCK)!.seq, 3);
    assert.is(await world.replicas[0]!.store.check(BLOCK, 2 as FileId), NameFlag.HIDDEN);
  });

  test('the sequencer whose damaged log still tells its newest operation needs one member that has that', async (t) => {
    const damaged: Record<string, (world: ReplicaWorld) => Promise<void>> = {
      'found while it runs': async (world) => {
        await world.restart(0);
        world.flip(0, 80, OPS_PATH);
        await suspect(world.replicas[0]!);
      },
      'found by the next process': async (world) => {
        world.flip(0, 80, OPS_PATH);
        await world.restart(0);
        assert.is(world.replicas[0]!.store.info(BLOCK)!.flags, BlockFlag.SUSPECT | BlockFlag.QUARANTINED);
      },
    };
    for (const [when, damage] of Object.entries(damaged)) {
      const world = await sealed(t);
      await damage(world);
      const from = [world.donor(1), world.lostDonor(2)];
      assert.is((await world.receive(0, from)).whole, true, when);
      await isLikeTheOthers(world);

      const ahead = await sealed(t);
      await ahead.replicas[0]!.store.appendOps(BLOCK, [mutation(OpType.HIDE, 2, { seq: 3 })]);
      await damage(ahead);
      // The third member may have it, and the sequencer would give its place to another one.
      const refused = ahead.receive(0, [ahead.donor(1), ahead.lostDonor(2)]);
      assert.is(await codeOf(refused), 'UNAVAILABLE', `${when}: begun, and not with that member`);
      assert.is((await ahead.repair(0, [1, 2])).whole, true);
      assert.is(ahead.replicas[0]!.store.info(BLOCK)!.seq, 2);
    }
  });

  test('the sequencer asks every member where its log does not tell its newest operation', async (t) => {
    const damaged: Record<string, (bytes: Buffer) => Buffer | undefined> = {
      'its first bytes are lost': (bytes) => void bytes.fill(1, 0, 16),
      'its last bytes are lost': (bytes) => bytes.subarray(0, bytes.length - 8),
      'a write was torn behind them': (bytes) => Buffer.concat([bytes, Buffer.alloc(8)]),
    };
    for (const [what, damage] of Object.entries(damaged)) {
      const world = await sealed(t);
      await world.restart(0, (disk) =>
        disk.corrupt(OPS_PATH, (bytes) => {
          bytes[80]! ^= 0x10;
          return damage(bytes);
        }),
      );
      const refused = world.receive(0, [world.donor(1), world.lostDonor(2)]);
      assert.is(await codeOf(refused), 'UNAVAILABLE', what);
      assert.is((await world.repair(0, [1, 2])).whole, true, what);
    }
  });

  test('the sequencer does not take the log of another version for all that its own had', async (t) => {
    const world = await sealed(t);
    await world.replicas[1]!.store.appendOps(BLOCK, [BEGIN]);
    world.flip(0, 80, OPS_PATH);
    await world.restart(0);
    assert.is(await codeOf(world.receive(0, [world.donor(1), world.lostDonor(2)])), 'UNAVAILABLE');
  });

  test('the sequencer of a configuration that was not finished needs no place of a member that it never came to', async (t) => {
    const world = await sealed(t);
    for (const i of [0, 1]) await world.replicas[i]!.store.appendOps(BLOCK, [BEGIN]);
    const order = { ...world.order(), version: NEWER };
    await world.restart(0, (disk) => disk.unlink(OPS_PATH));
    assert.is(
      await codeOf(world.receive(0, [world.donor(1)], order)),
      'UNAVAILABLE',
      'one that nobody asked',
    );
    const other = { ...world.donor(2), ops: async () => ({ version: VERSION, ops: [] }) };
    assert.is(await codeOf(world.receive(0, [world.donor(1), other], order)), 'UNAVAILABLE', 'says nothing');
    assert.is((await world.receive(0, [world.donor(1), world.donor(2)], order)).whole, true);
    const { version, seq, flags } = world.replicas[0]!.store.info(BLOCK)!;
    assert.equal([version, seq, flags], [NEWER, 3, 0]);
    assert.is(await world.replicas[0]!.store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
  });

  test('the sequencer of a block that was sealed without a record needs no more than one member', async (t) => {
    const world = await ReplicaWorld.open(t, []);
    await world.seal();
    await world.restart(0, (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1)));
    assert.is(world.replicas[0]!.store.info(BLOCK)!.flags & BlockFlag.QUARANTINED, BlockFlag.QUARANTINED);
    // The third member never had it, or let go of it already.
    assert.is((await world.receive(0, [world.donor(1)])).whole, true);
    const { state, flags, seal } = world.replicas[0]!.store.info(BLOCK)!;
    assert.equal([state, flags, seal!.slots], [BlockState.SEALED, 0, 0]);
    await world.replicas[0]!.store.drop({ ...world.order(), reason: 'retired' });
    assert.is(world.replicas[0]!.store.info(BLOCK), undefined);
  });

  test('a server that the configuration does not list gets no replica', async (t) => {
    const world = await sealed(t);
    const store = await openStore(new RecordingDisk(), { server: 4 as ServerId });
    t.defer(() => store.close());
    assert.is(await codeOf(store.receiveReplica(world.order(), [world.donor(1)])), 'CONFLICT');
    assert.is(store.info(BLOCK), undefined);
  });

  test('one that is to become a member gets a whole replica, with the operations, and is none yet', async (t) => {
    const world = await sealed(t);
    const disk = new RecordingDisk();
    const store = await openStore(disk, { server: 4 as ServerId });
    t.defer(() => store.close());
    const order = { ...world.order(), joins: true };
    assert.is((await store.receiveReplica(order, [world.donor(1)])).whole, true);
    assert.ok((await disk.readFile(BLOCK_PATH)).equals(await world.replicas[2]!.disk.readFile(BLOCK_PATH)));
    const info = store.info(BLOCK)!;
    assert.equal([info.state, info.flags, info.seq], [BlockState.SEALED, 0, 2]);
    assert.equal(info.members, [1, 2, 3] as ServerId[]);
    assert.is(await store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
    // Again: nothing is to be done.
    assert.is((await store.receiveReplica(order, [])).fetched, 0);
  });

  test('what may not count any more in its last moment leaves nothing behind', async (t) => {
    const world = await sealed(t);
    const disk = new RecordingDisk();
    const store = await openStore(disk, { server: 4 as ServerId });
    t.defer(() => store.close());
    const refuse = async () => {
      throw new TfsError('STALE_EPOCH', 'another leader commands');
    };
    const receive = store.receiveReplica({ ...world.order(), joins: true }, [world.donor(1)], refuse);
    assert.is(await codeOf(receive), 'STALE_EPOCH');
    assert.is(store.info(BLOCK), undefined);
    assert.equal(await disk.list('blocks'), []);
    // Nor does it touch one that is there.
    world.flip(0, world.startOf(2) + 30);
    const [damaged] = world.replicas as [Replica];
    await suspect(damaged);
    const before = await damaged.disk.readFile(BLOCK_PATH);
    const order = { ...world.order() };
    assert.is(await codeOf(damaged.store.receiveReplica(order, [world.donor(1)], refuse)), 'STALE_EPOCH');
    assert.ok((await damaged.disk.readFile(BLOCK_PATH)).equals(before));
    assert.ok((damaged.store.info(BLOCK)!.flags & BlockFlag.SUSPECT) !== 0);
  });

  test('a disk that does not read at any moment leaves all of a new replica, or nothing that belongs to nobody', async (t) => {
    const world = await sealed(t, [100, 8, 900]);
    let failures = 0;
    for (let nth = 1; ; nth++) {
      const disk = new RecordingDisk();
      const store = await openStore(disk, { server: 4 as ServerId });
      disk.failure = { nth, code: 'IO', kinds: ['read', 'open'] };
      const code = await codeOf(store.receiveReplica({ ...world.order(), joins: true }, [world.donor(1)]));
      const isDone = disk.failure.nth > 0;
      disk.failure = undefined;
      if (store.info(BLOCK) === undefined) {
        assert.is(code, 'IO');
        assert.equal(await disk.list('blocks'), [], `after call ${nth}`);
        failures++;
      } else assert.equal((await store.verify(BLOCK)).problems, []);
      await store.close();
      if (isDone) break;
    }
    assert.ok(failures >= 4, `${failures}`);
  });

  test('a damaged replica that was left out of the configuration is made whole where it is', async (t) => {
    const world = await sealed(t);
    await world.restart(0, (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1)));
    const others = [2, 3] as ServerId[];
    const version = { epoch: VERSION.epoch, n: VERSION.n + 1 };
    for (const i of [1, 2])
      await world.replicas[i]!.store.appendOps(BLOCK, [
        {
          ...{ type: OpType.CFG, version, seq: 3, atMs: 0, opId: NO_OP_ID },
          ...{ members: others, opsPrimary: others[0]! },
        },
      ]);
    const received = await world.receive(0, [world.donor(1), world.donor(2)], { ...world.order(), version });
    assert.is(received.whole, true);
    const info = world.replicas[0]!.store.info(BLOCK)!;
    assert.is(info.flags, 0);
    assert.equal([info.version, info.seq, info.members], [version, 3, others]);
  });

  test('a replica that is not here is not made of half the records', async (t) => {
    const world = await sealed(t);
    await damages['no file at all']!(world.replicas[0]!.disk);
    await world.restart(0);
    world.flip(1, world.startOf(5) + 80);
    assert.is(await codeOf(world.receive(0, [world.donor(1), world.lostDonor(2)])), 'UNAVAILABLE');
    assert.is(world.replicas[0]!.store.info(BLOCK), undefined);
    assert.equal(
      await world.replicas[0]!.disk.list('blocks'),
      ['ops.reserve'].filter(() => false),
    );
    assert.is((await world.repair(0, [1, 2])).whole, true);
    await isLikeTheOthers(world);
  });
}, 60_000);

describe('a repair that is cut short', (test) => {
  const SMALL = [100, 8, 900, 33, 64];
  const damages: Record<string, (world: ReplicaWorld) => void | Promise<void>> = {
    records: (world) => {
      for (const slot of [0, 2]) world.flip(0, world.startOf(slot) + 80);
    },
    superblock: (world) =>
      world.restart(0, (disk) => disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0x77, 100, 101))),
    'ops log': (world) => world.restart(0, (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1))),
    both: (world) =>
      world.restart(0, (disk) => {
        disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(1, 0, 5000));
        disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1));
      }),
    everything: (world) =>
      world.restart(0, async (disk) => {
        for (const path of [BLOCK_PATH, OPS_PATH, IDX_PATH]) await disk.unlink(path);
      }),
  };

  /** What a replica is after a crash. */
  async function stateOf(image: RecordingDisk): Promise<{ store: BlockStore; state: string }> {
    const store = await openStore(image);
    const info = store.info(BLOCK);
    if (info === undefined) return { store, state: 'absent' };
    if ((info.flags & BlockFlag.QUARANTINED) !== 0) return { store, state: 'quarantined' };
    const { problems } = await store.verify(BLOCK);
    return { store, state: problems.length === 0 ? 'whole' : `damaged: ${problems.join('; ')}` };
  }

  /** Every disk that a power failure during or after a repair may leave, but for equal ones. */
  async function crashed(
    t: TestContext,
    damage: (world: ReplicaWorld) => void | Promise<void>,
    faults: readonly FaultName[] = [],
  ) {
    const world = await sealed(t, SMALL, { faults: faultsOf(...faults) });
    await damage(world);
    const { store, disk } = world.replicas[0]!;
    if (store.info(BLOCK)?.flags === 0) await suspect(world.replicas[0]!);
    const before = await stateOf(disk.settled());
    await before.store.close();
    const random = new SeededRandom(3);
    const keeps = [() => true, () => false, () => random.below(2) === 0, () => random.below(2) === 0];
    const during: RecordingDisk[] = [];
    disk.onStep = async () => {
      const point = disk.crashPoint();
      for (const keep of keeps) during.push(point.image(keep));
    };
    assert.is((await world.repair(0, [1, 2])).whole, true);
    disk.onStep = undefined;
    const point = disk.crashPoint();
    return { world, before: before.state, during, after: keeps.map((keep) => point.image(keep)) };
  }

  for (const [what, damage] of Object.entries(damages)) {
    test(`by a power failure at any step leaves the old replica or the new one (${what})`, async (t) => {
      const { world, before, during, after } = await crashed(t, damage);
      // Block file and ops log are made good one after the other: between them a block is known and cannot be read.
      const allowed = new Set([before, 'whole', 'quarantined']);
      const seen = new Set<string>();
      for (const image of during) {
        const { store, state } = await stateOf(image);
        assert.ok(allowed.has(state), state);
        seen.add(state);
        const donors = [world.donor(1), world.donor(2)];
        if (state !== 'whole') assert.is((await store.receiveReplica(world.order(), donors)).whole, true);
        assert.equal((await store.verify(BLOCK)).problems, []);
        assert.is(await store.check(BLOCK, 1 as FileId), NameFlag.DELETED);
        await store.close();
      }
      assert.ok(seen.has(before) && seen.has('whole'), [...seen].join());
      for (const image of after) assert.is((await stateOf(image)).state, 'whole');
    });
  }

  test('would lose records if it renamed before it synced, and undo itself if it did not sync the name', async (t) => {
    const early = await crashed(t, damages['records']!, ['rename-before-datasync']);
    const states = await Promise.all(early.during.map(async (image) => (await stateOf(image)).state));
    assert.ok(states.some((state) => state !== early.before && state !== 'whole'));
    const late = await crashed(t, damages['records']!, ['skip-directory-sync']);
    const ends = await Promise.all(late.after.map(async (image) => (await stateOf(image)).state));
    assert.ok(ends.some((state) => state !== 'whole'));
  });

  for (const code of ['IO', 'DISK_FULL'] as const) {
    test(`by the disk, at any call (${code}), loses nothing`, async (t) => {
      for (const what of ['records', 'both', 'everything']) {
        for (let nth = 1; ; nth++) {
          const world = await sealed(t, SMALL);
          await damages[what]!(world);
          const { store, disk } = world.replicas[0]!;
          if (store.info(BLOCK)?.flags === 0) await suspect(world.replicas[0]!);
          const failure = { nth, code, kinds: ['write', 'sync', 'name'] as const };
          disk.failure = failure;
          const failed = await codeOf(world.repair(0, [1, 2]));
          disk.failure = undefined;
          if (failed !== undefined) assert.ok(['IO', 'DISK_FULL', 'READ_ONLY'].includes(failed), failed);
          if (store.info(BLOCK) === undefined)
            assert.equal(
              (await disk.list('blocks')).filter((name) => parseBlockFileName(name)?.block === BLOCK),
              [],
              `of a copy that was not made nothing stays, ${nth}`,
            );
          await world.restart(0);
          const replica = world.replicas[0]!;
          if (what !== 'everything') assert.ok(replica.store.info(BLOCK) !== undefined, `${what} ${nth}`);
          await replica.store.verify(BLOCK).catch(() => undefined);
          assert.is((await world.repair(0, [1, 2])).whole, true, `${what} ${nth}`);
          assert.equal((await world.replicas[0]!.store.verify(BLOCK)).problems, []);
          if (failure.nth > 0) break;
        }
      }
    });
  }
}, 120_000);

describe('a replica as a source', (test) => {
  test('sends whole records that verify, and the way around one that does not', async (t) => {
    const world = await sealed(t);
    const { store } = world.replicas[1]!;
    world.flip(1, world.startOf(4) + 80);
    world.flip(1, world.startOf(1) - 1);
    const before = await store.readRaw(BLOCK, 0, 4096, 2 * MIB);
    assert.is(before.bytes.length, world.startOf(4) - 4096, 'up to the bad one');
    assert.is(before.bytes[world.startOf(1) - 4096 - 1], 0, 'padding is sent as zeros');
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT, 'and it knows that it has one');
    const at = await store.readRaw(BLOCK, 0, world.startOf(4), 2 * MIB);
    assert.equal([at.bytes.length, at.next], [0, { offset: world.startOf(5), slots: 1 }]);
    const behind = await store.readRaw(BLOCK, 0, world.startOf(5), 2 * MIB);
    assert.is(behind.bytes.length, world.writer.offset - world.startOf(5));
    assert.equal(await store.readRaw(BLOCK, 0, world.startOf(5) + 8, 2 * MIB), {
      bytes: Buffer.alloc(0),
      next: undefined,
      unread: false,
    });
  });

  test('a bad sector costs the records in it and no others', async (t) => {
    const world = await sealed(t, [3000, 3000, 9000, 3000]);
    const { store, disk } = world.replicas[1]!;
    disk.spoil(BLOCK_PATH, 12_288, 16_384);
    const first = await store.readRaw(BLOCK, 0, 4096, MIB);
    assert.is(first.bytes.length, world.startOf(1) - 4096);
    const second = await store.readRaw(BLOCK, 0, world.startOf(1), MIB);
    assert.is(second.bytes.length, world.startOf(2) - world.startOf(1));
    const third = await store.readRaw(BLOCK, 0, world.startOf(2), MIB);
    assert.equal([third.bytes.length, third.next?.offset], [0, world.startOf(3)]);
    assert.is(
      (await store.readRaw(BLOCK, 0, world.startOf(3), MIB)).bytes.length,
      world.writer.offset - world.startOf(3),
    );
  });

  test('tells its superblock and seal, unless it has lost them', async (t) => {
    const world = await sealed(t);
    const head = await donorOf(world.replicas[1]!.store, 2 as ServerId).head();
    assert.equal(head.superblock, world.writer.superblock);
    assert.ok(head.seal!.digest.equals(world.order().seal.digest));
    await world.restart(1, (disk) => disk.corrupt(OPS_PATH, (bytes) => void bytes.fill(1)));
    assert.is(await codeOf(Promise.resolve().then(() => world.replicas[1]!.store.head(BLOCK))), 'DONT_KNOW');
  });
}, 60_000);
