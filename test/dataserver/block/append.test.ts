import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError, type TfsError } from '../../../common/errors.ts';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import {
  CONFIGURATION,
  openStore,
  put,
  raw,
  superblockOf,
  Writer,
  type WrittenBatch,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;
const ALL = { offset: 0, length: 0xffff_ffff };

async function world(t: TestContext, events = {}) {
  const disk = new RecordingDisk();
  const store = await openStore(disk, { events });
  t.defer(() => store.close());
  const writer = new Writer(superblockOf(ID));
  await store.create(writer.superblock, CONFIGURATION);
  const { session } = writer.superblock;
  return { disk, store, writer, session };
}

async function codeOf(work: Promise<unknown>): Promise<ErrorCode | undefined> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error !== undefined && !isTfsError(error)) throw error;
  return (error as TfsError | undefined)?.code;
}

describe('block store appends', (test) => {
  test('batches that wait for a write share the next one', async (t) => {
    const { disk, store, writer, session } = await world(t);
    const before = { ...disk.calls };
    const batches = Array.from({ length: 10 }, (_, i) =>
      writer.batch([Buffer.alloc(100, i), Buffer.alloc(8, i)]),
    );
    await Promise.all(batches.map((batch) => store.appendBatch(ID, session, batch)));
    assert.is(disk.calls.write - before.write, 2, 'one for the first, one for all that came meanwhile');
    assert.is(disk.calls.sync - before.sync, 2);
    for (const { records } of batches)
      for (const { slot, cookie, payload } of records)
        assert.equal((await store.read(ID, slot as number as FileId, cookie, ALL, false)).payload, payload);
    const facts = await store.fence(ID, 1 as Epoch);
    assert.is(facts.clean, true);
    const length = facts.validLength;
    const seal = { length, slots: facts.slots, digest: facts.digest, epoch: 1 as Epoch };
    assert.ok(
      (await store.seal(ID, seal)).digest.equals(facts.digest!),
      'the running digest is that of the records',
    );
    assert.equal((await store.verify(ID)).problems, []);
  });

  test('a record is not there before it is durable', async (t) => {
    const { disk, store, writer, session } = await world(t);
    const seen: boolean[] = [];
    disk.onStep = async () => {
      seen.push((await codeOf(store.read(ID, 0 as FileId, undefined, ALL, false))) === undefined);
    };
    await store.appendBatch(ID, session, writer.batch([Buffer.from('x')]));
    disk.onStep = undefined;
    assert.equal(seen, [false, false], 'neither after the write nor inside the sync');
    assert.is(await codeOf(store.read(ID, 0 as FileId, undefined, ALL, false)), undefined);
  });

  test('a copy is the same bytes, verified first', async (t) => {
    const primary = await world(t);
    const member = await world(t);
    for (const size of [0, 1, 500, 9]) {
      const batch = primary.writer.batch([Buffer.alloc(size, size), Buffer.alloc(33, 1)]);
      await primary.store.appendBatch(ID, primary.session, batch);
      await member.store.appendRaw(ID, member.session, batch.offset, raw(batch), 4096);
    }
    const length = primary.writer.offset;
    const [a, b] = await Promise.all(
      [primary, member].map(({ disk }) => disk.readFile('blocks/65537.0.blk')),
    );
    assert.ok(a!.subarray(4096, length).equals(b!.subarray(4096, length)));
    const [one, two] = await Promise.all([primary, member].map(({ store }) => store.fence(ID, 1 as Epoch)));
    assert.equal(one!.digest, two!.digest);
  });

  const damages: Record<string, (bytes: Buffer, batch: WrittenBatch) => Buffer> = {
    'a header bit': (bytes) => flip(bytes, 30),
    'a payload bit': (bytes) => flip(bytes, 85),
    'the last payload bit of the last record': (bytes) => flip(bytes, bytes.length - 1),
    'a record cut short': (bytes) => bytes.subarray(0, bytes.length - 8),
    'bytes behind the last record': (bytes) => Buffer.concat([bytes, Buffer.alloc(8)]),
    'no bytes': () => Buffer.alloc(0),
    'another offset': (bytes) => Buffer.concat([bytes.subarray(88), bytes.subarray(0, 88)]),
  };
  for (const [what, damage] of Object.entries(damages)) {
    test(`a copy with ${what} is refused, and nothing is written`, async (t) => {
      const { disk, store, writer, session } = await world(t);
      const batch = writer.batch([Buffer.alloc(8, 7), Buffer.alloc(24, 9)]);
      const writes = disk.calls.write;
      const bytes = damage(Buffer.from(raw(batch)), batch);
      assert.is(await codeOf(store.appendRaw(ID, session, batch.offset, bytes, 4096)), 'PROTOCOL');
      assert.is(disk.calls.write, writes);
      await store.appendRaw(ID, session, batch.offset, raw(batch), 4096);
      assert.is(store.info(ID)?.slots, 2);
    });
  }

  test('a copy of another block, session or slot does not pass', async (t) => {
    const { store, writer, session } = await world(t);
    for (const other of [superblockOf(65_538), superblockOf(ID, 8), superblockOf(ID, 7, 'b6')]) {
      const batch = new Writer(other).batch([Buffer.from('x')]);
      assert.is(await codeOf(store.appendRaw(ID, session, batch.offset, raw(batch), 4096)), 'PROTOCOL');
    }
    const skipping = new Writer(writer.superblock);
    skipping.slot = 1;
    const batch = skipping.batch([Buffer.from('x')]);
    assert.is(await codeOf(store.appendRaw(ID, session, batch.offset, raw(batch), 4096)), 'PROTOCOL');
  });

  test('more than the block holds is refused', async (t) => {
    const { store, writer, session } = await world(t);
    const batch = writer.batch([Buffer.alloc(70_000)]);
    assert.is(await codeOf(store.appendRaw(ID, session, batch.offset, raw(batch), 4096)), 'PROTOCOL');
  });

  test('what is acknowledged everywhere is proven, and no more', async (t) => {
    const { store, writer, session } = await world(t);
    const proven = async (slot: number): Promise<boolean> =>
      (await store.read(ID, slot as FileId, undefined, ALL, false)).proven;
    await put(store, writer, [Buffer.from('a')]);
    const batch = writer.batch([Buffer.from('b')]);
    await store.appendBatch(ID, session, batch);
    assert.equal([await proven(0), await proven(1)], [true, false]);
    store.setAcked(ID, 1 << 20);
    assert.is(await proven(1), false, 'nobody acknowledges what is not here');
    store.setAcked(ID, batch.offset + batch.bytes);
    assert.is(await proven(1), true);
    store.setAcked(ID, 4096);
    assert.is(await proven(1), true, 'what is proven stays proven');
  });

  test('a failed write ends the session and all writing; reads go on', async (t) => {
    const failures: TfsError[] = [];
    const { disk, store, writer, session } = await world(t, {
      ioError: (error: TfsError) => void failures.push(error),
    });
    await put(store, writer, [Buffer.from('a')]);
    disk.failure = { nth: 1, code: 'IO', kinds: ['sync'] };
    const [first, second] = [writer.batch([Buffer.from('b')]), writer.batch([Buffer.from('c')])];
    const codes = await Promise.all(
      [first, second].map((batch) => codeOf(store.appendBatch(ID, session, batch))),
    );
    assert.equal(codes, ['IO', 'SESSION_ENDED']);
    assert.ok(isTfsError(store.readOnly, 'IO'));
    assert.is(failures.length, 1);
    assert.is(await codeOf(store.appendBatch(ID, session, first)), 'SESSION_ENDED');
    assert.is(await codeOf(store.create(superblockOf(7), CONFIGURATION)), 'READ_ONLY');
    assert.equal((await store.read(ID, 0 as FileId, undefined, ALL, false)).payload, Buffer.from('a'));
    const facts = await store.fence(ID, 1 as Epoch);
    assert.is(facts.clean, false);
    assert.is(facts.validLength, first.offset);
  });

  test('a full disk ends the session of the block alone', async (t) => {
    const { disk, store, writer, session } = await world(t);
    await put(store, writer, [Buffer.from('a')]);
    disk.failure = { nth: 1, code: 'DISK_FULL', kinds: ['write'] };
    const batch = writer.batch([Buffer.from('b')]);
    assert.is(await codeOf(store.appendBatch(ID, session, batch)), 'DISK_FULL');
    assert.is(await codeOf(store.appendBatch(ID, session, batch)), 'SESSION_ENDED');
    assert.is(store.readOnly, undefined);
    const facts = await store.fence(ID, 1 as Epoch);
    assert.is(facts.clean, true);
    assert.is(facts.validLength, batch.offset);
    await store.create(superblockOf(70_000), CONFIGURATION);
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  bytes[at] = bytes[at]! ^ 1;
  return bytes;
}
