import * as assert from 'uvu/assert';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import {
  CONFIGURATION,
  openStore,
  put,
  raw,
  superblockOf,
  type WorldOptions,
  Writer,
} from '../../kit/block-world.ts';
import { codeOf } from '../../kit/code-of.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;
const EPOCH = 1 as Epoch;
const ALL = { offset: 0, length: 0xffff_ffff };
const PATH = 'blocks/65537.0.blk';

interface Replica {
  disk: RecordingDisk;
  store: BlockStore;
}

/** Replicas of one block with the same batches; `writer` goes on from there. */
async function replicas(
  t: TestContext,
  count: number,
  batches: readonly number[][],
  options: WorldOptions = {},
) {
  const writer = new Writer(superblockOf(ID));
  const all: Replica[] = [];
  for (let i = 0; i < count; i++) {
    const disk = new RecordingDisk();
    const store = await openStore(disk, options);
    t.defer(() => store.close());
    await store.create(writer.superblock, CONFIGURATION);
    all.push({ disk, store });
  }
  for (const sizes of batches) {
    const batch = writer.batch(sizes.map((size) => writer.random.bytes(size)));
    for (const { store } of all)
      await store.appendRaw(ID, writer.superblock.session, batch.offset, raw(batch), writer.acked);
    writer.acked = writer.offset;
    for (const { store } of all) store.setAcked(ID, writer.acked);
  }
  return { writer, all };
}

/** The same replica after a kill, with the file changed by `damage`. */
async function restarted(
  t: TestContext,
  replica: Replica,
  damage?: (bytes: Buffer) => void,
): Promise<Replica> {
  const disk = replica.disk.settled();
  if (damage !== undefined) disk.corrupt(PATH, damage);
  const store = await openStore(disk);
  t.defer(() => store.close());
  return { disk, store };
}

const BATCHES = [[100, 200], [300], [50, 60, 70], [500]];

describe('block store recovery', (test) => {
  test('a torn tail is dropped, and the block is not suspect', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const last = writer.written.at(-1)!;
    const { store } = await restarted(
      t,
      all[0]!,
      (bytes) => void bytes.fill(0, last.end - 100, last.end - 90),
    );
    const facts = await store.fence(ID, EPOCH);
    assert.is(facts.validLength, writer.written.at(-2)!.end);
    assert.is(facts.clean, false);
    assert.equal(facts.holes, []);
    assert.ok(facts.digest);
    assert.is(store.info(ID)?.flags, 0);
  });

  test('damage below a watermark is a hole: nothing behind it is lost, and the block is suspect', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const [, second, third] = writer.written;
    const { store } = await restarted(
      t,
      all[0]!,
      (bytes) => void bytes.fill(0xee, second!.end - 250, second!.end + 100),
    );
    const facts = await store.fence(ID, EPOCH);
    assert.is(facts.validLength, writer.offset);
    assert.is(facts.digest, undefined);
    assert.equal(
      facts.holes.map(({ start, end }) => [start, end]),
      [[writer.written[0]!.end, third!.end]],
    );
    assert.is(store.info(ID)?.flags, BlockFlag.SUSPECT);
    const code = (slot: number) => codeOf(store.read(ID, slot as FileId, undefined, ALL, false));
    assert.equal(await Promise.all([0, 1, 2, 3, 6].map(code)), [
      undefined,
      'CORRUPT',
      'CORRUPT',
      undefined,
      undefined,
    ]);
  });

  test('recovering twice, or at the same time, finds the same and changes nothing', async (t) => {
    const { all } = await replicas(t, 1, BATCHES);
    const { disk, store } = await restarted(t, all[0]!);
    const before = await disk.readFile(PATH);
    const [one, two] = await Promise.all([store.fence(ID, EPOCH), store.fence(ID, EPOCH), store.recover(ID)]);
    assert.equal({ ...one }, { ...two });
    assert.equal({ ...(await store.fence(ID, 2 as Epoch)) }, { ...one });
    assert.ok(before.equals(await disk.readFile(PATH)));
  });

  test('a disk that cannot read says so, and is asked again', async (t) => {
    const { all } = await replicas(t, 1, BATCHES);
    const { disk, store } = await restarted(t, all[0]!);
    disk.failure = { nth: 2, code: 'IO', kinds: ['read'] };
    assert.is(await codeOf(store.fence(ID, EPOCH)), 'IO');
    assert.is(store.info(ID)?.walked, false);
    assert.is((await store.fence(ID, EPOCH)).slots, 7);
    assert.is(store.info(ID)?.flags, 0);
  });

  test('a fence reads back what was written last, and does not call a lying disk clean', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const { disk, store } = all[0]!;
    const last = writer.written.at(-1)!;
    disk.corrupt(PATH, (bytes) => void bytes.fill(0, last.end - 100, last.end - 90));
    const facts = await store.fence(ID, EPOCH);
    assert.is(facts.clean, false);
    assert.is(facts.validLength, last.end, 'it was acknowledged: a hole, not an end');
    assert.is(facts.holes.length, 1);
  });
});

