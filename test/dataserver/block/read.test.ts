import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError } from '../../../common/errors.ts';
import { OpType } from '../../../common/format/ops.ts';
import { ALIAS_BIT, type BlockId, type Cookie, type Epoch, type FileId } from '../../../common/ids.ts';
import { CHUNK_BYTES } from '../../../common/limits.ts';
import { BlockFlag, NameFlag } from '../../../common/wire/messages.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import {
  aliasOp,
  CONFIGURATION,
  mutation,
  openStore,
  put,
  superblockOf,
  type WorldOptions,
  Writer,
  type Written,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;
const ALL = { offset: 0, length: 0xffff_ffff };
const EPOCH = 1 as Epoch;
const MIB = 1 << 20;
const PATH = 'blocks/65537.0.blk';

async function world(t: TestContext, sizes: readonly number[], options: WorldOptions = {}) {
  const disk = new RecordingDisk();
  const store = await openStore(disk, options);
  t.defer(() => store.close());
  const superblock = superblockOf(ID, 7, 'a5', 8 * MIB);
  await store.create(superblock, CONFIGURATION);
  const writer = new Writer(superblock);
  const records: Written[] = [];
  for (const size of sizes) records.push(...(await put(store, writer, [writer.random.bytes(size)])));
  return { disk, store, writer, records };
}

async function seal(store: BlockStore): Promise<void> {
  const { validLength: length, slots, digest } = await store.fence(ID, EPOCH);
  await store.seal(ID, { length, slots, digest, epoch: EPOCH });
}

async function codeOf(work: () => unknown): Promise<ErrorCode | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!isTfsError(error)) throw error;
    return error.code;
  }
}

const idOf = (record: Written): FileId => record.slot as number as FileId;

