import * as assert from 'uvu/assert';
import { blockFileName } from '../../../common/format/file-names.ts';
import { decodeIdx, encodeIdx, type IdxColumns, type IdxHeader } from '../../../common/format/idx.ts';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import { BlockFlag } from '../../../common/wire/messages.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import { CONFIGURATION, mutation, openStore, put, superblockOf, Writer } from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe } from '../../kit/suite.ts';

const ALL = { offset: 0, length: 0xffff_ffff };
const EPOCH = 1 as Epoch;
const FIRST = 65_536;

/** Sealed blocks of `records` records each, on a disk that was shut down. */
async function sealedDisk(
  blocks: number,
  records: number,
): Promise<{ disk: RecordingDisk; writers: Writer[] }> {
  const disk = new RecordingDisk();
  const store = await openStore(disk);
  const writers: Writer[] = [];
  for (let i = 0; i < blocks; i++) {
    const writer = new Writer(superblockOf(FIRST + i));
    const id = writer.superblock.block;
    await store.create(writer.superblock, CONFIGURATION);
    await put(
      store,
      writer,
      Array.from({ length: records }, (_, n) => Buffer.alloc(50 + n, i)),
    );
    const { validLength: length, slots, digest } = await store.fence(id, EPOCH);
    await store.seal(id, { length, slots, digest, epoch: EPOCH });
    writers.push(writer);
  }
  await store.close();
  return { disk: disk.settled(), writers };
}

async function readAll(store: BlockStore, writer: Writer): Promise<void> {
  for (const { slot, cookie, payload } of writer.written) {
    const { payload: found } = await store.read(
      writer.superblock.block,
      slot as number as FileId,
      cookie,
      ALL,
      false,
    );
    assert.ok(found.equals(payload));
  }
}

const idxPath = (id: BlockId): string => `blocks/${blockFileName(id, 0, 'idx')}`;

