import * as assert from 'uvu/assert';
import { type Op, OpType } from '../../common/format/ops.ts';
import { ALIAS_BIT, type Epoch, type Slot, serverId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { aliasOp, faultsOf, mutation, type WorldOptions } from '../kit/block-world.ts';
import { BLOCK, BLOCK_PATH, OPS_PATH } from '../kit/replica-world.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { ObservedWorld } from './observed-world.ts';
import { BIG, breaks, configuration, flip, give, key, promise, reign } from './observer-rig.ts';

describe('observer: promises', (test) => {
  test('I8: a promise, or an incarnation, goes down; or is gone', async (t) => {
    const observed = await ObservedWorld.open(t, [], BIG);
    const { medium } = observed.servers[0]!;
    const step = () => observed.observer.step();
    const incarnation = (count: number) => promise('incarnation.tfs', { incarnation: count });
    medium.set('incarnation.tfs', await incarnation(2));
    step();
    medium.set('incarnation.tfs', await incarnation(1));
    await breaks('I8', /1 after 2/, step);
    medium.set('incarnation.tfs', await incarnation(3));
    medium.set('promise.tfs', await reign(3));
    step();
    medium.set('promise.tfs', await reign(4));
    step();
    medium.set('promise.tfs', await reign(3));
    await breaks('I8', /epoch 3 of NameServer 0 after epoch 4/, step);
    medium.set('promise.tfs', undefined);
    await breaks('I8', /epoch 0/, step);
  });

  test('I8: not where a fault put an older disk in its place', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const [server] = observed.servers;
    server!.medium.set('promise.tfs', await reign(4));
    observed.observer.step();
    const older = await reign(3);
    observed.observer.replaced(server!.id, () => {
      server!.medium.wipe();
      server!.medium.set('promise.tfs', older);
    });
    observed.observer.step();
  });

  test('I8: a promise is told before it is durable', async (t) => {
    const observed = await ObservedWorld.open(t, [], BIG);
    const { promises } = observed.observer.mounts.get(1 as never)!;
    observed.servers[0]!.medium.set('promise.tfs', await reign(4));
    observed.observer.step();
    promises.shown({ epoch: 4 as Epoch, nameserver: 0 });
    await breaks('I8', /was shown/, () => promises.shown({ epoch: 4 as Epoch, nameserver: 1 }));
  });
});

describe('observer: operations', (test) => {
  const DELETE = mutation(OpType.DELETE, 0, { seq: 2 });

  test('I1: an operation is acknowledged that one member of the configuration has not', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const acked = () =>
      observed.observer.mutated('picture', key(0), { type: OpType.DELETE, opId: DELETE.opId });
    await breaks('I1', /durable on nobody/, acked);
    await give(observed, DELETE, [0, 1]);
    await breaks('I1', /durable on 1 2/, acked);
    await give(observed, DELETE, [2]);
    acked();
  });

  test('I1: a configuration of one is not enough', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const alone = configuration(2, [1]);
    await give(observed, alone, [0]);
    const op = mutation(OpType.DELETE, 0, { seq: 3, version: alone.version });
    await give(observed, op, [0]);
    await breaks('I1', /configurations: \(1, 1\): 1 2 3, \(1, 2\): 1$/, () =>
      observed.observer.mutated('picture', key(0), { type: OpType.DELETE, opId: op.opId }),
    );
  });

  test('an operation that changes nothing counts by those that did', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    await give(observed, DELETE);
    const again = { opId: Buffer.alloc(16, 9) };
    observed.observer.mutated('picture', key(0), { type: OpType.DELETE, ...again });
    observed.observer.mutated('picture', key(0), { type: OpType.REVEAL, ...again });
    await breaks('I1', /durable on nobody/, () =>
      observed.observer.mutated('picture', key(0), { type: OpType.HIDE, ...again }),
    );
  });

  test('I1: an alias is acknowledged that one member has not, or to bytes that one member has not', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    const { payload, sha1 } = observed.world.records[0]!;
    const ack = (id: number) => () =>
      observed.observer.acked(`alias ${id}`, {
        key: { ...key(ALIAS_BIT + id), cookie: 5 as never },
        payload,
        sha1,
      });
    await breaks('I1', /its alias is durable nowhere/, ack(1));
    await give(observed, aliasOp(ALIAS_BIT + 1, 5, 0, { seq: 2 }), [0, 2]);
    await breaks('I1', /its alias was acknowledged; durable on 1 3/, ack(1));
    await give(observed, aliasOp(ALIAS_BIT + 1, 5, 0, { seq: 2 }), [1]);
    ack(1)();
  });

  test('a log is read on from where it was read to, and anew where it changed', async (t) => {
    const observed = await ObservedWorld.open(t, [100, 100], BIG);
    await give(observed, DELETE);
    const image = observed.observer.mounts.get(1 as never)!.logs.get(BLOCK)!;
    assert.is(image.state.seq, 2);
    await give(observed, mutation(OpType.DELETE, 1, { seq: 3 }));
    assert.is(image.state.seq, 3);
    const { medium } = observed.servers[0]!;
    medium.change(OPS_PATH, (bytes) => bytes.subarray(0, bytes.length - 8));
    observed.observer.step();
    assert.is(image.state.seq, 2);
  });
});