describe('block store reads', (test) => {
  const sizes = [
    0,
    1,
    7,
    8,
    4000,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    3 * CHUNK_BYTES,
    MIB,
    MIB + 1,
    2 * MIB + 77,
  ];

  test('any range of a picture of any size is its bytes', async (t) => {
    const { store, records } = await world(t, sizes);
    for (const record of records) {
      const { payload } = record;
      const size = payload.length;
      for (const [offset, length] of [
        [0, 0xffff_ffff],
        [0, size],
        [0, 1],
        [size - 1, 1],
        [size, 10],
        [size + 1, 10],
        [Math.floor(size / 2), 70_000],
        [CHUNK_BYTES - 1, 2],
        [CHUNK_BYTES, CHUNK_BYTES],
        [3, 0],
      ] as const) {
        if (offset < 0) continue;
        const found = await store.read(ID, idOf(record), record.cookie, { offset, length }, false);
        assert.ok(
          found.payload.equals(payload.subarray(offset, offset + length)),
          `${size}: ${length} at ${offset}`,
        );
        assert.is(found.offset, Math.min(offset, size));
        assert.is(found.header.size, size);
      }
    }
  });

  test('a picture of up to a MiB costs one read of the disk, its header alone one, a part of a larger one two', async (t) => {
    const { disk, store, records } = await world(t, sizes);
    const reads = async (record: Written, length: number): Promise<number> => {
      const before = disk.calls.read;
      await store.read(ID, idOf(record), record.cookie, { offset: 0, length }, false);
      return disk.calls.read - before;
    };
    for (const record of records) {
      assert.is(await reads(record, 0), 1);
      assert.is(
        await reads(record, 0xffff_ffff),
        record.payload.length <= MIB ? 1 : 2,
        `${record.payload.length}`,
      );
    }
  });

  test('a changed bit is never answered, and other pictures are', async (t) => {
    const corrupt: BlockId[] = [];
    const { disk, store, records } = await world(t, [100, 3 * MIB, 100], {
      events: { corrupt: (block) => void corrupt.push(block) },
    });
    const [, large, last] = records;
    const start = large!.end - 3 * MIB;
    disk.corrupt(PATH, (bytes) => {
      bytes[start + 2 * MIB + 5]! ^= 1;
      bytes[last!.end - 10]! ^= 1;
    });
    const read = (record: Written, offset: number, length: number) =>
      store.read(ID, idOf(record), record.cookie, { offset, length }, false);
    assert.is(await codeOf(() => read(last!, 0, 10)), 'CORRUPT');
    assert.is(await codeOf(() => read(large!, 0, 0xffff_ffff)), 'CORRUPT');
    assert.is(await codeOf(() => read(large!, 2 * MIB, 1)), 'CORRUPT');
    // Chunks that are sound are still answered.
    assert.ok((await read(large!, 0, MIB)).payload.equals(large!.payload.subarray(0, MIB)));
    assert.ok((await read(records[0]!, 0, 100)).payload.equals(records[0]!.payload));
    assert.equal(corrupt, [ID], 'said once');
    assert.is(store.info(ID)?.flags, BlockFlag.SUSPECT);
    assert.is(await codeOf(() => read({ ...last!, cookie: 1 as Cookie }, 0, 10)), 'CORRUPT');
    assert.is(
      await codeOf(() => store.check(ID, 9 as FileId)),
      'DONT_KNOW',
      'a damaged block is not sure of a miss',
    );
  });

  test('a header that belongs elsewhere is not taken for the record', async (t) => {
    const { disk, store, records } = await world(t, [100, 100]);
    disk.corrupt(PATH, (bytes) => void bytes.copyWithin(4096, records[0]!.end, records[1]!.end));
    assert.is(await codeOf(() => store.read(ID, 0 as FileId, undefined, ALL, false)), 'CORRUPT');
  });

  test('a disk that cannot read answers IO, not CORRUPT, and the block is to be repaired', async (t) => {
    const { disk, store, records } = await world(t, [100]);
    disk.failure = { nth: 1, code: 'IO', kinds: ['read'] };
    const read = () => store.read(ID, 0 as FileId, records[0]!.cookie, ALL, false);
    assert.is(await codeOf(read), 'IO');
    assert.is(store.info(ID)?.flags, BlockFlag.SUSPECT);
    assert.is(store.readOnly, undefined);
    assert.is(await codeOf(read), undefined);
  });

  test('deleted and hidden are independent, and both unseen but by force', async (t) => {
    const { store, records } = await world(t, [10, 10]);
    const [record] = records;
    const read = (force: boolean) => store.read(ID, 0 as FileId, record!.cookie, ALL, force);
    let seq = 1;
    const op = (
      type: typeof OpType.DELETE | typeof OpType.UNDELETE | typeof OpType.HIDE | typeof OpType.REVEAL,
    ) => store.appendOps(ID, [mutation(type, 0, { seq: ++seq })]);
    await op(OpType.DELETE);
    assert.is(await codeOf(() => read(false)), 'NOT_FOUND');
    assert.is((await read(true)).nameFlags, NameFlag.DELETED);
    await op(OpType.HIDE);
    await op(OpType.UNDELETE);
    assert.is(await codeOf(() => read(false)), 'NOT_FOUND');
    assert.is(await store.check(ID, 0 as FileId), NameFlag.HIDDEN);
    await op(OpType.REVEAL);
    assert.ok((await read(false)).payload.equals(record!.payload));
    assert.ok((await store.read(ID, 1 as FileId, records[1]!.cookie, ALL, false)).payload.length === 10);
  });

  test('an alias is a name of its own for the same bytes', async (t) => {
    const { store, records } = await world(t, [10, 20]);
    const alias = (ALIAS_BIT + 5) as FileId;
    const read = (id: FileId, cookie: number, force = false) =>
      store.read(ID, id, cookie as Cookie, ALL, force);
    await store.appendOps(ID, [aliasOp(alias, 77, 1, { seq: 2 })]);
    const found = await read(alias, 77);
    assert.ok(found.payload.equals(records[1]!.payload));
    assert.equal([found.alias, found.slot, found.nameFlags], [true, 1, 0]);
    assert.is(await codeOf(() => read(alias, 78)), 'NOT_FOUND');
    assert.is(await codeOf(() => read(alias, records[1]!.cookie)), 'NOT_FOUND');
    await store.appendOps(ID, [mutation(OpType.DELETE, 1, { seq: 3 })]);
    assert.ok((await read(alias, 77)).payload.equals(records[1]!.payload), 'its target was deleted, not it');
    assert.is(store.entry(ID)?.deadBytes, 0, 'its bytes are still of use');
    await store.appendOps(ID, [
      mutation(OpType.DELETE, alias, { seq: 4 }),
      mutation(OpType.UNDELETE, 1, { seq: 5 }),
    ]);
    assert.is(await codeOf(() => read(alias, 77)), 'NOT_FOUND');
    assert.ok((await read(1 as FileId, records[1]!.cookie)).payload.equals(records[1]!.payload));
    assert.is((await read(alias, 77, true)).nameFlags, NameFlag.DELETED);
    assert.is(store.totals().aliases, 1);
  });

  test('what is purged is gone, with its aliases, by force too', async (t) => {
    const { store, records } = await world(t, [10, 20]);
    const alias = (ALIAS_BIT + 5) as FileId;
    await store.appendOps(ID, [aliasOp(alias, 77, 1, { seq: 2 })]);
    const slots = [1 as (typeof records)[0]['slot']];
    await store.appendOps(ID, [
      { ...mutation(OpType.DELETE, 1, { seq: 3 }), type: OpType.PURGE_INTENT, slots } as never,
    ]);
    assert.is(await codeOf(() => store.read(ID, 1 as FileId, records[1]!.cookie, ALL, true)), 'NOT_FOUND');
    assert.is(await codeOf(() => store.read(ID, alias, 77 as Cookie, ALL, true)), 'NOT_FOUND');
    assert.ok(((await store.check(ID, alias)) & NameFlag.PURGED) !== 0);
    assert.is(await store.check(ID, 0 as FileId), 0);
  });

  test('states of names survive the seal, a restart and the loss of the index file', async (t) => {
    const { disk, store, records } = await world(t, [10, 20, 30]);
    const alias = (ALIAS_BIT + 5) as FileId;
    await store.appendOps(ID, [
      mutation(OpType.DELETE, 0, { seq: 2 }),
      aliasOp(alias, 77, 2, { seq: 3 }),
      mutation(OpType.HIDE, 2, { seq: 4 }),
    ]);
    await seal(store);
    await store.close();
    for (const lose of [false, true]) {
      const found = disk.settled();
      if (lose) await found.unlink('blocks/65537.0.idx');
      const again = await openStore(found);
      t.defer(() => again.close());
      const flags = await Promise.all([0, 1, 2, alias].map((id) => again.check(ID, id as FileId)));
      assert.equal(flags, [NameFlag.DELETED, 0, NameFlag.HIDDEN, 0]);
      assert.ok((await again.read(ID, alias, 77 as Cookie, ALL, false)).payload.equals(records[2]!.payload));
      assert.is(again.entry(ID)?.deadBytes, 96);
      assert.ok(found.paths.includes('blocks/65537.0.idx'), 'the index file is written again');
    }
  });

  test('a picture whose block file has vanished is not "not found": the disk lost it, others may have it', async (t) => {
    const { disk, store, records } = await world(t, [100]);
    await seal(store);
    await store.close();
    const again = await openStore(disk);
    t.defer(() => again.close());
    await disk.unlink(PATH);
    const { cookie } = records[0]!;
    assert.is(await codeOf(() => again.read(ID, idOf(records[0]!), cookie, ALL, false)), 'IO');
    assert.is(await codeOf(() => again.check(ID, idOf(records[0]!))), 'IO');
  });
});
