import * as assert from 'uvu/assert';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import { BlockFlag, NameFlag } from '../../../common/wire/messages.ts';
import type { FaultName } from '../../../dataserver/block/faults.ts';
import { CONFIGURATION, openStore, put, raw, superblockOf, Writer } from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { BLOCK, OPS_PATH, ReplicaWorld } from '../../kit/replica-world.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;
const never = (): Promise<never> => new Promise(() => undefined);
const faultsOf = (...names: FaultName[]) => ({ has: (name: FaultName) => names.includes(name) });

/** The kernel keeps what a killed process wrote; a power failure after that keeps only what was synced. */
async function killedInMidWrite(write: 'record' | 'op') {
  const disk = new RecordingDisk();
  const store = await openStore(disk);
  const writer = new Writer(superblockOf(ID));
  await store.create(writer.superblock, CONFIGURATION);
  await store.appendBatch(ID, writer.superblock.session, writer.batch([Buffer.alloc(700, 1)]));
  // Killed between the write and its sync: that step never ends.
  disk.onStep = never;
  if (write === 'record') {
    void store.appendBatch(ID, writer.superblock.session, writer.batch([Buffer.alloc(900, 2)]));
  } else {
    const { version, seq } = store.info(ID)!;
    const op = {
      type: OpType.DELETE,
      fileId: 0 as FileId,
      version,
      seq: seq + 1,
      atMs: 1,
      opId: Buffer.alloc(16, 7),
    };
    void store.appendOps(ID, [op]);
  }
  await new Promise((resolve) => setImmediate(resolve));
  disk.onStep = undefined;
  return disk;
}

async function sealedThenPowerCut(faults: ReturnType<typeof faultsOf>): Promise<readonly string[]> {
  const disk = await killedInMidWrite('record');
  const store = await openStore(disk, { faults });
  const { validLength: length, slots, digest } = await store.fence(ID, 1 as Epoch);
  assert.is(slots, 2, 'what was written and not synced is read back');
  await store.seal(ID, { length, slots, digest, epoch: 1 as Epoch });
  const after = await openStore(disk.crashPoint().image(() => false));
  return (await after.verify(ID)).problems;
}

async function ackedThenPowerCut(faults: ReturnType<typeof faultsOf>): Promise<number> {
  const disk = await killedInMidWrite('op');
  const store = await openStore(disk, { faults });
  assert.is(store.info(ID)!.seq, 2, 'what was written and not synced is read back');
  // A repeat of the request finds the op in the log; this is what is asked before it is acknowledged.
  await store.appendOps(ID, []);
  const after = await openStore(disk.crashPoint().image(() => false));
  await after.recover(ID);
  return after.check(ID, 0 as FileId);
}

/**
 * The last append of a replica fails in its sync; the next process cannot read the log, so that it neither walks the block
 * nor takes its seal; the others are sealed, and it is repaired.
 *
 * @param isLost the log stays so, and is taken from the others
 */
async function repairedThenPowerCut(
  t: TestContext,
  { isLost, faults = faultsOf() }: { isLost: boolean; faults?: ReturnType<typeof faultsOf> },
): Promise<readonly string[]> {
  const world = await ReplicaWorld.open(t, [700]);
  const [bad, ...others] = world.replicas;
  const { disk } = bad!;
  const { writer } = world;
  const batch = writer.batch([Buffer.alloc(900, 2)]);
  disk.failure = { code: 'IO', kinds: ['sync'], nth: 1 };
  for (const { store } of world.replicas) {
    const given = store.appendRaw(BLOCK, writer.superblock.session, batch.offset, raw(batch), writer.acked);
    const code = await given.then(
      () => undefined,
      (error) => error.code,
    );
    assert.is(code, store === bad!.store ? 'IO' : undefined);
  }
  disk.failure = undefined;
  await bad!.store.close();
  disk.spoil(OPS_PATH, 0, 80);
  const store = await openStore(disk, { faults });
  t.defer(() => store.close());
  bad!.store = store;
  assert.ok((store.info(BLOCK)!.flags & BlockFlag.QUARANTINED) !== 0);
  world.replicas.splice(0, 3, ...others);
  await world.seal();
  world.replicas.splice(0, 2, bad!, ...others);
  if (!isLost) disk.spoil(OPS_PATH, 0, 0);
  assert.equal(await world.repair(0, [1, 2]), { whole: true, fetched: 0, lost: 0 }, 'the page cache has it');
  assert.equal((await store.verify(BLOCK)).problems, []);
  const after = await openStore(disk.crashPoint().image(() => false));
  t.defer(() => after.close());
  return (await after.verify(BLOCK)).problems;
}