describe('block store index', (test) => {
  const id = FIRST as BlockId;
  const rewrite =
    (change: (header: IdxHeader, columns: IdxColumns) => [Partial<IdxHeader>, Partial<IdxColumns>]) =>
    (bytes: Buffer): Buffer => {
      const idx = decodeIdx(bytes);
      if (!idx.ok) throw new Error(idx.why);
      const [header, columns] = change(idx.value.header, idx.value.columns);
      return encodeIdx({ ...idx.value.header, ...header }, { ...idx.value.columns, ...columns });
    };
  const wrongs: Record<string, (bytes: Buffer) => Buffer> = {
    'an index file with a changed bit': (bytes) => {
      bytes[70]! ^= 1;
      return bytes;
    },
    'an index file that is cut': (bytes) => bytes.subarray(0, 66),
    'an empty index file': () => Buffer.alloc(0),
    'an index file that is behind': rewrite((header, { offsets, flags, sha1s }) => [
      { slots: header.slots - 1, length: header.length - 136 },
      { offsets: offsets.slice(0, -1), flags: flags.slice(0, -1), sha1s: sha1s.subarray(0, -20) },
    ]),
    'an index file that is ahead': rewrite((header, { offsets, flags, sha1s }) => [
      { slots: header.slots + 1, length: header.length + 88 },
      {
        offsets: Uint32Array.from([...offsets, header.length / 8]),
        flags: Uint8Array.from([...flags, 0]),
        sha1s: Buffer.concat([sha1s, Buffer.alloc(20)]),
      },
    ]),
    'the index file of another session': rewrite(() => [{ session: 99 as IdxHeader['session'] }, {}]),
    'the index file of another block': rewrite(() => [{ block: 99 as BlockId }, {}]),
    'the index file of another cluster': rewrite(() => [{ clusterUuid: 'e'.repeat(32) }, {}]),
  };
  for (const [what, damage] of Object.entries(wrongs)) {
    test(`${what} is not believed but made again from the records`, async (t) => {
      const { disk, writers } = await sealedDisk(1, 5);
      const good = await disk.readFile(idxPath(id));
      disk.corrupt(idxPath(id), damage);
      const store = await openStore(disk);
      t.defer(() => store.close());
      await readAll(store, writers[0]!);
      assert.is(store.info(id)?.flags, 0);
      const entries: Buffer[] = [];
      for await (const { sha1 } of store.records.refs(id)) entries.push(sha1);
      assert.equal(
        entries,
        writers[0]!.written.map(({ sha1 }) => sha1),
      );
      assert.equal(await disk.readFile(idxPath(id)), good, 'the index is what a rebuild makes it');
    });
  }

  test('an index that cannot be read is rebuilt as well', async (t) => {
    const { disk, writers } = await sealedDisk(1, 5);
    const store = await openStore(disk);
    t.defer(() => store.close());
    disk.failure = { nth: 2, code: 'IO', kinds: ['open'] };
    await readAll(store, writers[0]!);
  });

  test('a sealed block whose records are not what was sealed is SUSPECT, and gets no index file', async (t) => {
    const { disk, writers } = await sealedDisk(1, 5);
    await disk.unlink(idxPath(id));
    disk.corrupt(`blocks/${blockFileName(id, 0, 'blk')}`, (bytes) => {
      bytes[writers[0]!.written[1]!.end + 20]! ^= 1;
    });
    const store = await openStore(disk);
    t.defer(() => store.close());
    const [first] = writers[0]!.written;
    await store.read(id, 0 as FileId, first!.cookie, ALL, false);
    assert.is(store.info(id)?.flags, BlockFlag.SUSPECT);
    assert.ok(!disk.paths.includes(idxPath(id)));
    const codes = await Promise.all(
      [1, 2, 3].map((slot) =>
        store.read(id, slot as FileId, undefined, ALL, false).then(
          () => 'good',
          (e) => e.code,
        ),
      ),
    );
    assert.equal(codes, ['good', 'CORRUPT', 'good']);
  });

  test('opening reads no records, and an index is loaded when it is first needed', async (t) => {
    const { disk, writers } = await sealedDisk(3, 5);
    const before = { ...disk.calls };
    const store = await openStore(disk);
    t.defer(() => store.close());
    assert.is(disk.calls.write - before.write, 0);
    assert.is(store.totals().indexBytes, 0);
    assert.is(store.totals().files, 15);
    await readAll(store, writers[1]!);
    assert.is(store.totals().indexBytes, 20, 'four bytes a record');
  });

  test('memory and open files stay within their budgets, with reads under way', async (t) => {
    const { disk, writers } = await sealedDisk(8, 10);
    for (const budgets of [
      { indexBytes: 100, openFiles: 64 },
      { indexBytes: 1 << 20, openFiles: 2 },
    ]) {
      const store = await openStore(disk, { budgets });
      t.defer(() => store.close());
      for (let round = 0; round < 3; round++) {
        await Promise.all(writers.map((writer) => readAll(store, writer)));
        for (const writer of writers) await readAll(store, writer);
        assert.ok(store.totals().indexBytes <= Math.min(budgets.indexBytes, budgets.openFiles * 40));
      }
    }
  });

  test('ops of a block that is not in memory are folded when they are needed, and stay', async (t) => {
    const { disk, writers } = await sealedDisk(200, 1);
    const store = await openStore(disk);
    t.defer(() => store.close());
    const ids = writers.map((writer) => writer.superblock.block);
    for (let round = 0; round < 2; round++) {
      const type = round === 0 ? OpType.HIDE : OpType.DELETE;
      await Promise.all(ids.map((block) => store.appendOps(block, [mutation(type, 0, { seq: 2 + round })])));
    }
    for (const block of ids) {
      assert.is(await store.check(block, 0 as FileId), 3);
      const state = await store.opsState(block);
      assert.is(state.recentOps?.size, 2);
      assert.equal(
        (await store.opsAfter(block, 2)).map(({ seq }) => seq),
        [3],
      );
    }
  });

  test('records are proven after a restart as far as a watermark tells, and all once the seal is complete', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    const writer = new Writer(superblockOf(FIRST));
    await store.create(writer.superblock, CONFIGURATION);
    await put(store, writer, [Buffer.from('a')]);
    await put(store, writer, [Buffer.from('b')]);
    const { validLength: length, slots, digest } = await store.fence(id, EPOCH);
    await store.seal(id, { length, slots, digest, epoch: EPOCH });
    const proven = (from: BlockStore) =>
      Promise.all(
        [0, 1].map(async (slot) => (await from.read(id, slot as FileId, undefined, ALL, false)).proven),
      );
    assert.equal(await proven(store), [true, true], 'the session knew');
    await store.close();
    const again = await openStore(disk.settled());
    t.defer(() => again.close());
    assert.equal(await proven(again), [true, false]);
    await again.seal(id, { length, slots, digest, epoch: EPOCH, complete: true });
    assert.equal(await proven(again), [true, true]);
    const later = await openStore(disk.settled());
    t.defer(() => later.close());
    assert.is(later.info(id)?.seal?.complete, undefined, 'of the other copy of the disk');
  });
});
