import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError } from '../../../common/errors.ts';
import { emptyOpsState, foldOp, type Op, OpType } from '../../../common/format/ops.ts';
import { ALIAS_BIT, type BlockId, type Epoch, type FileId, type Version } from '../../../common/ids.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import {
  aliasOp,
  CONFIGURATION,
  mutation,
  openStore,
  put,
  superblockOf,
  VERSION,
  type WorldOptions,
  Writer,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;

async function world(t: TestContext, options: WorldOptions = {}) {
  const disk = new RecordingDisk();
  const store = await openStore(disk, options);
  t.defer(() => store.close());
  const writer = new Writer(superblockOf(ID));
  await store.create(writer.superblock, CONFIGURATION);
  await put(
    store,
    writer,
    Array.from({ length: 8 }, (_, i) => Buffer.alloc(20, i)),
  );
  return { disk, store, writer };
}

async function errorOf(work: Promise<unknown>): Promise<{ code: ErrorCode; details: unknown } | undefined> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error === undefined) return undefined;
  if (!isTfsError(error)) throw error;
  return { code: error.code, details: error.details };
}

const deletion = (seq: number, slot = 0): Op => mutation(OpType.DELETE, slot, { seq });
const UNPLACED = {
  type: OpType.DELETE,
  fileId: 5 as FileId,
  opId: Buffer.alloc(16, 0xee),
} as const;
const beginningOf = (version: Version, seq: number): Op => ({
  ...CONFIGURATION,
  type: OpType.CFG,
  version,
  seq,
  atMs: 0,
  opId: Buffer.alloc(16),
});
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('ops log', (test) => {
  test('ops that come at the same time share a write and a sync', async (t) => {
    const { disk, store } = await world(t);
    const before = { ...disk.calls };
    await Promise.all(range(2, 21).map((seq) => store.appendOps(ID, [deletion(seq, seq % 8)])));
    assert.equal([disk.calls.write - before.write, disk.calls.sync - before.sync], [2, 2]);
    assert.is(store.info(ID)?.seq, 21);
    assert.is(await store.check(ID, 3 as FileId), NameFlag.DELETED);
  });

  test('once a version is being agreed on, nothing older is taken, and it is told what there is', async (t) => {
    const { store } = await world(t);
    const given = store.appendOps(ID, [deletion(2)]);
    const next = { epoch: VERSION.epoch, n: VERSION.n + 1 };
    const ops = await store.prepareOps(ID, next);
    await given;
    assert.equal(
      ops.map(({ seq }) => seq),
      [1, 2],
      'what was given before is part of it',
    );
    assert.equal(store.info(ID)?.prepared, next);
    assert.equal(await errorOf(store.appendOps(ID, [deletion(3)])), {
      code: 'STALE_EPOCH',
      details: { epoch: next.epoch, n: next.n },
    });
    assert.is((await errorOf(store.prepareOps(ID, VERSION)))?.code, 'STALE_EPOCH');
    assert.is((await store.prepareOps(ID, next)).length, 2, 'asked again');
    await store.appendOps(ID, [beginningOf(next, 3)]);
    assert.is(store.info(ID)?.prepared, undefined);
    assert.is((await errorOf(store.prepareOps(ID, next)))?.code, 'STALE_EPOCH', 'it has begun');
    await store.appendOps(ID, [mutation(OpType.DELETE, 1, { seq: 4, version: next })]);
    assert.is(store.info(ID)?.seq, 4);
  });

  test('while a configuration is on its way to the disk, nothing older is taken for done', async (t) => {
    const { store } = await world(t);
    const next = { epoch: VERSION.epoch, n: VERSION.n + 1 };
    await store.prepareOps(ID, next);
    const beginning = store.appendOps(ID, [beginningOf(next, 2)]);
    assert.equal(store.info(ID)?.version, VERSION, 'it has not begun');
    const superseded = { code: 'STALE_EPOCH', details: { epoch: next.epoch, n: next.n } };
    // In their places there is, or will be, something else.
    assert.equal(await errorOf(store.appendOps(ID, [deletion(2)])), superseded);
    assert.equal(await errorOf(store.sequenceOps(ID, VERSION, [UNPLACED])), superseded);
    await beginning;
    await store.sequenceOps(ID, next, [UNPLACED]);
    assert.is(store.info(ID)?.seq, 3);
    assert.is(await store.check(ID, 5 as FileId), NameFlag.DELETED);
  });

  test('a new op gets its place behind all that is on its way', async (t) => {
    const { store } = await world(t);
    await Promise.all([
      store.appendOps(ID, [deletion(2), deletion(3, 1)]),
      store.sequenceOps(ID, VERSION, [UNPLACED]),
      store.sequenceOps(ID, VERSION, []),
    ]);
    assert.is(store.info(ID)?.seq, 4);
    for (const slot of [0, 1, 5]) assert.is(await store.check(ID, slot as FileId), NameFlag.DELETED);
  });

  test('another op in a place that is taken is refused, on the disk or on its way there', async (t) => {
    const { store } = await world(t);
    const given = store.appendOps(ID, [deletion(2)]);
    for (const when of ['on its way', 'held']) {
      const { code } = (await errorOf(store.appendOps(ID, [mutation(OpType.HIDE, 3, { seq: 2 })])))!;
      assert.is(code, 'STALE_EPOCH', when);
      await given;
    }
    await store.appendOps(ID, [deletion(2)]);
    assert.is(await store.check(ID, 3 as FileId), 0);
  });

  test('a torn write of several ops is no damage: none of them was confirmed', async (t) => {
    const { disk, store } = await world(t);
    await store.appendOps(ID, [deletion(2)]);
    // The first frames of the write are lost and the later ones are not.
    const point = await new Promise<ReturnType<RecordingDisk['crashPoint']>>((resolve) => {
      disk.onStep = async () => {
        disk.onStep = undefined;
        resolve(disk.crashPoint());
      };
      void store.appendOps(
        ID,
        range(3, 40).map((seq) => deletion(seq, seq % 8)),
      );
    });
    const again = await openStore(point.image((unit) => unit > 0));
    t.defer(() => again.close());
    assert.is(again.info(ID)?.flags, 0);
    const seq = again.info(ID)!.seq;
    assert.ok(seq >= 2 && seq < 40, `${seq}`);
    await again.appendOps(ID, [mutation(OpType.HIDE, 5, { seq: seq + 1 })]);
    await again.appendOps(ID, [mutation(OpType.HIDE, 6, { seq: seq + 2 })]);
    assert.is(again.info(ID)?.flags, 0);
  });

  test('ops are held once, in order, without gaps', async (t) => {
    const { disk, store } = await world(t);
    await store.appendOps(ID, [deletion(2), deletion(3, 1)]);
    const writes = disk.calls.write;
    await store.appendOps(ID, [deletion(2), deletion(3, 1)]);
    assert.is(disk.calls.write, writes, 'what is held is not written again');
    await store.appendOps(ID, [deletion(3, 1), deletion(4, 2)]);
    assert.is(store.info(ID)?.seq, 4);
    assert.equal(await errorOf(store.appendOps(ID, [deletion(6)])), { code: 'OPS_GAP', details: { seq: 4 } });
    assert.equal(await errorOf(store.appendOps(ID, [deletion(5), deletion(7)])), {
      code: 'OPS_GAP',
      details: { seq: 4 },
    });
    assert.is(store.info(ID)?.seq, 4);
  });

  test('an op that is on its way is not confirmed by its repetition', async (t) => {
    const { disk, store } = await world(t);
    disk.failure = { nth: 1, code: 'IO', kinds: ['sync'] };
    const outcomes = await Promise.all([
      errorOf(store.appendOps(ID, [deletion(2)])),
      errorOf(store.appendOps(ID, [deletion(2)])),
    ]);
    assert.equal(
      outcomes.map((error) => error?.code),
      ['IO', 'IO'],
    );
  });

  test('an op id that is known changes nothing', async (t) => {
    const { store } = await world(t);
    const opId = Buffer.alloc(16, 9);
    const id = (ALIAS_BIT + 1) as FileId;
    await store.appendOps(ID, [aliasOp(id, 5, 0, { seq: 2, opId })]);
    await store.appendOps(ID, [{ ...aliasOp(ALIAS_BIT + 2, 6, 0, { seq: 3 }), opId }]);
    assert.is(store.info(ID)?.seq, 3);
    assert.is(store.totals().aliases, 1);
  });

  test('a log that grows too long is folded into a new file, and says the same', async (t) => {
    const { disk, store } = await world(t, { limits: { opsReserveBytes: 0, opsLogBytes: 2000 } });
    const model = emptyOpsState();
    const ops: Op[] = range(2, 120).map((seq) =>
      seq % 7 === 0
        ? aliasOp(ALIAS_BIT + seq, seq, seq % 8, { seq })
        : mutation(seq % 3 === 0 ? OpType.UNDELETE : OpType.DELETE, seq % 8, { seq }),
    );
    for (const op of ops) {
      await store.appendOps(ID, [op]);
      foldOp(model, op);
    }
    const logs = (await disk.list('blocks')).filter((name) => name.endsWith('.ops'));
    assert.is(logs.length, 1);
    assert.not.equal(logs, ['65537.0.ops']);
    const check = async (from: typeof store): Promise<void> => {
      const state = await from.opsState(ID);
      assert.is(state.seq, 120);
      assert.equal([...state.recentOps!.keys()], [...model.recentOps!.keys()]);
      assert.is(state.aliases?.count, model.aliases?.count);
      for (const slot of range(0, 7))
        assert.is(await from.check(ID, slot as FileId), model.slotFlags[slot] ?? 0);
      assert.equal(from.info(ID)?.members, CONFIGURATION.members);
    };
    await check(store);
    await store.close();
    const again = await openStore(disk.settled());
    t.defer(() => again.close());
    await check(again);
  });

  test('a member that is behind is given the rest: op by op, or folded', async (t) => {
    const { store } = await world(t, { limits: { opsReserveBytes: 0, opsLogBytes: 3000 } });
    for (const seq of range(2, 100)) await store.appendOps(ID, [deletion(seq, seq % 8)]);
    assert.equal(
      (await store.opsAfter(ID, 97)).map(({ seq }) => seq),
      [98, 99, 100],
    );
    assert.equal(await store.opsAfter(ID, 100), []);
    const disk = new RecordingDisk();
    const behind = await openStore(disk);
    t.defer(() => behind.close());
    const writer = new Writer(superblockOf(ID));
    await behind.create(writer.superblock, CONFIGURATION);
    await put(behind, writer, [Buffer.alloc(20)]);
    await behind.appendOps(ID, await store.opsAfter(ID, 1));
    assert.is(behind.info(ID)?.seq, 100);
    assert.is(await behind.check(ID, 0 as FileId), NameFlag.DELETED);
  });

  test('after a restart a member that is far behind is given a snapshot', async (t) => {
    const { disk, store } = await world(t, { limits: { opsReserveBytes: 0, opsLogBytes: 1500 } });
    for (const seq of range(2, 60)) await store.appendOps(ID, [deletion(seq, seq % 8)]);
    await store.close();
    const again = await openStore(disk.settled());
    t.defer(() => again.close());
    const ops = await again.opsAfter(ID, 1);
    assert.is(ops[0]?.type, OpType.SNAPSHOT);
    const other = new RecordingDisk();
    const behind = await openStore(other);
    const writer = new Writer(superblockOf(ID));
    await behind.create(writer.superblock, CONFIGURATION);
    await put(behind, writer, [Buffer.alloc(20)]);
    await behind.appendOps(ID, ops);
    assert.is(behind.info(ID)?.seq, 60);
    assert.is(await behind.check(ID, 0 as FileId), NameFlag.DELETED);
    await behind.appendOps(ID, [mutation(OpType.UNDELETE, 0, { seq: 61 })]);
    await behind.close();
    const restarted = await openStore(other.settled());
    t.defer(() => restarted.close());
    assert.is(restarted.info(ID)?.seq, 61);
    assert.is(await restarted.check(ID, 0 as FileId), 0);
  });

  test('a seal takes no place in the sequence, and travels nowhere', async (t) => {
    const { store } = await world(t);
    await store.appendOps(ID, [deletion(2)]);
    const { validLength: length, slots, digest } = await store.fence(ID, 1 as Epoch);
    const seal = store.seal(ID, { length, slots, digest, epoch: 1 as Epoch });
    await Promise.all([seal, store.appendOps(ID, [deletion(3, 1)]), store.appendOps(ID, [deletion(4, 2)])]);
    await store.appendOps(ID, [deletion(5, 3)]);
    assert.is(store.info(ID)?.seq, 5);
    assert.equal(
      (await store.opsAfter(ID, 1)).map(({ seq }) => seq),
      [2, 3, 4, 5],
    );
    assert.is(store.info(ID)?.seal?.length, length);
  });

  test('what a disk wrote over it of the log of another block, since the start, is not believed', async (t) => {
    const { disk, store, writer } = await world(t);
    const other = new Writer(superblockOf(ID + 1));
    await store.create(other.superblock, CONFIGURATION);
    await put(
      store,
      other,
      Array.from({ length: 8 }, () => Buffer.alloc(30)),
    );
    for (const [{ superblock }, slot] of [[writer, 3] as const, [other, 0] as const]) {
      const { validLength: length, slots } = await store.fence(superblock.block, VERSION.epoch);
      await store.seal(superblock.block, { length, slots, digest: undefined, epoch: VERSION.epoch });
      await store.appendOps(superblock.block, [deletion(2, slot)]);
    }
    await store.close();
    const after = disk.settled();
    const corrupt: BlockId[] = [];
    const again = await openStore(after, { events: { corrupt: (block) => void corrupt.push(block) } });
    t.defer(() => again.close());
    const foreign = await after.readFile(`blocks/${ID + 1}.0.ops`);
    const path = `blocks/${ID}.0.ops`;
    assert.is((await after.readFile(path)).length, foreign.length);
    after.corrupt(path, () => foreign);
    assert.is((await errorOf(Promise.resolve(again.check(ID, 0 as FileId))))?.code, 'CORRUPT');
    assert.equal(corrupt, [ID]);
    assert.is(await again.check(other.superblock.block, 0 as FileId), NameFlag.DELETED);
  });

  test('a new configuration is an op of its own version', async (t) => {
    const { store } = await world(t);
    const version = { epoch: 2 as Epoch, n: 1 };
    const { opsPrimary } = CONFIGURATION;
    const members = CONFIGURATION.members.slice(0, 2);
    await store.appendOps(ID, [
      { type: OpType.CFG, seq: 2, version, atMs: 0, opId: Buffer.alloc(16), opsPrimary, members },
    ]);
    assert.equal(store.entry(ID)?.version, version);
    assert.equal(store.entry(ID)?.members, members);
    const old = mutation(OpType.DELETE, 0, { seq: 3, version: VERSION });
    assert.is((await errorOf(store.appendOps(ID, [old])))?.code, 'STALE_EPOCH', 'and nothing older is taken');
    assert.is(store.info(ID)?.seq, 2);
  });

  test('a full disk can still delete, from the reserve', async (t) => {
    const { disk, store } = await world(t, { limits: { opsReserveBytes: 256 * 1024 } });
    assert.is((await disk.stat('blocks/ops.reserve'))?.size, 256 * 1024);
    disk.capacityBytes = disk.usedBytes;
    for (const seq of range(2, 60)) await store.appendOps(ID, [deletion(seq, seq % 8)]);
    assert.ok((await disk.stat('blocks/ops.reserve'))!.size < 256 * 1024);
    assert.is(store.readOnly, undefined);
    await store.close();
    const found = disk.settled();
    found.capacityBytes = 1 << 30;
    const again = await openStore(found, { limits: { opsReserveBytes: 256 * 1024 } });
    t.defer(() => again.close());
    assert.is(again.info(ID)?.seq, 60);
    assert.is((await found.stat('blocks/ops.reserve'))?.size, 256 * 1024, 'taken back when there is space');
  });

  test('when the reserve is used up too, an op is refused, and its place is free again', async (t) => {
    const { disk, store } = await world(t);
    disk.capacityBytes = disk.usedBytes;
    assert.is((await errorOf(store.appendOps(ID, [deletion(2)])))?.code, 'DISK_FULL');
    assert.is(store.info(ID)?.seq, 1);
    assert.is(await store.check(ID, 0 as FileId), 0);
    disk.capacityBytes = 1 << 30;
    await store.appendOps(ID, [deletion(2, 3)]);
    assert.equal(
      [await store.check(ID, 0 as FileId), await store.check(ID, 3 as FileId)],
      [0, NameFlag.DELETED],
    );
  });
});