describe('observer: compaction', (test) => {
  const GENERATION = `blocks/${BLOCK}.1.blk`;

  /** Slot 1 is purged, and the first replica commits a file without it. */
  async function compact(
    t: TestContext,
    options: WorldOptions = {},
    before?: (observed: ObservedWorld) => void,
    opened?: (observed: ObservedWorld) => void,
  ): Promise<ObservedWorld> {
    const observed = await ObservedWorld.open(t, [100], { ...BIG, ...options });
    opened?.(observed);
    for (const size of [50, 70]) await observed.append(size);
    const { world } = observed;
    await world.seal();
    await observed.look();
    await give(observed, mutation(OpType.DELETE, 1, { seq: 2 }));
    const purge = {
      ...mutation(OpType.DELETE, 0, { seq: 3 }),
      type: OpType.PURGE_INTENT,
      slots: [1 as Slot],
    } as Op;
    await give(observed, purge);
    before?.(observed);
    const { store, disk } = world.replicas[0]!;
    const { version } = store.info(BLOCK)!;
    const order = { block: BLOCK, generation: 1, version, seq: 3, bytesPerSecond: 1 << 30 };
    const next = await store.prepareCompaction(order, []);
    await store.commitGeneration(BLOCK, { ...next, generation: 1, epoch: 2 as Epoch });
    await observed.servers[0]!.medium.follow(disk);
    return observed;
  }

  test('a generation with everything that lives is right; its old file may go', async (t) => {
    const observed = await compact(t);
    observed.observer.step();
    observed.servers[0]!.medium.set(BLOCK_PATH, undefined);
    observed.observer.step();
    observed.ack(2);
  });

  test('I1: acknowledged out of a generation, by a configuration without the one that lacks the record', async (t) => {
    const observed = await compact(t);
    const isNotEnough = () => breaks('I1', /server 2: .*slot 2 of picture 2/, () => observed.ack(2));
    observed.observer.stories.get(BLOCK)!.progressOf(serverId(2)).everLength = SUPERBLOCK_BYTES;
    await isNotEnough();
    observed.observer.step();
    await isNotEnough();
    await give(observed, configuration(4, [1, 3]), [0, 2]);
    observed.observer.stories.get(BLOCK)!.compactedSlots--;
    await isNotEnough();
    observed.observer.stories.get(BLOCK)!.compactedSlots++;
    observed.ack(2);
  });

  test('what a damaged file lacked is not asked for when a compaction has let go of it', async (t) => {
    const damage = ({ servers }: ObservedWorld) => void servers[0]!.medium.damaged.add(BLOCK_PATH);
    for (const isSound of [false, true]) {
      const observed = await compact(t, {}, undefined, damage);
      const { medium } = observed.servers[0]!;
      medium.damaged.clear();
      // A repair has put a sound one in its place, which is short.
      if (isSound) medium.change(BLOCK_PATH, (bytes) => bytes.subarray(0, 4300));
      observed.observer.step();
      medium.set(BLOCK_PATH, undefined);
      observed.observer.step();
      if (isSound) await breaks('I1', /server 1: .*slot 2 of picture 2/, () => observed.ack(2));
      else observed.ack(2);
    }
  });

  test('I11: the old file may go although the log is damaged that said so, and not where no other is there', async (t) => {
    for (const isThere of [true, false]) {
      const observed = await compact(t);
      const [{ medium }, { observer }] = [observed.servers[0]!, observed];
      observer.step();
      const log = `blocks/${BLOCK}.1.ops`;
      medium.damaged.add(log);
      medium.change(log, flip);
      if (!isThere) medium.damaged.add(GENERATION);
      medium.set(BLOCK_PATH, undefined);
      if (isThere) observer.step();
      else {
        medium.set(GENERATION, undefined);
        await breaks('I11', /nothing says why/, () => observer.step());
      }
    }
  });

  test('I14: a record that lives is not in it', async (t) => {
    const observed = await compact(t, { faults: faultsOf('drop-unreadable-live') }, ({ world, servers }) => {
      world.flip(0, 4096 + 90);
      servers[0]!.medium.damaged.add(BLOCK_PATH);
    });
    await breaks('I14', /slot 0, which lives, is not in it/, () => observed.observer.step());
  });

  test('I14: a record is another one', async (t) => {
    const observed = await compact(t);
    observed.servers[0]!.medium.change(GENERATION, flip);
    await breaks('I14', /slot 0 is not what was stored/, () => observed.observer.step());
  });

  test('I14: it was committed before it was durable', async (t) => {
    const observed = await compact(t);
    observed.servers[0]!.medium.set(GENERATION, undefined);
    await breaks('I14', /is not durable/, () => observed.observer.step());
  });
});
