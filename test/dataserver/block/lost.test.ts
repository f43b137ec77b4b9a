import * as assert from 'uvu/assert';
import type { Epoch, FileId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import type { BlockStore, SealInfo, SealOrder } from '../../../dataserver/block/store.ts';
import { codeOf } from '../../kit/code-of.ts';
import type { RecordingDisk } from '../../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH, IDX_PATH, ReplicaWorld, SEAL_EPOCH } from '../../kit/replica-world.ts';
import { describe } from '../../kit/suite.ts';

const ALL = { offset: 0, length: 0xffff_ffff };
const SIZES = [300, 500, 40, 700, 120, 900];

const orderOf = (world: ReplicaWorld, change: Partial<SealOrder> = {}): SealOrder => ({
  length: world.writer.offset,
  slots: world.records.length,
  digest: undefined,
  epoch: SEAL_EPOCH,
  ...change,
});

/** As a DataServer completes a replica before its seal. @returns bytes that nobody has */
async function complete(
  store: BlockStore,
  sources: readonly BlockStore[],
  order: SealOrder,
): Promise<number> {
  let missing = await store.missingFor(BLOCK, order);
  for (let before = 0; ; before = missing.reduce((sum, { start, end }) => sum + end - start, 0)) {
    for (const { start, end } of missing)
      for (const source of sources)
        for (let at = start; at < end; ) {
          const { offset, bytes } = await source.readSound(BLOCK, 0, { offset: at, length: end - at });
          if (bytes.length > 0) await store.fill(BLOCK, offset, bytes);
          at = offset + bytes.length;
        }
    missing = await store.missingFor(BLOCK, order);
    const after = missing.reduce((sum, { start, end }) => sum + end - start, 0);
    if (after === 0 || after === before) return after;
  }
}

/** Fences and seals all, the first without a digest. */
async function sealAll(world: ReplicaWorld, change: Partial<SealOrder> = {}): Promise<SealInfo> {
  let seal: SealInfo | undefined;
  for (const { store } of world.replicas) await store.fence(BLOCK, SEAL_EPOCH);
  for (const { store } of world.replicas) {
    const others = world.replicas.map((each) => each.store).filter((other) => other !== store);
    const order = orderOf(world, { ...change, digest: seal?.digest });
    await complete(store, others, order);
    seal = await store.seal(BLOCK, order);
  }
  return seal!;
}

/** Breaks a record so that no process has seen it whole: in its header, or in its payload alone. */
async function damage(world: ReplicaWorld, replica: number, slot: number, where: 'header' | 'payload') {
  await world.restart(replica, (disk) =>
    disk.corrupt(BLOCK_PATH, (bytes) => {
      bytes[where === 'header' ? world.startOf(slot) + 20 : world.startOf(slot) + 85]! ^= 0x10;
    }),
  );
}

describe('records that are bad on every replica', (test) => {
  test('they are sealed as lost, alike everywhere, and answer as damaged and never as absent', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES);
    // Each replica shows the damage in its own way, and has some more that the others make good.
    for (const [replica, where] of [
      [0, 'header'],
      [1, 'payload'],
      [2, 'header'],
    ] as const) {
      await damage(world, replica, 1, where);
      await damage(world, replica, 2, where === 'header' ? 'payload' : 'header');
    }
    await damage(world, 0, 0, 'header');
    await damage(world, 2, 3, 'payload');
    const strict = { ...orderOf(world), mayLose: false };
    for (const { store } of world.replicas) await store.fence(BLOCK, SEAL_EPOCH);
    assert.is(await codeOf(world.replicas[0]!.store.seal(BLOCK, strict)), 'CONFLICT', 'not unless allowed');
    const seal = await sealAll(world, { mayLose: true });
    assert.is(seal.lost, 2);
    const [a, b, c] = await Promise.all(world.replicas.map(({ disk }) => disk.readFile(IDX_PATH)));
    assert.ok(a!.equals(b!) && a!.equals(c!), 'the index files are the same');
    const codes = async (store: BlockStore) =>
      Promise.all(
        [0, 1, 2, 3, 4, 5].map((slot) => codeOf(store.read(BLOCK, slot as FileId, undefined, ALL, false))),
      );
    const expected = [undefined, 'CORRUPT', 'CORRUPT', undefined, undefined, undefined];
    for (const again of [false, true])
      for (const [i, replica] of world.replicas.entries()) {
        if (again) await world.restart(i, (disk) => (i === 0 ? disk.unlink(IDX_PATH) : undefined));
        const { store } = replica;
        const info = store.info(BLOCK)!;
        assert.equal([info.state, info.flags], [BlockState.SEALED, BlockFlag.SUSPECT]);
        assert.ok(info.seal!.digest.equals(seal.digest));
        assert.equal(await codes(store), expected);
        assert.is(store.totals().lostRecords, 2);
        const { holes, digest } = await store.fence(BLOCK, SEAL_EPOCH);
        assert.equal(
          holes.map(({ start, end, firstSlot, slots }) => [start, end, firstSlot, slots]),
          [[world.startOf(1), world.startOf(3), 1, 2]],
        );
        assert.ok(digest!.equals(seal.digest));
        assert.equal((await store.verify(BLOCK)).problems, [
          '2 records are lost: they verified on no replica when it was sealed',
        ]);
        assert.is(await codeOf(store.read(BLOCK, 6 as FileId, undefined, ALL, false)), 'DONT_KNOW');
      }
  });

  test('the digest says which ones: other damage than was sealed does not pass for it', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    await damage(world, 0, 1, 'payload');
    await damage(world, 1, 3, 'payload');
    const [one, two] = world.replicas.map(({ store }) => store);
    for (const store of [one!, two!]) await store.fence(BLOCK, SEAL_EPOCH);
    const { digest, lost } = await one!.seal(BLOCK, orderOf(world, { mayLose: true }));
    assert.is(lost, 1);
    assert.is(await codeOf(two!.seal(BLOCK, orderOf(world, { digest, lost: 1 }))), 'CONFLICT');
    assert.is(two!.info(BLOCK)!.state, BlockState.RECOVERED);
    // A sealed block that loses another record later is not as it was sealed.
    await world.restart(0, (disk) => disk.unlink(IDX_PATH));
    world.flip(0, world.startOf(4) + 90);
    assert.ok((await world.replicas[0]!.store.verify(BLOCK)).problems.some((line) => /slot 4/.test(line)));
  });

  test('what was sealed whole and has rotted since keeps no other replica from the same seal', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    const [one, two] = world.replicas;
    await damage(world, 1, 3, 'header');
    for (const { store } of [one!, two!]) await store.fence(BLOCK, SEAL_EPOCH);
    const { digest } = await one!.store.seal(BLOCK, orderOf(world));
    world.flip(0, world.startOf(3) + 90);
    const order = orderOf(world, { digest, mayLose: true });
    assert.ok((await complete(two!.store, [one!.store], order)) > 0, 'the source does not have it any more');
    assert.is(one!.store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    await two!.store.seal(BLOCK, order);
    assert.is(two!.store.info(BLOCK)!.flags, BlockFlag.SUSPECT, 'before anybody has read it');
    for (const again of [false, true]) {
      if (again) await world.restart(1);
      const { store } = two!;
      const read = (slot: number) => codeOf(store.read(BLOCK, slot as FileId, undefined, ALL, false));
      assert.equal([await read(2), await read(3), await read(4)], [undefined, 'CORRUPT', undefined]);
      const info = store.info(BLOCK)!;
      assert.equal([info.state, info.flags], [BlockState.SEALED, BlockFlag.SUSPECT]);
      assert.ok(info.seal!.digest.equals(digest));
      assert.is(info.seal!.lost, undefined);
    }
  });

  test('a tail that was acknowledged and is bad everywhere is lost too, where its length is still known', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES);
    for (const replica of [1, 2]) await damage(world, replica, 5, 'header');
    // The one that has not restarted knows what it has written, though no later record says so.
    world.flip(0, world.startOf(5) + 20);
    const facts = await Promise.all(world.replicas.map(({ store }) => store.fence(BLOCK, SEAL_EPOCH)));
    assert.equal(
      facts.map(({ validLength }) => validLength),
      [world.writer.offset, world.startOf(5), world.startOf(5)],
    );
    const seal = await sealAll(world, { mayLose: true });
    assert.equal([seal.length, seal.slots, seal.lost], [world.writer.offset, 6, 1]);
  });

  test('what a disk fails to read for a while is not sealed as lost', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    const [one, two] = world.replicas;
    await damage(world, 0, 3, 'payload');
    await one!.store.fence(BLOCK, SEAL_EPOCH);
    two!.disk.spoil(BLOCK_PATH, world.startOf(3), world.startOf(4));
    const range = { offset: world.startOf(3), length: world.startOf(4) - world.startOf(3) };
    const isUnread = async () => (await two!.store.readSound(BLOCK, 0, range)).unread;
    assert.ok(await isUnread(), 'it may have what the other asks for');
    // Found suspect by that: walked from its start.
    await two!.store.fence(BLOCK, SEAL_EPOCH);
    assert.ok(await isUnread());
    const order = orderOf(world, { mayLose: true });
    assert.is(await codeOf(two!.store.seal(BLOCK, order)), 'IO');
    assert.is(two!.store.info(BLOCK)!.seal, undefined);
    two!.disk.spoil(BLOCK_PATH, 0, 0);
    await two!.store.fence(BLOCK, SEAL_EPOCH);
    const { digest, lost } = await two!.store.seal(BLOCK, order);
    assert.is(lost, undefined);
    const same = { ...order, digest };
    await complete(one!.store, [two!.store], same);
    assert.ok((await one!.store.seal(BLOCK, same)).digest.equals(digest));
  });

  test('what a disk fails to read to the end is lost', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
    const { store, disk } = world.replicas[0]!;
    disk.spoil(BLOCK_PATH, world.startOf(3), world.startOf(4));
    await store.readSound(BLOCK, 0, { offset: world.startOf(3), length: 1 });
    await store.fence(BLOCK, SEAL_EPOCH);
    const { lost } = await store.seal(BLOCK, orderOf(world, { mayLose: true, mayLoseUnread: true }));
    assert.ok(lost! > 0);
  });

  for (const [what, change] of [
    ['in the same process', undefined],
    ['in another process', () => undefined],
    ['in another process, without an index file', (disk: RecordingDisk) => disk.unlink(IDX_PATH)],
  ] as const)
    test(`what a disk failed to read for too long, and reads again, is sealed once more: ${what}`, async (t) => {
      const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
      const { disk: broken, store: old } = world.replicas[0]!;
      broken.spoil(BLOCK_PATH, world.startOf(0), world.writer.offset);
      await old.readSound(BLOCK, 0, { offset: world.startOf(3), length: 1 });
      await old.fence(BLOCK, SEAL_EPOCH);
      const givenUp = await old.seal(BLOCK, orderOf(world, { mayLose: true, mayLoseUnread: true }));
      assert.is(givenUp.lost, SIZES.length);
      assert.ok(
        (await old.fence(BLOCK, SEAL_EPOCH)).digest!.equals(givenUp.digest),
        'it still does not read',
      );
      broken.spoil(BLOCK_PATH, 0, 0);
      if (change !== undefined) await world.restart(0, change);
      const { disk, store } = world.replicas[0]!;
      const before = await disk.readFile(BLOCK_PATH);
      assert.is(await codeOf(world.repair(0, [])), 'CONFLICT', 'the file is not made anew without them');
      assert.equal(await disk.list('trash'), []);
      assert.ok((await disk.readFile(BLOCK_PATH)).equals(before), 'it stays as it is');
      const { holes, digest, seal, clean } = await store.fence(BLOCK, SEAL_EPOCH);
      assert.equal([holes, clean, seal!.lost], [[], true, SIZES.length]);
      assert.not(digest!.equals(givenUp.digest));
      const order = orderOf(world, { digest: digest!, epoch: (SEAL_EPOCH + 1) as Epoch });
      assert.is(await complete(store, [], order), 0);
      assert.is((await store.seal(BLOCK, order)).lost, undefined);
      assert.equal((await store.verify(BLOCK)).problems, []);
      await world.restart(0);
      assert.is(world.replicas[0]!.store.info(BLOCK)!.flags, 0);
      for (const [slot, { cookie, payload }] of world.records.entries()) {
        const read = await world.replicas[0]!.store.read(BLOCK, slot as FileId, cookie, ALL, false);
        assert.ok(read.payload.equals(payload));
      }
    });

  test('a repair of a replica that is quarantined keeps what the others are sealed without', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    for (const i of [0, 1]) await damage(world, i, 1, 'payload');
    await sealAll(world, { mayLose: true });
    // Here it turns up, and the superblock is bad.
    await world.restart(0, (disk) =>
      disk.corrupt(BLOCK_PATH, (bytes) => {
        bytes[world.startOf(1) + 85]! ^= 0x10;
        bytes[60]! ^= 0x10;
      }),
    );
    const { store } = world.replicas[0]!;
    assert.ok((store.info(BLOCK)!.flags & BlockFlag.QUARANTINED) !== 0);
    const { whole } = await world.repair(0, [1]);
    assert.not(whole);
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    assert.equal((await store.fence(BLOCK, SEAL_EPOCH)).holes, [], 'for the next seal');
  });

  test('what is lost and turns up is sealed once more, with it', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES);
    const [one, two, late] = world.replicas;
    for (const replica of [0, 1]) await damage(world, replica, 1, 'payload');
    for (const { store } of world.replicas) await store.fence(BLOCK, SEAL_EPOCH);
    let digest: Buffer | undefined;
    for (const { store } of [one!, two!])
      ({ digest } = await store.seal(BLOCK, orderOf(world, { mayLose: true, digest })));
    const newer = orderOf(world, { epoch: (SEAL_EPOCH + 1) as Epoch, mayLose: true });
    const healed = await late!.store.seal(BLOCK, newer);
    assert.is(healed.lost, undefined);
    for (const [i, { store }] of world.replicas.entries()) {
      const order = { ...newer, digest: healed.digest };
      assert.is(await complete(store, [late!.store], order), 0);
      await store.seal(BLOCK, order);
      assert.is(store.info(BLOCK)!.flags, 0);
      assert.equal((await store.verify(BLOCK)).problems, []);
      await world.restart(i);
      const { payload } = await world.replicas[i]!.store.read(BLOCK, 1 as FileId, undefined, ALL, false);
      assert.ok(payload.equals(world.records[1]!.payload));
    }
  });

  test('a crash between the seal with the found record and its index file forgets nothing', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    const [one, late] = world.replicas;
    await damage(world, 0, 1, 'payload');
    await one!.store.fence(BLOCK, SEAL_EPOCH);
    await one!.store.seal(BLOCK, orderOf(world, { mayLose: true }));
    const stale = await one!.disk.readFile(IDX_PATH);
    await late!.store.fence(BLOCK, SEAL_EPOCH);
    const order = orderOf(world, { epoch: (SEAL_EPOCH + 1) as Epoch });
    await complete(one!.store, [late!.store], order);
    await one!.store.seal(BLOCK, order);
    await world.restart(0, (disk) => disk.plant(IDX_PATH, stale));
    assert.is(await codeOf(one!.store.read(BLOCK, 1 as FileId, undefined, ALL, false)), undefined);
  });

  test('an open block in which a read has found damage is walked whole by its fence', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    const { store } = world.replicas[0]!;
    world.flip(0, world.startOf(2) + 85);
    assert.equal(
      (await store.fence(BLOCK, SEAL_EPOCH)).holes,
      [],
      'nobody has noticed, and its end is sound',
    );
    assert.is(await codeOf(store.read(BLOCK, 2 as FileId, undefined, ALL, false)), 'CORRUPT');
    const facts = await store.fence(BLOCK, SEAL_EPOCH);
    assert.equal(
      facts.holes.map(({ firstSlot, slots }) => [firstSlot, slots]),
      [[2, 1]],
    );
    assert.equal([facts.clean, facts.digest], [false, undefined]);
    const order = orderOf(world);
    await world.replicas[1]!.store.fence(BLOCK, SEAL_EPOCH);
    assert.is(await complete(store, [world.replicas[1]!.store], order), 0);
    await store.seal(BLOCK, order);
    assert.is(store.info(BLOCK)!.flags, 0);
  });

  test('a sector that cannot be read, of a block this process has written, is damage like any other', async (t) => {
    const world = await ReplicaWorld.open(t, [...SIZES, 6000, 6000, 200], { replicas: 2 });
    const [bad, good] = world.replicas;
    bad!.disk.spoil(BLOCK_PATH, 8192, 12_288);
    assert.ok(await codeOf(bad!.store.read(BLOCK, 6 as FileId, undefined, ALL, false)));
    const facts = await bad!.store.fence(BLOCK, SEAL_EPOCH);
    assert.is(facts.validLength, world.writer.offset);
    assert.ok(facts.holes.length > 0);
    // A disk gives such a sector another place when it is written again.
    bad!.disk.spoil(BLOCK_PATH, 0, 0);
    bad!.disk.corrupt(BLOCK_PATH, (bytes) => void bytes.fill(0, 8192, 12_288));
    await good!.store.fence(BLOCK, SEAL_EPOCH);
    const order = orderOf(world);
    assert.is(await complete(bad!.store, [good!.store], order), 0);
    await bad!.store.seal(BLOCK, order);
    assert.equal((await bad!.store.verify(BLOCK)).problems, []);
  });

  test('records are taken from behind a damaged one, whose length only another replica could tell', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 2 });
    for (const slot of [1, 2, 3]) await damage(world, 0, slot, 'header');
    await damage(world, 1, 1, 'header');
    const [bad, source] = world.replicas.map(({ store }) => store);
    await source!.fence(BLOCK, SEAL_EPOCH);
    const range = { offset: world.startOf(1), length: world.startOf(4) - world.startOf(1) };
    const { offset, bytes } = await source!.readSound(BLOCK, 0, range);
    assert.equal([offset, bytes.length], [world.startOf(2), world.startOf(4) - world.startOf(2)]);
    await bad!.fence(BLOCK, SEAL_EPOCH);
    const fill = (at: number, part: Buffer) => codeOf(bad!.fill(BLOCK, at, part));
    assert.is(await fill(offset + 8, bytes), 'CONFLICT', 'no record starts there');
    assert.is(await fill(world.startOf(4), bytes), 'CONFLICT', 'nothing is missing there');
    assert.is(await fill(offset, bytes), undefined);
    const order = orderOf(world);
    assert.equal(
      (await bad!.missingFor(BLOCK, order)).map(({ firstSlot, slots }) => [firstSlot, slots]),
      [[1, 1]],
    );
  });

  test('a source does not hand out what does not verify, and says so of itself', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1 });
    const { store } = world.replicas[0]!;
    world.flip(0, world.startOf(2) + 85);
    const whole = { offset: 4096, length: world.writer.offset - 4096 };
    const first = await store.readSound(BLOCK, 0, whole);
    assert.equal([first.offset, first.bytes.length], [4096, world.startOf(2) - 4096]);
    const rest = { offset: world.startOf(2), length: 100_000 };
    const second = await store.readSound(BLOCK, 0, rest);
    assert.equal(
      [second.offset, second.bytes.length],
      [world.startOf(3), world.writer.offset - world.startOf(3)],
    );
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    assert.is(
      (await store.readSound(BLOCK, 0, { offset: world.writer.offset, length: 100 })).bytes.length,
      0,
    );
  });
});
