import { setImmediate } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { NodeDisk } from '../../../common/adapters/node-disk.ts';
import { type ErrorCode, isTfsError } from '../../../common/errors.ts';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId, Cookie, Epoch, FileId, Session } from '../../../common/ids.ts';
import type { Disk } from '../../../common/seams/disk.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import { CONFIGURATION, mutation, openStore, put, raw, superblockOf, Writer } from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const ALL = { offset: 0, length: 0xffff_ffff };
const EPOCH = 1 as Epoch;
const ID = 65_537 as BlockId;

async function fails(code: ErrorCode, work: () => unknown): Promise<void> {
  let thrown: unknown;
  try {
    await work();
  } catch (error) {
    thrown = error;
  }
  assert.ok(isTfsError(thrown, code), `${code} expected, got ${String(thrown)}`);
}

async function opened(disk: Disk): Promise<{ store: BlockStore; writer: Writer }> {
  const store = await openStore(disk);
  const superblock = superblockOf(ID);
  await store.create(superblock, CONFIGURATION);
  return { store, writer: new Writer(superblock) };
}

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await setImmediate();
}

async function seal(store: BlockStore): Promise<void> {
  const { validLength: length, slots, digest } = await store.fence(ID, EPOCH);
  await store.seal(ID, { length, slots, digest, epoch: EPOCH });
}

