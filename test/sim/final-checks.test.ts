import * as assert from 'uvu/assert';
import type { PictureKey } from '../../client/reader.ts';
import { TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { OpType } from '../../common/format/ops.ts';
import {
  type BlockId,
  blockId,
  type Cookie,
  type Epoch,
  type FileId,
  isAlias,
  type ServerId,
  serverId,
} from '../../common/ids.ts';
import { encodeName } from '../../common/name.ts';
import { tune, untune } from '../../common/tunables.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { BlockInfo } from '../../dataserver/block/api.ts';
import { mutation } from '../kit/block-world.ts';
import { History, type OperationKind } from '../kit/history.ts';
import { describe } from '../kit/suite.ts';
import { SimCluster } from './cluster.ts';
import { type HealedCluster, leaderOf, whyNotConverged } from './converged.ts';
import { checkEnd } from './final-checks.ts';
import { type KnownName, SimLoad } from './load.ts';
import { lossyBlocks, lostBlocks, whyNotSoundAlike } from './lost-blocks.ts';
import { type InvariantName, Violation } from './observed.ts';
import { Observer } from './observer.ts';
import { planOf } from './plan.ts';
import { Scheduler } from './scheduler.ts';

/** The first seed with three hosts and three copies. */
const SEED = Array.from({ length: 1000 }, (_, seed) => seed).find((seed) => {
  const { hosts, replicas, minWrite } = planOf(seed, { only: [] });
  return hosts.length === 3 && new Set(hosts).size === 3 && replicas === 3 && minWrite === 2;
})!;
const CONVERGE_MS_MAX = 150_000;

/** A cluster that nothing was done to, at rest after some operations. */
class Rested {
  readonly scheduler = new Scheduler(SEED);
  readonly cluster: SimCluster;
  readonly observer: Observer;
  readonly load: SimLoad;
  readonly healed: HealedCluster;
  readonly forced = new Set<ServerId>();
  read = (key: PictureKey): Promise<unknown> => this.cluster.clients[0]!.client.get(key);

  private constructor(cluster: SimCluster) {
    this.cluster = cluster;
    this.scheduler = cluster.scheduler;
    const { minWrite, replicas } = cluster.plan;
    const { dataservers: servers, nameservers } = cluster;
    this.observer = new Observer({ servers, nameservers, minWrite, now: () => this.scheduler.now });
    this.scheduler.afterEvent = () => this.observer.step();
    this.load = new SimLoad(cluster, {
      acked: ({ name, key, sha1 }, payload) => this.observer.acked(name, { key, sha1, payload }),
      changed: () => undefined,
    });
    this.healed = {
      ...{ servers, nameservers, replicas, forced: this.forced },
      read: (key) => this.read(key),
    };
  }

  static async open(operations = 120): Promise<Rested> {
    const plan = planOf(SEED, { operations, only: [] });
    const rested = new Rested(await SimCluster.open(plan, new Scheduler(SEED)));
    const { load, scheduler } = rested;
    load.start();
    await scheduler.run(() => load.isOver);
    await rested.rest();
    return rested;
  }

  async rest(): Promise<void> {
    const { scheduler, healed } = this;
    const endMs = scheduler.now + CONVERGE_MS_MAX;
    await scheduler.run(() => whyNotConverged(healed) === undefined || scheduler.now > endMs);
    assert.is(whyNotConverged(healed), undefined);
  }

  infosOf(block: BlockId): BlockInfo[] {
    return this.healed.servers.flatMap(({ live }) => live?.store.info(block) ?? []);
  }

  /** Ends the session of a block by a restart, and comes to rest. */
  async seal(block: BlockId): Promise<void> {
    const { cluster, scheduler } = this;
    cluster.dataservers[0]!.node.kill(50);
    const { now } = scheduler;
    const isSealed = ({ state }: BlockInfo) => state === BlockState.SEALED;
    const areSealed = () => this.infosOf(block).length === 3 && this.infosOf(block).every(isSealed);
    await scheduler.run(() => areSealed() || scheduler.now > now + CONVERGE_MS_MAX);
    await this.rest();
  }

  /** @returns what is wrong */
  async end(history: History = this.load.history): Promise<string | undefined> {
    const { healed, observer, scheduler } = this;
    const checked = checkEnd(healed, observer, { history, now: () => scheduler.now, faults: [] });
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    checked.then(done, done);
    await scheduler.run(() => isDone);
    try {
      await checked;
      return undefined;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return error.message;
    }
  }

  /** A server dies, and is taken out by force; the leader remembers a block of which it alone said that it has it. */
  async removeByForce(block: BlockId): Promise<void> {
    const { cluster, healed, observer, scheduler } = this;
    const old = cluster.dataservers.at(-1)!;
    old.node.isHeld = true;
    old.node.kill();
    const { removal, map, members } = leaderOf(healed)!;
    await scheduler.run(() => members.stateOf(old.id) !== 'up');
    const version = { epoch: 1 as Epoch, n: 1 };
    map.open(block, { version, members: [old.id, serverId(1)], targetReplicas: 2 });
    map.sealed(block, old.id, 8192);
    observer.add(await cluster.replace(old));
    this.forced.add(old.id);
    let isRemoved = false;
    const removed = removal.remove({ server: old.id, force: true }).finally(() => {
      isRemoved = true;
    });
    await scheduler.run(() => isRemoved);
    await removed;
  }

  /** The history with something more in it. */
  also(kind: OperationKind, { name, sha1 }: { readonly name: string; readonly sha1: string }): History {
    const { now } = this.scheduler;
    const history = new History();
    for (const each of this.load.history.names)
      for (const operation of this.load.history.of(each)) history.add(operation);
    history.add({ kind, name, sha1, startMs: now - 2, endMs: now - 1, outcome: 'done' });
    return history;
  }

  /** A picture that nobody ever deleted, hid, or stored twice. */
  get untouched(): KnownName {
    return this.load.names.find(({ touched, stored }) => !touched && !isAlias(stored.key.fileId))!;
  }
}

const isBroken = (kind: InvariantName, about: RegExp, why: string | undefined): void => {
  assert.ok(why?.startsWith(`${kind}: `), `${kind} is broken: ${why}`);
  assert.match(why!, about);
};

describe('the end of a simulated run', (test) => {
  test('a cluster that nothing was done to comes to rest, and everything holds', async () => {
    const rested = await Rested.open();
    assert.is(await rested.end(), undefined);
  });

  test('names: lost, not deleted, of other bytes', async () => {
    const rested = await Rested.open();
    const { untouched } = rested;
    const gone = {
      name: `${untouched.name.slice(0, -1)}${untouched.name.endsWith('0') ? '1' : '0'}`,
      sha1: 'a'.repeat(40),
    };
    isBroken('I2', /lost/, await rested.end(rested.also('put', gone)));
    isBroken('I12', /live/, await rested.end(rested.also('delete', untouched)));
    isBroken('I12', /shown/, await rested.end(rested.also('hide', untouched)));
  });

  test('a replica that knows an operation that the others do not', async () => {
    const rested = await Rested.open();
    const { store } = rested.healed.servers[0]!.live!;
    const { block, fileId } = rested.untouched.stored.key;
    const { version, seq } = store.info(block)!;
    const given = store.appendOps(block, [mutation(OpType.HIDE, fileId, { seq: seq + 1, version })]);
    let isDone = false;
    given.finally(() => {
      isDone = true;
    });
    await rested.scheduler.run(() => isDone);
    assert.match(whyNotConverged(rested.healed)!, /server 1: block/);
    isBroken('I5', /its operations add up to/, await rested.end());
  });

  test('a server that does not run, and one that does not serve a block any more', async () => {
    const rested = await Rested.open();
    const [server] = rested.cluster.dataservers;
    server!.node.isHeld = true;
    server!.node.kill();
    assert.match(whyNotConverged(rested.healed)!, /server 1 does not run/);
  });

  test('a block that no disk read when its server started: again when they are well, never where it is damaged', async () => {
    const rested = await Rested.open();
    const { cluster, healed, scheduler, untouched } = rested;
    const { block } = untouched.stored.key;
    const path = new RegExp(`^blocks/${block}\\..*ops$`);
    const states = () => healed.servers.map(({ live }) => live?.store.info(block)?.flags);
    const restart = async (): Promise<void> => {
      for (const { node } of cluster.dataservers) node.kill(50);
      const { now } = scheduler;
      const isUnread = (flags = 0) => (flags & BlockFlag.QUARANTINED) !== 0;
      await scheduler.run(() => states().every(isUnread) || scheduler.now > now + CONVERGE_MS_MAX);
    };
    for (const { medium } of cluster.dataservers)
      medium.faults.errors = [{ kinds: ['read'], share: 1, path }];
    await restart();
    for (const { medium } of cluster.dataservers) medium.faults.errors = [];
    const { now } = scheduler;
    const isWaiting = () => /has yet to look again/.test(whyNotConverged(healed) ?? '');
    await scheduler.run(() => isWaiting() || scheduler.now > now + CONVERGE_MS_MAX);
    assert.ok(isWaiting(), whyNotConverged(healed));
    await rested.rest();
    assert.equal(states(), [0, 0, 0]);
    assert.is(await rested.end(), undefined);

    for (const { medium } of cluster.dataservers) assert.ok(medium.spoil({ path, position: 0 }));
    await restart();
    await rested.rest();
    for (const flags of states()) assert.ok(flags! & BlockFlag.QUARANTINED);
  });

  test('a sequencer starts with a damaged ops log while another member is away: its block can be deleted from', async () => {
    const rested = await Rested.open();
    const { cluster, scheduler, untouched } = rested;
    const { key, name } = untouched.stored;
    const until = async (isSo: () => boolean, what: string): Promise<void> => {
      const { now } = scheduler;
      await scheduler.run(() => isSo() || scheduler.now > now + CONVERGE_MS_MAX);
      assert.ok(isSo(), what);
    };
    await rested.seal(key.block);
    const { opsPrimary, members } = rested.infosOf(key.block)[0]!;
    assert.is(members.length, 3);
    const primary = cluster.dataservers.find(({ id }) => id === opsPrimary)!;
    const away = cluster.dataservers.find(({ id }) => id !== opsPrimary)!;
    away.node.isHeld = true;
    away.node.kill();
    const path = new RegExp(`^blocks/${key.block}\\..*ops$`);
    assert.ok(primary.medium.flip({ path, position: 80 }));
    primary.node.kill(50);
    const flags = () => primary.node.live?.store.info(key.block)?.flags;
    await until(() => ((flags() ?? 0) & BlockFlag.QUARANTINED) !== 0, 'quarantined');
    await until(() => flags() === 0, 'made whole');
    let isOver = false;
    const removed = cluster.clients[0]!.client.remove(name, Buffer.alloc(16, 9)).finally(() => {
      isOver = true;
    });
    await until(() => isOver, 'an answer');
    await removed;
    const history = rested.also('delete', untouched);
    away.node.isHeld = false;
    away.node.start();
    await rested.rest();
    assert.is(await rested.end(history), undefined);
  });

  test('a record that verifies on no replica any more: at rest, and lost where anyone was told that it is stored', async (t) => {
    tune({ repairLostRetryMs: 10_000 });
    t.defer(untune);
    const rested = await Rested.open();
    const { cluster, healed, scheduler, untouched } = rested;
    const { block } = untouched.stored.key;
    await rested.seal(block);
    const path = `blocks/${blockFileName(block, 0, 'blk')}`;
    for (const { medium } of cluster.dataservers) {
      const position = medium.durable(path)!.indexOf(untouched.sha1, 'hex');
      assert.ok(medium.flip({ path, position }));
    }
    isBroken('I2', /lost/, await rested.end());
    const others = new History();
    const lost = rested.load.names.filter(({ sha1 }) => sha1 === untouched.sha1).map(({ name }) => name);
    for (const name of rested.load.history.names)
      if (!lost.includes(name)) for (const each of rested.load.history.of(name)) others.add(each);
    assert.is(await rested.end(others), undefined);
    const { lostByBlock } = leaderOf(healed)!.repairer;
    assert.equal([...lossyBlocks(lostByBlock, healed.servers)], [[block, 3]]);
    for (const { flags } of rested.infosOf(block)) assert.is(flags, BlockFlag.SUSPECT);

    // Another one on one of them alone: that is made good.
    const [first] = cluster.dataservers as unknown as [(typeof cluster.dataservers)[0]];
    const another = rested.load.names.find(
      ({ stored, sha1 }) =>
        stored.key.block === block && !lost.includes(stored.name) && sha1 !== untouched.sha1,
    )!;
    const position = first.medium.durable(path)!.indexOf(another.sha1, 'hex');
    assert.ok(first.medium.flip({ path, position }));
    let why: unknown;
    whyNotSoundAlike(block, healed.servers).then((found) => {
      why = found ?? 'nothing';
    });
    await scheduler.run(() => why !== undefined);
    assert.match(String(why), /are sound here, elsewhere/);
    assert.is(await rested.end(others), undefined);
    assert.is(lossyBlocks(new Map(), healed.servers).size, 0);
  });

  test('an acknowledged delete outlives the rot of the last frame of a log that has it, while the other one is away', async () => {
    const rested = await Rested.open();
    const { cluster, healed, scheduler, untouched } = rested;
    const { block } = untouched.stored.key;
    const pass = async (ms: number): Promise<void> => {
      const { now } = scheduler;
      await scheduler.run(() => scheduler.now > now + ms);
    };
    await rested.seal(block);
    const { opsPrimary } = leaderOf(healed)!.map.facts(block)!;
    const sequencer = cluster.dataservers.find(({ id }) => id === opsPrimary)!;
    const [rotten, late] = cluster.dataservers.filter(({ id }) => id !== opsPrimary) as [
      typeof sequencer,
      typeof sequencer,
    ];
    const hold = ({ node }: typeof sequencer): void => {
      node.isHeld = true;
      node.kill();
    };
    const start = ({ node }: typeof sequencer): void => {
      node.isHeld = false;
      node.start();
    };
    hold(late);
    const { client } = cluster.clients[0]!;
    let isDone = false;
    // The first one needs a configuration without that server; the last one is the last frame of both logs.
    const deleted = (async () => {
      await client.remove(untouched.name);
      await client.undelete(untouched.name);
      await client.remove(untouched.name);
    })().finally(() => {
      isDone = true;
    });
    await scheduler.run(() => isDone);
    await deleted;
    const history = rested.also('delete', untouched);
    await pass(3000);
    assert.is(rested.infosOf(block).length, 2);

    const path = Array.from({ length: 9 }, (_, n) => `blocks/${blockFileName(block, n, 'ops')}`).find(
      (one) => rotten.medium.durable(one) !== undefined,
    )!;
    hold(sequencer);
    hold(rotten);
    assert.ok(rotten.medium.flip({ path, position: rotten.medium.durable(path)!.length - 16 }));
    start(rotten);
    start(late);
    await pass(30_000);
    assert.equal(
      rested.infosOf(block).map(({ version }) => version.n),
      [2, 1],
      'those that are there begin no configuration without it',
    );
    start(sequencer);
    await rested.rest();
    assert.is(await rested.end(history), undefined);
  });

  test('a block that only a server may have that was removed by force: not now, but not "not there"', async () => {
    const rested = await Rested.open();
    const { healed } = rested;
    const block = blockId(0x7ff0_0001);
    await rested.removeByForce(block);
    await rested.rest();
    const { map } = leaderOf(healed)!;
    assert.equal(lostBlocks(map, healed), [block]);
    assert.is(await rested.end(), undefined);

    // Whoever is not known to be gone may come back with it.
    for (const other of [
      { ...healed, forced: new Set<ServerId>() },
      { ...healed, servers: [] },
    ])
      assert.equal(lostBlocks(map, other), []);
    assert.match(whyNotConverged({ ...healed, forced: new Set() })!, '1 blocks wait for their seal');

    const acked = rested.also('put', {
      name: encodeName({ clusterDigit: 1, block, fileId: 0 as FileId, cookie: 7 as Cookie }),
      sha1: 'a'.repeat(40),
    });
    isBroken('I2', /no replica is known/, await rested.end(acked));
    rested.read = () => Promise.reject(new TfsError('NOT_FOUND', 'no such picture'));
    isBroken('I16', /answered with NOT_FOUND/, await rested.end());
    rested.read = () => Promise.resolve();
    isBroken('I16', /answered with a picture/, await rested.end());
  });

  test('a NameServer that knows something else than there is', async () => {
    const rested = await Rested.open();
    const { block } = rested.untouched.stored.key;
    for (const { live } of rested.healed.nameservers) live!.map.digestOf = () => 1;
    isBroken('I15', /another table/, await rested.end());
    assert.ok(leaderOf(rested.healed)!.map.has(block));
  });

  test('a log of a block that its server does not have, unless it was dropped and is about to go', async () => {
    const rested = await Rested.open();
    const { logs, drops } = rested.observer.mounts.get(serverId(1))!;
    const gone = blockId(0x7ff0_0002);
    logs.set(gone, logs.get(rested.untouched.stored.key.block)!);
    isBroken('I15', /its files are there/, await rested.end());
    drops.isDropped = (block) => block === gone;
    assert.is(await rested.end(), undefined);
  });

  test('a file that belongs to nothing; a SHA-1 index that misleads', async () => {
    const rested = await Rested.open();
    const { options, store } = rested.healed.servers[0]!.live!;
    const full = store.blocks.find((block) => store.info(block)!.slots > 1);
    const { key, sha1 } = entryOf(rested, full!);
    const wait = async (work: Promise<unknown>): Promise<void> => {
      let isDone = false;
      work.finally(() => {
        isDone = true;
      });
      await rested.scheduler.run(() => isDone);
      await work;
    };
    await wait(options.disk.open('blocks/99.0.idx', 'create').then((file) => file.close()));
    isBroken('I15', /99.0.idx belongs to nothing/, await rested.end());
    await wait(options.disk.unlink('blocks/99.0.idx'));
    rested.healed.servers[0]!.live!.index.addContent(sha1, key);
    isBroken('I15', /a content leads to slot/, await rested.end());
  });
}, 60_000);

/** The SHA-1 of one record, and the place of another. */
function entryOf({ observer }: Rested, block: BlockId) {
  const story = observer.stories.get(block)!;
  const { sha1 } = story.record(0).header;
  for (let slot = 1; slot < story.slots; slot++)
    if (!story.record(slot).header.sha1.equals(sha1))
      return { sha1: Buffer.from(sha1), key: { block, fileId: slot as never } };
  throw new Error('all records of a block have the same bytes');
}
