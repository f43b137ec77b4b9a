import { createHash } from 'node:crypto';
import * as assert from 'uvu/assert';
import { RECORD_HEADER_BYTES } from '../../common/format/record.ts';
import { encodeSuperblock } from '../../common/format/superblock.ts';
import type { Epoch } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { raw, superblockOf } from '../kit/block-world.ts';
import { BLOCK, BLOCK_PATH } from '../kit/replica-world.ts';
import { describe } from '../kit/suite.ts';
import { ObservedWorld } from './observed-world.ts';
import { BIG, breaks, configuration, damage, flip, give, key, SIZES, sealTo } from './observer-rig.ts';

describe('observer: records', (test) => {
  test('what is right is right, from the first record to the seal and a restart', async (t) => {
    const observed = await ObservedWorld.open(t, SIZES, BIG);
    for (const slot of SIZES.keys()) observed.ack(slot);
    await observed.world.seal();
    await observed.look();
    await observed.world.restart(1);
    await observed.look();
    const story = observed.observer.stories.get(BLOCK)!;
    assert.is(story.slots, SIZES.length);
    assert.is(story.progressOf(2 as never).length, story.length);
    assert.is(story.ackedLength, story.length);
  });

  test('I1: acknowledged, and not durable on a member', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const { world } = observed;
    const batch = world.writer.batch([Buffer.from('x')]);
    for (const i of [0, 2])
      await world.replicas[i]!.store.appendRaw(
        BLOCK,
        7 as never,
        batch.offset,
        raw(batch),
        world.writer.acked,
      );
    await observed.look();
    await breaks('I1', /server 2: .*slot 1 of picture 1/, () => observed.ack(1));
  });

  test('I1: acknowledged behind a complete seal, by a configuration without the one that lacks it', async (t) => {
    for (const first of ['seal', 'configuration'] as const) {
      const observed = await ObservedWorld.open(t, [100], BIG);
      const { world } = observed;
      const batch = world.writer.batch([Buffer.from('x')]);
      for (const i of [0, 2])
        await world.replicas[i]!.store.appendRaw(
          BLOCK,
          7 as never,
          batch.offset,
          raw(batch),
          world.writer.acked,
        );
      await observed.look();
      const story = observed.observer.stories.get(BLOCK)!;
      const seal = { length: story.length, slots: 2, digest: story.digestAt(story.length)! };
      const isNotEnough = () => breaks('I1', /server 2: .*slot 1 of picture 1/, () => observed.ack(1));
      if (first === 'seal') {
        sealTo(observed, 1, { ...seal, complete: true });
        await isNotEnough();
        // One is not enough, and one that lacks it as well counts for nothing.
        await give(observed, configuration(2, [1]), [0]);
        await isNotEnough();
        await give(observed, configuration(3, [1, 2]), [0]);
        await isNotEnough();
        await give(observed, configuration(4, [1, 3]), [0]);
      } else {
        await give(observed, configuration(2, [1, 3]), [0, 2]);
        await isNotEnough();
        sealTo(observed, 1, seal);
        await isNotEnough();
        sealTo(observed, 3, { ...seal, complete: true });
      }
      observed.ack(1);
    }
  });

  test('I1: acknowledged, and durable nowhere; with another cookie; with other bytes', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const { payload, cookie, sha1 } = observed.world.records[0]!;
    const ack = (over: object) => () =>
      observed.observer.acked('picture', { key: { ...key(0), cookie }, payload, sha1, ...over });
    await breaks('I1', /durable nowhere/, ack({ key: { ...key(1), cookie } }));
    await breaks('I1', /another cookie/, ack({ key: { ...key(0), cookie: cookie ^ 1 } }));
    await breaks('I1', /other bytes/, ack({ payload: Buffer.from('other') }));
    await breaks('I1', /its block is durable nowhere/, ack({ key: { ...key(0), block: 5 } }));
  });

  test('I1: the primary believes more to be durable on all than is', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const { world } = observed;
    const batch = world.writer.batch([Buffer.from('x')]);
    for (const i of [0, 1])
      await world.replicas[i]!.store.appendRaw(
        BLOCK,
        7 as never,
        batch.offset,
        raw(batch),
        world.writer.acked,
      );
    await observed.look();
    world.replicas[0]!.store.setAcked(BLOCK, batch.offset + batch.bytes);
    await breaks('I1', /server 3: .*server 1 says that all have/, () => observed.observer.step());
  });

  /** Two records, of which one server has neither; the header of the second says that all have the first. */
  async function appendWithoutThird({ world }: ObservedWorld): Promise<void> {
    for (const payload of ['x', 'y']) {
      const batch = world.writer.batch([Buffer.from(payload)]);
      for (const i of [0, 1])
        await world.replicas[i]!.store.appendRaw(BLOCK, 7 as never, batch.offset, raw(batch), 4096);
      world.writer.acked = world.writer.offset;
    }
  }

  test('I1: a header says that all have what one has not', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    await appendWithoutThird(observed);
    await breaks('I1', /server 3: .*a header says so/, () => observed.look());
  });

  test('I1: not where a fault had damaged the file of that one, and another has a hole, or only what anybody had then', async (t) => {
    for (const isHollow of [false, true]) {
      const observed = await ObservedWorld.open(t, [100], BIG);
      const { medium } = observed.servers[2]!;
      medium.damaged.add(BLOCK_PATH);
      medium.change(BLOCK_PATH, flip);
      observed.observer.step();
      medium.damaged.clear();
      medium.change(BLOCK_PATH, (bytes) => {
        bytes.fill(0, 4096);
        return isHollow ? Buffer.concat([bytes, Buffer.alloc(8192)]) : bytes.subarray(0, 4096);
      });
      observed.observer.step();
      await appendWithoutThird(observed);
      for (const i of [0, 1]) await observed.servers[i]!.medium.follow(observed.world.replicas[i]!.disk);
      observed.observer.step();
    }
  });

  test('I4: a byte of a record that was durable changes, or differs from that of another replica', async (t) => {
    for (const isNew of [false, true]) {
      const observed = await ObservedWorld.open(t, [100, 50], BIG);
      const [, second] = observed.servers;
      if (isNew) second!.medium.set(BLOCK_PATH, second!.medium.durable(BLOCK_PATH)!.subarray(0, 4096));
      observed.observer.step();
      await observed.look();
      second!.medium.change(BLOCK_PATH, flip);
      await breaks('I4', /server 2: .*byte 4186/, () => observed.observer.step());
    }
  });

  test('I4: not of what a server cuts off, whose zeros are durable before the size is', async (t) => {
    for (const isCut of [true, false]) {
      const observed = await ObservedWorld.open(t, [100, 50], BIG);
      const { medium } = observed.servers[1]!;
      observed.observer.step();
      const whole = medium.durable(BLOCK_PATH)!;
      if (isCut) medium.cached.set(BLOCK_PATH, whole.subarray(0, 4096));
      medium.change(BLOCK_PATH, (bytes) => void bytes.fill(0, 4096));
      if (!isCut) {
        await breaks('I4', /server 2: .*byte 4096/, () => observed.observer.step());
        continue;
      }
      observed.observer.step();
      assert.is(observed.observer.stories.get(BLOCK)!.progressOf(observed.servers[1]!.id).length, 4096);
      medium.set(BLOCK_PATH, whole.subarray(0, 4096));
      observed.observer.step();
    }
  });

  test('I4: not of a file that was damaged on purpose, until it is another one', async (t) => {
    const observed = await ObservedWorld.open(t, [100, 50], BIG);
    const { medium } = observed.servers[1]!;
    medium.damaged.add(BLOCK_PATH);
    const sound = medium.durable(BLOCK_PATH)!;
    medium.change(BLOCK_PATH, flip);
    observed.observer.step();
    medium.damaged.clear();
    medium.set(BLOCK_PATH, sound);
    observed.observer.step();
    observed.ack(1);
  });

  test('I4: two sessions under one name, one header for two records', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const other = (await ObservedWorld.open(t, [77], BIG)).servers[0]!.medium.durable(BLOCK_PATH)!;
    observed.servers[2]!.medium.set(BLOCK_PATH, other);
    await breaks('I4', /server 3/, () => observed.observer.step());
  });

  test('I9: a second block of one id; a name for two contents', async (t) => {
    const observed = await ObservedWorld.open(t, [100, 100], BIG);
    observed.ack(0, 'one');
    await breaks('I9', /one/, () => observed.ack(1, 'one'));
    const again = encodeSuperblock(superblockOf(BLOCK, 8, 'b6', BIG.blockBytes));
    observed.servers[2]!.medium.set(BLOCK_PATH, Buffer.concat([again, Buffer.alloc(4096)]));
    await breaks('I9', /session 8/, () => observed.observer.step());
  });

  test('a block file is named before it is whole', async (t) => {
    const observed = await ObservedWorld.open(t, [], BIG);
    observed.servers[0]!.medium.set('blocks/99.0.blk', Buffer.alloc(8192));
    await breaks('durability', /99.0.blk/, () => observed.observer.step());
  });
});