describe('block store', (test) => {
  for (const kind of ['recording', 'node'] as const) {
    test(`a record comes back as it was stored, open, sealed and after a restart, on a ${kind} disk`, async (t) => {
      const disk = kind === 'node' ? await NodeDisk.open(tempDir(t)) : new RecordingDisk();
      const { store, writer } = await opened(disk);
      const written = [
        ...(await put(store, writer, [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(3000, 7)])),
        ...(await put(store, writer, [Buffer.alloc(9, 1)])),
      ];
      const check = async (from: BlockStore): Promise<void> => {
        for (const { slot, cookie, payload, sha1 } of written) {
          const found = await from.read(ID, slot as number as FileId, cookie, ALL, false);
          assert.equal(found.payload, payload);
          assert.equal(found.header.sha1, sha1);
          assert.is(found.alias, false);
          assert.is(found.nameFlags, 0);
        }
      };
      await check(store);
      const facts = await store.fence(ID, EPOCH);
      assert.is(facts.validLength, writer.offset);
      assert.is(facts.provenLength, writer.offset);
      assert.is(facts.clean, true);
      assert.equal(facts.members, [1, 2, 3]);
      const { validLength: length, slots, digest } = facts;
      const sealed = await store.seal(ID, { length, slots, digest, epoch: EPOCH });
      assert.equal(sealed.digest, digest);
      await check(store);
      await store.close();

      const again = await openStore(kind === 'node' ? disk : (disk as RecordingDisk).settled());
      t.defer(() => again.close());
      assert.is(again.info(ID)?.state, BlockState.SEALED);
      assert.is(again.info(ID)?.length, length);
      await check(again);
      const report = await again.verify(ID);
      assert.equal(report.problems, []);
      assert.equal(report.digest, sealed.digest);
      assert.is((await again.fence(ID, EPOCH)).seal?.length, length);
    });
  }

  test('a name exists only with its cookie, and a miss in an OPEN block is certain', async (t) => {
    const { store, writer } = await opened(new RecordingDisk());
    t.defer(() => store.close());
    const [record] = await put(store, writer, [Buffer.from('x')]);
    const wrong = (record!.cookie ^ 1) as Cookie;
    await fails('NOT_FOUND', () => store.read(ID, 0 as FileId, wrong, ALL, true));
    await fails('NOT_FOUND', () => store.read(ID, 1 as FileId, wrong, ALL, true));
    await fails('NOT_FOUND', () => store.read(ID, 0x8000_0001 as FileId, wrong, ALL, true));
    await fails('NOT_FOUND', () => store.check(ID, 1 as FileId));
    assert.is(await store.check(ID, 0 as FileId), 0);
    const anyCookie = await store.read(ID, 0 as FileId, undefined, ALL, false);
    assert.equal(anyCookie.payload, Buffer.from('x'));
  });

  test('a miss in a block that was OPEN when the process died proves nothing', async (t) => {
    const disk = new RecordingDisk();
    const { store, writer } = await opened(disk);
    const [record] = await put(store, writer, [Buffer.from('x')]);
    await store.close();
    const again = await openStore(disk.settled());
    t.defer(() => again.close());
    assert.is(again.info(ID)?.walked, false);
    await fails('DONT_KNOW', () => again.read(ID, 1 as FileId, undefined, ALL, false));
    assert.equal((await again.read(ID, 0 as FileId, record!.cookie, ALL, false)).payload, record!.payload);
    assert.is(again.info(ID)?.walked, true);
    const entry = again.entry(ID)!;
    assert.is(entry.state, BlockState.RECOVERED);
    assert.is(entry.length, record!.end);
  });

  test('what is deleted or hidden in a block that waits for its seal is so for sure, unless it is damaged', async (t) => {
    const disk = new RecordingDisk();
    const { store, writer } = await opened(disk);
    const records = await put(store, writer, [Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]);
    await store.appendOps(ID, [mutation(OpType.DELETE, 0, { seq: 2 }), mutation(OpType.HIDE, 1, { seq: 3 })]);
    await store.close();
    const settled = disk.settled();
    const again = await openStore(settled);
    t.defer(() => again.close());
    const read = (slot: number, force = false) =>
      again.read(ID, slot as FileId, records[slot]!.cookie, ALL, force);
    for (const slot of [0, 1]) await fails('NOT_FOUND', () => read(slot));
    assert.is(again.info(ID)?.state, BlockState.RECOVERED);
    assert.equal((await read(0, true)).payload, records[0]!.payload);
    const wrong = (records[2]!.cookie ^ 1) as Cookie;
    await fails('DONT_KNOW', () => again.read(ID, 2 as FileId, wrong, ALL, false));
    settled.corrupt('blocks/65537.0.blk', (bytes) => {
      bytes[records[2]!.end - 10]! ^= 1;
    });
    await fails('CORRUPT', () => read(2));
    await fails('DONT_KNOW', () => read(0));
  });

  test('an unknown block is not known, and its id can be taken only once', async (t) => {
    const disk = new RecordingDisk();
    const { store } = await opened(disk);
    t.defer(() => store.close());
    const other = 9 as BlockId;
    await fails('DONT_KNOW', () => store.read(other, 0 as FileId, undefined, ALL, false));
    await fails('DONT_KNOW', () => store.check(other, 0 as FileId));
    await fails('DONT_KNOW', () => store.fence(other, EPOCH));
    await fails('DONT_KNOW', () => store.appendOps(other, []));
    assert.is(store.info(other), undefined);
    await fails('CONFLICT', () => store.create(superblockOf(ID, 8), CONFIGURATION));
    const twice = superblockOf(70_000);
    const [one, two] = await Promise.allSettled([
      store.create(twice, CONFIGURATION),
      store.create(twice, CONFIGURATION),
    ]);
    assert.equal([one.status, two.status], ['fulfilled', 'rejected']);
    const foreign = { ...superblockOf(70_001), clusterUuid: 'f'.repeat(32) };
    await fails('BAD_REQUEST', () => store.create(foreign, CONFIGURATION));
    assert.equal(store.blocks, [ID, 70_000]);
  });

  test('a closed store answers nothing any more, after it has finished what it had begun', async () => {
    const disk = new RecordingDisk();
    const { store, writer } = await opened(disk);
    const batch = writer.batch([Buffer.from('late')]);
    const appended = store.appendBatch(ID, writer.superblock.session, batch);
    await Promise.all([appended, store.close(), store.close()]);
    await fails('CLOSED', () => store.read(ID, 0 as FileId, undefined, ALL, false));
    await fails('CLOSED', () => store.appendBatch(ID, writer.superblock.session, batch));
    await fails('CLOSED', () => store.create(superblockOf(1), CONFIGURATION));
    await fails('CLOSED', () => store.fence(ID, EPOCH));
    const again = await openStore(disk.settled());
    await again.recover(ID);
    assert.is(again.info(ID)?.slots, 1);
    await again.close();
  });

  test('states, flags and sizes are told as they change', async (t) => {
    const changes: BlockId[] = [];
    const disk = new RecordingDisk();
    const store = await openStore(disk, { events: { changed: (block) => void changes.push(block) } });
    t.defer(() => store.close());
    const writer = new Writer(superblockOf(ID));
    await store.create(writer.superblock, CONFIGURATION);
    await put(store, writer, [Buffer.alloc(400), Buffer.alloc(100)]);
    assert.equal(changes, [ID]);
    const totals = store.totals();
    assert.equal([totals.blocks, totals.openBlocks, totals.files, totals.aliases], [1, 1, 2, 0]);
    await store.appendOps(ID, [mutation(OpType.DELETE, 0, { seq: 2 })]);
    assert.is(store.entry(ID)?.deadBytes, 480);
    assert.is(store.entry(ID)?.seq, 2);
    await seal(store);
    assert.is(store.entry(ID)?.state, BlockState.SEALED);
    assert.ok(changes.length >= 4);
    assert.is(store.totals().openBlocks, 0);
    assert.is(store.totals().bytes, writer.offset);
  });

  test('no append without the session, at another place, or once it is fenced', async (t) => {
    const { store, writer } = await opened(new RecordingDisk());
    t.defer(() => store.close());
    const { session } = writer.superblock;
    const batch = writer.batch([Buffer.from('a')]);
    await fails('SESSION_ENDED', () => store.appendBatch(ID, (session + 1) as Session, batch));
    await fails('SESSION_ENDED', () =>
      store.appendBatch(ID, session, { ...batch, offset: batch.offset + 8 }),
    );
    await store.appendBatch(ID, session, batch);
    await fails('SESSION_ENDED', () => store.appendBatch(ID, session, batch));
    await store.fence(ID, EPOCH);
    const late = writer.batch([Buffer.from('b')]);
    await fails('SESSION_ENDED', () => store.appendBatch(ID, session, late));
    await fails('SESSION_ENDED', () => store.appendRaw(ID, session, late.offset, raw(late), 4096));
    assert.is(store.info(ID)?.slots, 1);
  });

  test('a superblock or ops log that does not read makes the block unusable, and harms no other', async (t) => {
    const disk = new RecordingDisk();
    const { store, writer } = await opened(disk);
    await put(store, writer, [Buffer.from('a')]);
    for (const id of [70_000, 70_001]) await store.create(superblockOf(id), CONFIGURATION);
    const third = new Writer(superblockOf(70_002));
    await store.create(third.superblock, CONFIGURATION);
    await put(store, third, [Buffer.from('c')]);
    await store.close();
    const found = disk.settled();
    found.corrupt('blocks/70000.0.blk', (bytes) => void bytes.fill(0xee, 100, 110));
    found.corrupt('blocks/70001.0.ops', (bytes) => void bytes.fill(0xee, 70, 80));
    await found.unlink('blocks/70002.0.ops');
    const again = await openStore(found);
    t.defer(() => again.close());
    const bad = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
    for (const id of [70_000, 70_001, 70_002] as BlockId[]) {
      assert.is(again.info(id)?.flags, bad, `block ${id}`);
      await fails('DONT_KNOW', () => again.read(id, 0 as FileId, undefined, ALL, false));
      await fails('IO', () => again.fence(id, EPOCH));
      await fails('IO', () => again.appendOps(id, [mutation(OpType.HIDE, 0, { seq: 2 })]));
      assert.ok(again.entry(id));
    }
    assert.is(again.info(ID)?.flags, 0);
    assert.equal((await again.read(ID, 0 as FileId, undefined, ALL, false)).payload, Buffer.from('a'));
    assert.ok(found.paths.includes('blocks/70000.0.blk'), 'nothing is thrown away');
  });

  test('an ops log that lost acknowledged operations is not taken for a torn one', async (t) => {
    const disk = new RecordingDisk();
    const { store } = await opened(disk);
    for (let seq = 2; seq < 6; seq++) await store.appendOps(ID, [mutation(OpType.DELETE, seq, { seq })]);
    await store.close();
    const found = disk.settled();
    found.corrupt(
      'blocks/65537.0.ops',
      (bytes) => void bytes.fill(0xff, bytes.length - 100, bytes.length - 90),
    );
    const again = await openStore(found);
    t.defer(() => again.close());
    assert.ok((again.info(ID)!.flags & BlockFlag.QUARANTINED) !== 0);
  });

  test('what a crash left of a block that was being made is cleared away', async (t) => {
    const disk = new RecordingDisk();
    const { store } = await opened(disk);
    await store.close();
    const found = disk.settled();
    await found.unlink('blocks/65537.0.blk');
    found.plant('blocks/7.0.blk.tmp', Buffer.alloc(100));
    found.plant('blocks/notes.txt', Buffer.from('not ours'));
    const again = await openStore(found);
    t.defer(() => again.close());
    assert.equal(again.blocks, []);
    assert.equal(await found.list('blocks'), ['notes.txt']);
  });

  test('so is what it left of a copy of an empty block, which would never get a log; one with records stays', async (t) => {
    const disk = new RecordingDisk();
    const { store, writer } = await opened(disk);
    const full = new Writer(superblockOf(70_000));
    await store.create(full.superblock, CONFIGURATION);
    await put(store, full, [Buffer.from('a')]);
    await store.close();
    assert.is(writer.superblock.block, ID);
    const found = disk.settled();
    for (const id of [ID, 70_000]) await found.unlink(`blocks/${id}.0.ops`);
    const again = await openStore(found);
    t.defer(() => again.close());
    assert.equal(again.blocks, [70_000]);
    assert.is(again.info(70_000 as BlockId)?.flags, BlockFlag.SUSPECT | BlockFlag.QUARANTINED);
    assert.equal(await found.list('blocks'), ['70000.0.blk']);
  });

  test('a block that a full disk has no room for leaves no file, however late the calls end', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    t.defer(() => store.close());
    const late = turns(20);
    const open = disk.open.bind(disk);
    disk.open = async (path, mode) => {
      if (path.endsWith('.ops.tmp')) await late;
      return open(path, mode);
    };
    disk.failure = { nth: 1, code: 'DISK_FULL', kinds: ['write'] };
    await fails('DISK_FULL', () => store.create(superblockOf(ID), CONFIGURATION));
    await late;
    await turns(20);
    assert.equal(await disk.list('blocks'), []);
  });

  test('an ops log with history but without its block is set aside, not thrown away', async (t) => {
    const disk = new RecordingDisk();
    const { store } = await opened(disk);
    await store.appendOps(ID, [mutation(OpType.DELETE, 0, { seq: 2 })]);
    await store.close();
    const found = disk.settled();
    await found.unlink('blocks/65537.0.blk');
    const again = await openStore(found);
    t.defer(() => again.close());
    assert.equal(again.blocks, []);
    assert.equal(await found.list('surplus'), ['65537.0.ops']);
  });
});
