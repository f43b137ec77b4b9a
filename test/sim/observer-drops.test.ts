import * as assert from 'uvu/assert';
import { DropReason, encodeDropEntry, encodeDropLogHeader } from '../../common/format/drop-log.ts';
import type { Epoch, ServerId, Version } from '../../common/ids.ts';
import type { DropOrder } from '../../dataserver/block/store.ts';
import { CLUSTER } from '../kit/block-world.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH } from '../kit/replica-world.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { ObservedWorld, type ViewedServer } from './observed-world.ts';
import { BIG, breaks, configuration, give, reign } from './observer-rig.ts';

describe('observer: replicas that go', (test) => {
  const NEXT: Version = { epoch: 1 as Epoch, n: 2 };
  const order: DropOrder = { block: BLOCK, generation: 0, version: NEXT, reason: 'excess' };

  /** Four sealed replicas of a block that wants three; the others go on without the first. */
  async function leftOut(t: TestContext, sizes = [100, 50]): Promise<ObservedWorld> {
    const observed = await ObservedWorld.open(t, sizes, { ...BIG, replicas: 4 });
    await observed.world.seal();
    for (const slot of sizes.keys()) observed.ack(slot);
    await give(observed, configuration(NEXT.n, [2, 3, 4]), [1, 2, 3]);
    return observed;
  }

  test('I11: one may go while enough others are there', async (t) => {
    const observed = await leftOut(t);
    await observed.world.replicas[0]!.store.drop(order);
    await observed.look();
    assert.ok(observed.observer.mounts.get(1 as ServerId)!.drops.isDropped(BLOCK));
  });

  test('I11: not while one of the others is short, or of the same host, or away for good', async (t) => {
    const faults: Record<string, (observed: ObservedWorld) => void> = {
      short: ({ servers }) => servers[2]!.medium.change(BLOCK_PATH, (bytes) => bytes.subarray(0, 4200)),
      crowded: ({ servers }) => void Object.assign(servers[2]!, { domain: servers[1]!.domain }),
      empty: ({ servers, observer }) => {
        for (const path of servers[2]!.medium.durablePaths()) servers[2]!.medium.set(path, undefined);
        observer.mounts.get(3 as ServerId)!.files.clear();
        servers[2]!.medium.onDurable = undefined;
        observer.mounts.get(3 as ServerId)!.dirty.clear();
      },
    };
    for (const fault of Object.values(faults)) {
      const observed = await leftOut(t);
      fault(observed);
      const { disk, store } = observed.world.replicas[0]!;
      await store.drop(order);
      await observed.servers[0]!.medium.follow(disk);
      await breaks('I11', /dropped, and 2 domains have good copies, not 3/, () => observed.observer.step());
    }
  });

  test('I11: the copy on a disk that is emptied counts while its leader cannot know', async (t) => {
    const damage = ({ servers, observer }: ObservedWorld, name: RegExp): void => {
      const { medium } = servers[2]!;
      for (const path of medium.durablePaths().filter((path) => name.test(path))) {
        medium.damaged.add(path);
        medium.set(path, medium.durable(path));
      }
      observer.step();
    };
    const before: Record<string, (observed: ObservedWorld) => void> = {
      'it was none before': ({ servers, observer }) => {
        servers[2]!.medium.change(BLOCK_PATH, (bytes) => bytes.subarray(0, 4200));
        observer.step();
      },
      // Nobody says of such a file whether it was made whole again, and its server may not know of it yet.
      'its file was damaged once': (observed) => damage(observed, /\.blk$/),
      'its log was damaged once': (observed) => damage(observed, /\.ops$/),
    };
    const after: Record<string, (observed: ObservedWorld) => void> = {
      'as before': () => undefined,
      'too long ago': (observed) => {
        observed.nowMs += 4_000;
      },
      'a process on the empty disk has registered': ({ nameserver }) =>
        nameserver.live.members.registers(3 as ServerId),
    };
    const fine = ['as before', 'its file was damaged once', 'its log was damaged once'];
    for (const name of Object.keys({ ...before, ...after })) {
      const observed = await leftOut(t);
      const [{ medium: own }, , emptied] = observed.servers as [ViewedServer, ViewedServer, ViewedServer];
      observed.nameserver.live.members.registers(3 as ServerId);
      before[name]?.(observed);
      // Stopped first, then emptied.
      emptied.live = undefined;
      observed.observer.replaced(emptied.id, () => emptied.medium.wipe());
      observed.observer.step();
      after[name]?.(observed);
      const { disk, store } = observed.world.replicas[0]!;
      await store.drop(order);
      await own.follow(disk);
      const look = () => observed.observer.step();
      if (fine.includes(name)) look();
      else await breaks('I11', /dropped, and 2 domains have good copies, not 3/, look);
    }
  });

  test('I11: only those count that obey the leader who ordered it', async (t) => {
    for (const last of [1, 2, 3]) {
      const observed = await leftOut(t);
      const look = () => observed.observer.step();
      for (const [i, { medium }] of observed.servers.entries())
        medium.set('promise.tfs', await reign(i === 3 && last === 1 ? 1 : 2));
      look();
      // It obeyed the same leader, and then a later one.
      if (last === 3) observed.servers[3]!.medium.set('promise.tfs', await reign(3));
      const { disk, store } = observed.world.replicas[0]!;
      await store.drop(order);
      await observed.servers[0]!.medium.follow(disk);
      observed.servers[0]!.medium.set('promise.tfs', await reign(2));
      if (last === 1) await breaks('I11', /only 2 domains with good copies, not 3, ever obeyed/, look);
      else look();
    }
  });

  test('I11: what an older disk says again was judged when it was new', async (t) => {
    const observed = await leftOut(t);
    const [server] = observed.servers;
    const { store } = observed.world.replicas[0]!;
    await store.drop(order);
    await observed.look();
    for (const { medium } of observed.servers) medium.set('promise.tfs', await reign(2));
    observed.observer.step();
    // Nobody but this server has ever heard of epoch 3, and its disk is set back.
    const another = await reign(3);
    observed.observer.replaced(server!.id, () => server!.medium.set('promise.tfs', another));
    observed.observer.step();
    // What it says for the first time is judged.
    const header = encodeDropLogHeader(CLUSTER);
    const fresh = { block: BLOCK, generation: 0, version: NEXT, reason: DropReason.EXCESS, atMs: 1 };
    server!.medium.set('drop.log', Buffer.concat([header, encodeDropEntry(fresh, header)]));
    await breaks('I11', /only 0 domains with good copies, not 3, ever obeyed/, () =>
      observed.observer.step(),
    );
  });

  test('I11: nothing is retired in which a name was acknowledged', async (t) => {
    for (const sizes of [[], [100]]) {
      const observed = await leftOut(t, sizes);
      const log = new RecordingDisk();
      const header = encodeDropLogHeader(CLUSTER);
      const entry = { block: BLOCK, generation: 0, version: NEXT, reason: DropReason.RETIRED, atMs: 1 };
      log.plant('drop.log', Buffer.concat([header, encodeDropEntry(entry, header)]));
      observed.servers[0]!.medium.set('drop.log', await log.readFile('drop.log'));
      const retire = () => observed.observer.step();
      if (sizes.length === 0) retire();
      else await breaks('I11', /retired as empty/, retire);
    }
  });

  test('I11: a file is gone without a word', async (t) => {
    const observed = await ObservedWorld.open(t, [100], BIG);
    observed.servers[1]!.medium.set(BLOCK_PATH, undefined);
    await breaks('I11', /server 2: .*nothing says why/, () => observed.observer.step());
  });
});