describe('observer: sessions', (test) => {
  test('I5: sealed below what was acknowledged', async (t) => {
    const observed = await ObservedWorld.open(t, [100, 50], BIG);
    const { world } = observed;
    const { store } = world.replicas[0]!;
    // A client hears of it late, and the seal is decided without it.
    await store.fence(BLOCK, 1 as Epoch);
    const start = observed.observer.stories.get(BLOCK)!.endOf(0)!;
    observed.ack(1);
    const log = world.replicas[1]!;
    await log.store.fence(BLOCK, 1 as Epoch);
    await observed.look();
    const digest = observed.observer.stories.get(BLOCK)!.digestAt(start)!;
    await breaks('I5', new RegExp(`sealed at ${start}, and`), async () => {
      await sealTo(observed, 1, { length: start, slots: 1, digest });
    });
  });

  test('I5: two complete seals, or one of what was not stored', async (t) => {
    const observed = await ObservedWorld.open(t, [100, 50], BIG);
    const story = observed.observer.stories.get(BLOCK)!;
    const facts = { length: story.length, slots: 2, digest: story.digestAt(story.length)! };
    await sealTo(observed, 1, { ...facts, complete: true });
    const shorter = { length: story.endOf(0)!, slots: 1, digest: story.digestAt(story.endOf(0)!)! };
    await breaks('I5', /and at \d+ with/, () => sealTo(observed, 2, { ...shorter, complete: true }));

    const fresh = await ObservedWorld.open(t, [100, 50], BIG);
    const wrong = { ...facts, digest: createHash('sha256').digest(), complete: true as const };
    await breaks('I5', /what was stored is/, () => sealTo(fresh, 1, wrong));
  });

  test('I6: an append becomes durable behind a fence', async (t) => {
    const observed = await ObservedWorld.open(t, [100], {
      ...BIG,
      faults: { has: (name) => name === 'append-behind-fence' },
    });
    const { world } = observed;
    const { store } = world.replicas[0]!;
    await store.fence(BLOCK, 1 as Epoch);
    await observed.look();
    const batch = world.writer.batch([Buffer.from('x')]);
    const before = world.replicas[0]!.disk;
    assert.is(store.info(BLOCK)!.state, BlockState.FENCED);
    const file = await before.open(BLOCK_PATH, 'write');
    await file.writeDurable([raw(batch)], batch.offset);
    await file.close();
    await breaks('I6', /server 1/, () => observed.look());
  });

  test('I6: a record that others have may be filled in behind a fence', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const { world } = observed;
    const batch = world.writer.batch([Buffer.from('x')]);
    await world.replicas[1]!.store.appendRaw(BLOCK, 7 as never, batch.offset, raw(batch), world.writer.acked);
    await observed.look();
    const { store } = world.replicas[0]!;
    await store.fence(BLOCK, 1 as Epoch);
    await observed.look();
    await store.fill(BLOCK, batch.offset, raw(batch));
    await observed.look();
    assert.is(observed.observer.stories.get(BLOCK)!.progressOf(1 as never).slots, 2);
  });

  test('I6: a record that reads well in a damaged file may be taken from there behind a fence; no other may', async (t) => {
    for (const isThere of [true, false]) {
      const observed = await ObservedWorld.open(t, [100], BIG);
      const { world, observer } = observed;
      const [first, second] = world.replicas;
      const batch = world.writer.batch([Buffer.from('x')]);
      // The medium of the second loses the record that it gets, or it never gets one: its page cache is all there is.
      const { medium } = observed.servers[1]!;
      const before = medium.durable(BLOCK_PATH)!;
      if (isThere)
        await second!.store.appendRaw(BLOCK, 7 as never, batch.offset, raw(batch), world.writer.acked);
      medium.damaged.add(BLOCK_PATH);
      await medium.follow(second!.disk);
      medium.cached.set(BLOCK_PATH, medium.durable(BLOCK_PATH)!);
      medium.set(BLOCK_PATH, before);
      observer.step();
      // Nor does it count as stored: nobody else has it.
      const story = observer.stories.get(BLOCK)!;
      assert.is(story.slots, 1);
      assert.is(story.seen(1 as never) !== undefined, isThere);
      assert.is(story.seen(2 as never), undefined);

      await first!.store.fence(BLOCK, 1 as Epoch);
      await observed.look();
      await first!.store.fill(BLOCK, batch.offset, raw(batch));
      if (!isThere) await breaks('I6', /server 1/, () => observed.look());
      else await observed.look();
      assert.is(story.slots, 2);
    }
  });

  test('I6: only what verifies behind the damage in a file may be taken from there (seed 100968)', async (t) => {
    for (const isSound of [true, false]) {
      const observed = await ObservedWorld.open(t, [100], BIG);
      const { world, observer } = observed;
      const [first, second] = world.replicas;
      // The primary alone has the last record, durably. A fault has damaged an earlier one of its file; or that one too.
      await damage(observed, 2, 4096 + 90);
      await observed.look();
      const batch = world.writer.batch([Buffer.from('x')]);
      const own = raw(batch);
      await second!.store.appendRaw(BLOCK, 7 as never, batch.offset, own, world.writer.acked);
      if (!isSound) await damage(observed, 2, batch.offset + RECORD_HEADER_BYTES);
      await observed.look();
      assert.is(observer.stories.get(BLOCK)!.slots, 1);

      await first!.store.fence(BLOCK, 1 as Epoch);
      await observed.look();
      await first!.store.fill(BLOCK, batch.offset, own);
      if (isSound) await observed.look();
      else await breaks('I6', /server 1/, () => observed.look());
    }
  });

  test('I7: a session goes on after a restart', async (t) => {
    const faults = { has: (name: string) => name === 'append-after-restart' };
    const observed = await ObservedWorld.open(t, [100], { ...BIG, faults });
    const { world } = observed;
    await world.restart(0);
    await observed.look();
    const { store } = world.replicas[0]!;
    await store.recover(BLOCK);
    const batch = world.writer.batch([Buffer.from('x')]);
    await store.appendRaw(BLOCK, 7 as never, batch.offset, raw(batch), world.writer.acked);
    assert.is(store.info(BLOCK)!.state, BlockState.OPEN);
    await breaks('I7', /OPEN once more/, () => observed.look());
  });
});