describe('what a killed process had written and not synced', (test) => {
  test('is durable before the SEAL that covers it', async () => {
    assert.equal(await sealedThenPowerCut(faultsOf()), []);
  });

  test('is durable before an operation is acknowledged again', async () => {
    assert.is(await ackedThenPowerCut(faultsOf()), NameFlag.DELETED);
  });

  test('is durable before an operation is acknowledged again, also where its sync had failed', async () => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    const writer = new Writer(superblockOf(ID));
    await store.create(writer.superblock, CONFIGURATION);
    await store.appendBatch(ID, writer.superblock.session, writer.batch([Buffer.alloc(700, 1)]));
    disk.failure = { code: 'IO', kinds: ['sync'], nth: 1 };
    const { version, seq } = store.info(ID)!;
    const place = { version, seq: seq + 1, atMs: 1, opId: Buffer.alloc(16, 7) };
    const failed = await store.appendOps(ID, [{ type: OpType.DELETE, fileId: 0 as FileId, ...place }]).then(
      () => false,
      () => true,
    );
    assert.ok(failed);
    disk.failure = undefined;
    const again = await openStore(disk);
    assert.is(again.info(ID)!.seq, 2, 'the page cache still shows it');
    await again.appendOps(ID, []);
    const after = await openStore(disk.crashPoint().image(() => false));
    await after.recover(ID);
    assert.is(await after.check(ID, 0 as FileId), NameFlag.DELETED);
  });

  test('is nothing that the SHA-1 index may lead to, where the disk does not take it again', async () => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    const writer = new Writer(superblockOf(ID));
    await store.create(writer.superblock, CONFIGURATION);
    await put(store, writer, [Buffer.alloc(700, 1)]);
    const failure = { code: 'IO', kinds: ['sync'], nth: 1 } as const;
    disk.failure = { ...failure };
    assert.ok(
      await put(store, writer, [Buffer.alloc(900, 2)]).then(
        () => false,
        () => true,
      ),
    );
    const slotsOnceMore = async (plan: typeof failure | undefined) => {
      disk.failure = undefined;
      const again = await openStore(disk);
      if (plan !== undefined) disk.failure = { ...plan };
      await again.recover(ID);
      assert.is(again.info(ID)!.slots, 2, 'the page cache still shows it');
      const slots: number[] = [];
      for await (const { slot } of again.records.refs(ID)) slots.push(slot);
      return slots;
    };
    assert.equal(await slotsOnceMore(failure), [0], 'its header says that the one before it is durable');
    assert.equal(await slotsOnceMore(undefined), [0, 1], 'written once more');
  });

  for (const isLost of [false, true])
    test(`is durable before a repair says that the replica is whole, its log ${isLost ? 'lost' : 'its own'}`, async (t) => {
      assert.equal(await repairedThenPowerCut(t, { isLost }), []);
    });

  test('planted bug: trusting the page cache is caught by all', async (t) => {
    assert.ok(
      (await repairedThenPowerCut(t, { isLost: false, faults: faultsOf('trust-page-cache') })).length > 0,
    );
    assert.ok((await sealedThenPowerCut(faultsOf('trust-page-cache'))).length > 0);
    assert.is(await ackedThenPowerCut(faultsOf('trust-page-cache')), 0);
  });
});