describe('block store repair and seal', (test) => {
  const missing = (
    facts: { holes: readonly { start: number; end: number }[]; validLength: number },
    length: number,
  ) => [
    ...facts.holes.map(({ start, end }) => ({ start, end })),
    ...(facts.validLength < length ? [{ start: facts.validLength, end: length }] : []),
  ];

  /** What a DataServer does before a seal. */
  async function repair(bad: BlockStore, good: BlockStore, length: number, step: number): Promise<void> {
    for (const { start, end } of missing(await bad.fence(ID, EPOCH), length)) {
      for (let at = start; at < end; ) {
        const { bytes } = await good.readRaw(ID, 0, at, Math.min(step, end - at));
        assert.ok(bytes.length > 0, 'the source has it');
        await bad.fill(ID, at, bytes);
        at += bytes.length;
      }
    }
  }

  for (const step of [1, 400, 1 << 20]) {
    test(`a hole and a torn tail are repaired from another replica, ${step} bytes at a time`, async (t) => {
      const { writer, all } = await replicas(t, 2, BATCHES);
      const [first, second] = writer.written;
      const last = writer.written.at(-1)!;
      const bad = await restarted(t, all[0]!, (bytes) => {
        bytes.fill(0xee, first!.end + 10, second!.end + 20);
        bytes.fill(0xee, last.end - 100, last.end);
      });
      const good = all[1]!;
      const { validLength: length, slots, digest } = await good.store.fence(ID, EPOCH);
      await repair(bad.store, good.store, length, step);
      const facts = await bad.store.fence(ID, EPOCH);
      assert.equal([facts.validLength, facts.slots, facts.holes], [length, slots, []]);
      assert.equal(facts.digest, digest);
      assert.is(bad.store.info(ID)?.flags, 0, 'repaired, so no longer suspect');
      for (const { store } of [good, bad]) await store.seal(ID, { length, slots, digest, epoch: EPOCH });
      const [a, b] = await Promise.all([good, bad].map(({ disk }) => disk.readFile(PATH)));
      assert.is(a!.length, length, 'what was preallocated is cut');
      assert.ok(a!.equals(b!), 'the replicas are the same');
      const [x, y] = await Promise.all([good, bad].map(({ disk }) => disk.readFile('blocks/65537.0.idx')));
      assert.ok(x!.equals(y!));
      const again = await restarted(t, bad);
      assert.equal((await again.store.verify(ID)).problems, []);
    });
  }

  test('a repair is refused where nothing is missing, beyond a hole, of other bytes, and while the block is OPEN', async (t) => {
    const { writer, all } = await replicas(t, 2, BATCHES);
    const good = all[1]!.store;
    const { bytes: all_ } = await good.readRaw(ID, 0, 4096, 1 << 20);
    assert.is(await codeOf(good.fill(ID, writer.offset, all_)), 'CONFLICT');
    const [first, second, third] = writer.written;
    const bad = await restarted(t, all[0]!, (bytes) => void bytes.fill(0, first!.end + 10, second!.end - 10));
    await bad.store.fence(ID, EPOCH);
    const part = (from: number, to: number): Buffer => all_.subarray(from - 4096, to - 4096);
    const fill = (at: number, bytes: Buffer) => codeOf(bad.store.fill(ID, at, bytes));
    assert.is(await fill(4096, part(4096, first!.end)), 'CONFLICT');
    assert.is(await fill(first!.end, part(first!.end, third!.end)), 'CONFLICT');
    assert.is(await fill(first!.end, part(4096, first!.end)), 'PROTOCOL');
    const damaged = Buffer.from(part(first!.end, second!.end));
    damaged[damaged.length - 1]! ^= 1;
    assert.is(await fill(first!.end, damaged), 'PROTOCOL');
    assert.is(await fill(first!.end, part(first!.end, second!.end)), undefined);
    assert.equal((await bad.store.fence(ID, EPOCH)).holes, []);
  });

  test('records for another replica are whole ones, from a boundary to a damaged one or the end', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const [first, second] = writer.written;
    const { store } = await restarted(
      t,
      all[0]!,
      (bytes) => void bytes.fill(0, first!.end + 10, second!.end - 10),
    );
    const lengths = async (offset: number, length: number) =>
      (await store.readRaw(ID, 0, offset, length)).bytes.length;
    assert.is(await lengths(4096, 1), first!.end - 4096);
    assert.is(await lengths(4096, 1 << 20), first!.end - 4096, 'not into a hole');
    assert.is(await lengths(first!.end, 1 << 20), 0);
    assert.is(await lengths(4104, 1 << 20), 0);
    assert.is(await lengths(second!.end, 1 << 20), writer.offset - second!.end);
    assert.is(await lengths(second!.end, 500), writer.written[2]!.end - second!.end);
    assert.is(await lengths(writer.offset, 100), 0);
    assert.is(await codeOf(store.readRaw(ID, 1, 4096, 100)), 'CONFLICT');
  });

  test('a seal is refused where something does not fit, and changes nothing then', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const { store } = all[0]!;
    const { length: n } = writer.written;
    const good = { length: writer.offset, slots: n, digest: undefined, epoch: EPOCH };
    const seal = (change: Partial<typeof good>) => codeOf(store.seal(ID, { ...good, ...change }));
    assert.is(await seal({}), 'CONFLICT', 'still OPEN');
    await store.fence(ID, EPOCH);
    assert.is(await seal({ length: writer.offset + 8 }), 'CONFLICT', 'more than there is');
    assert.is(await seal({ length: writer.offset - 8 }), 'CONFLICT', 'below a watermark, and no boundary');
    assert.is(
      await seal({ length: writer.written.at(-2)!.end, slots: n - 1 }),
      'CONFLICT',
      'below what is proven',
    );
    assert.is(await seal({ slots: n - 1 }), 'CONFLICT');
    assert.is(await codeOf(store.seal(ID, { ...good, digest: Buffer.alloc(32) })), 'CONFLICT');
    assert.is(store.info(ID)?.state, BlockState.FENCED);
    assert.is(await seal({}), undefined);
    assert.is(await seal({}), undefined, 'again is harmless');
    assert.is(await seal({ slots: n - 1 }), 'CONFLICT');
    assert.is(await codeOf(store.seal(ID, { ...good, digest: Buffer.alloc(32) })), 'CONFLICT');
  });

  test('a seal over a hole is refused', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const [first, second] = writer.written;
    const { store } = await restarted(
      t,
      all[0]!,
      (bytes) => void bytes.fill(0, first!.end + 10, second!.end - 10),
    );
    const slots = writer.written.length;
    assert.is(
      await codeOf(store.seal(ID, { length: writer.offset, slots, digest: undefined, epoch: EPOCH })),
      'CONFLICT',
    );
  });

  test('what lies beyond the seal is set aside first, and answers no more', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const { disk, store } = all[0]!;
    const [length, slots] = [writer.offset, writer.written.length];
    const batch = writer.batch([writer.random.bytes(700), writer.random.bytes(5)]);
    await store.appendBatch(ID, writer.superblock.session, batch);
    const before = await store.fence(ID, EPOCH);
    assert.is(before.validLength, writer.offset);
    const seal = await store.seal(ID, { length, slots, digest: undefined, epoch: EPOCH });
    assert.is.not(seal.digest.equals(before.digest!), true);
    assert.ok((await disk.readFile(`surplus/65537.0.${length}.surplus`)).equals(raw(batch)));
    assert.is((await disk.stat(PATH))?.size, length);
    assert.is(await codeOf(store.read(ID, slots as FileId, undefined, ALL, true)), 'NOT_FOUND');
    assert.equal((await store.verify(ID)).problems, []);
  });

  test('an empty block can be sealed', async (t) => {
    const { all } = await replicas(t, 1, []);
    const { store } = all[0]!;
    const { validLength: length, slots, digest } = await store.fence(ID, EPOCH);
    assert.equal([length, slots], [4096, 0]);
    await store.seal(ID, { length, slots, digest, epoch: EPOCH });
    assert.equal((await store.verify(ID)).problems, []);
    const again = await restarted(t, all[0]!);
    assert.is(await codeOf(again.store.read(ID, 0 as FileId, undefined, ALL, false)), 'NOT_FOUND');
  });

  test('a scrub finds a changed bit in a sealed block', async (t) => {
    const { writer, all } = await replicas(t, 1, BATCHES);
    const { disk, store } = all[0]!;
    const { validLength: length, slots, digest } = await store.fence(ID, EPOCH);
    await store.seal(ID, { length, slots, digest, epoch: EPOCH });
    disk.corrupt(PATH, (bytes) => {
      bytes[writer.written[1]!.end - 20]! ^= 1;
    });
    const report = await store.verify(ID);
    assert.ok(report.problems.length > 0);
    assert.match(report.problems[0]!, /payload checksum mismatch/);
  });

  test('a seal below what was acknowledged is refused', async (t) => {
    const { writer, all } = await replicas(t, 1, [[10]]);
    const { store } = all[0]!;
    await put(store, writer, [Buffer.from('acknowledged')]);
    const { length } = writer.written;
    const facts = await store.fence(ID, EPOCH);
    const order = { length: writer.written[0]!.end, slots: length - 1, digest: undefined, epoch: EPOCH };
    assert.is(facts.provenLength, writer.offset);
    assert.is(await codeOf(store.seal(ID, order)), 'CONFLICT');
  });
});
