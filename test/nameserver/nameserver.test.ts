import * as assert from 'uvu/assert';
import { type BlockId, blockId, type ServerId, serverId } from '../../common/ids.ts';
import {
  PAIR_FAILURES_PER_MINUTE_MAX,
  PAIR_HOLD_MS_MIN,
  SEAL_PATIENCE_MS,
  UNSETTLED_BLOCKS_PER_SERVER_MAX,
} from '../../common/limits.ts';
import { zClusterMap, zStatus } from '../../common/wire/control.ts';
import { BlockState, LocateState, Op } from '../../common/wire/messages.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { FakeDataServer } from './fake-dataserver.ts';
import { reignOf } from './messages.ts';
import { World } from './world.ts';

const UNKNOWN = blockId(0x7ff0_1234);

describe('NameServer', (test) => {
  test('a new cluster: registered, a block opened on all, ended, sealed, located', async (t) => {
    const world = await World.start(t);
    const [one] = world.data as [FakeDataServer];
    assert.ok(world.ns.view.isComplete());
    const granted = await world.settle(one.openBlock(world.data));
    assert.is(granted.block, 0x0002_0000);
    assert.is(granted.members[0]?.id, 1);
    assert.equal(granted.members.map(({ id }) => id).sort(), servers(1, 2, 3));
    assert.equal(granted.reign, reignOf(1));
    assert.equal(granted.members[0]?.address, one.address);
    assert.equal(await world.locate(granted.block, UNKNOWN), [LocateState.FOUND, LocateState.ABSENT]);
    await world.pass(2000);
    assert.is(world.whole(granted.block), Whole.OPEN);
    one.put({ ...one.blocks.get(granted.block)!, length: 9000 });
    await world.settle(one.endSession(granted.block));
    await world.pass(2000);
    assert.is(world.whole(granted.block), Whole.SEALED);
    for (const server of world.data) {
      assert.is(server.blocks.get(granted.block)?.state, BlockState.SEALED);
      assert.is(server.blocks.get(granted.block)?.length, 9000);
    }
    assert.is(world.ns.sealer.waiting, 0);
  });

  test('a block that was being written on a disk that is lost for good does not wait for it any more, until it is back', async (t) => {
    const deadMs = SEAL_PATIENCE_MS + 60_000;
    const world = await World.start(t, {}, { deadMs });
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    await world.pass(2000);
    one.put({ ...one.blocks.get(block)!, length: 9000 });
    two.put({ ...two.blocks.get(block)!, length: 9000 });
    world.alive.delete(three);
    three.deafTo = 0;
    await world.settle(one.endSession(block, [three.id]));
    await world.pass(SEAL_PATIENCE_MS + 20_000);
    assert.is(two.blocks.get(block)?.state, BlockState.SEALED);
    assert.is(world.whole(block), Whole.UNSEALED, 'the third may come back');
    await world.pass(deadMs);
    assert.is(world.whole(block), Whole.SEALED);
    three.restart();
    three.deafTo = undefined;
    world.alive.add(three);
    await world.pass(5000);
    assert.is(three.blocks.get(block)?.state, BlockState.SEALED);
    assert.is(world.whole(block), Whole.SEALED);
  });

  test('a block that was being written on a disk that has failed does not wait for it, until that writes again', async (t) => {
    const world = await World.start(t);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    await world.pass(2000);
    for (const server of world.data) server.put({ ...server.blocks.get(block)!, length: 9000 });
    three.io = { healthy: true, readOnly: true, probeMs: 1 };
    await world.settle(one.endSession(block, [three.id]));
    await world.pass(SEAL_PATIENCE_MS + 20_000);
    assert.is(two.blocks.get(block)?.state, BlockState.SEALED);
    assert.is(three.blocks.get(block)?.state, BlockState.OPEN);
    assert.is(world.whole(block), Whole.SEALED);
    three.io = { healthy: true, readOnly: false, probeMs: 1 };
    three.restart();
    await world.pass(5000);
    assert.is(three.blocks.get(block)?.state, BlockState.SEALED);
    assert.is(world.whole(block), Whole.SEALED);
  });

  test('a primary that was killed comes back: its open block is sealed without being asked for', async (t) => {
    const world = await World.start(t);
    const [one] = world.data as [FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    await world.pass(2000);
    world.alive.delete(one);
    await world.pass(8000);
    assert.is(world.ns.members.stateOf(one.id), 'down');
    assert.is(world.whole(block), Whole.OPEN);
    one.restart();
    world.alive.add(one);
    await world.pass(5000);
    assert.is(world.whole(block), Whole.SEALED);
  });

  test('a restart knows its blocks at once, and says 404 only when enough have reported', async (t) => {
    const world = await World.start(t);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    await world.pass(5000);
    const versionBefore = world.ns.clusterMap().mapVersion;
    world.alive.clear();
    await world.restartNameServer('all');
    assert.is(world.ns.reign.epoch, 3);
    assert.ok(world.ns.clusterMap().mapVersion > versionBefore);
    assert.equal(await world.locate(block, UNKNOWN), [LocateState.FOUND, LocateState.DONT_KNOW]);
    assert.ok(world.ns.clusterMap().safeMode);
    world.alive.add(one);
    await world.pass(1000);
    assert.equal(await world.locate(UNKNOWN), [LocateState.DONT_KNOW]);
    world.alive.add(two);
    await world.pass(2000);
    assert.equal(await world.locate(block, UNKNOWN), [LocateState.FOUND, LocateState.ABSENT]);
    assert.not(world.ns.clusterMap().safeMode);
    world.alive.add(three);
    await world.pass(2000);
    assert.is(world.whole(block), Whole.OPEN, 'the session lives on');
    const next = await world.settle(two.openBlock(world.data));
    assert.is(next.block, 0x0002_0100, 'counters in reserve are skipped, the series goes on');
    assert.equal(next.version, { epoch: 3, n: 1 });
  });

  test('blocks opened just before a crash that forgot them come back with the reports', async (t) => {
    const world = await World.start(t);
    const { block } = await world.settle(world.data[0]!.openBlock(world.data));
    await world.restartNameServer('synced');
    assert.equal(await world.locate(block), [LocateState.DONT_KNOW]);
    await world.pass(2000);
    assert.equal(await world.locate(block), [LocateState.FOUND]);
  });

  test('after a wipe everything is learnt again, epoch and ids above all of before, and only with everyone', async (t) => {
    const world = await World.start(t);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const blocks: BlockId[] = [];
    for (let i = 0; i < 5; i++) blocks.push((await world.settle(one.openBlock(world.data))).block);
    for (const server of world.data) server.promise = reignOf(57);
    await world.pass(2000);
    assert.is(world.ns.reign.epoch, 59);
    await world.pass(2000);

    world.alive.delete(three);
    await world.restartNameServer('wiped');
    await world.pass(4000);
    assert.is(world.ns.reign.epoch, 61);
    assert.is(one.promise.epoch, 61);
    for (const block of blocks) assert.equal(await world.locate(block), [LocateState.FOUND]);
    assert.equal(await world.locate(UNKNOWN), [LocateState.DONT_KNOW]);
    assert.match(await world.code(two.openBlock()), /SAFE_MODE: no new block ids .*server 3/);
    world.alive.add(three);
    await world.pass(3000);
    assert.equal(await world.locate(...blocks, UNKNOWN), [
      ...blocks.map(() => LocateState.FOUND),
      LocateState.ABSENT,
    ]);
    const fresh = await world.settle(two.openBlock(world.data));
    assert.is(fresh.block, 0x0004_0000);
    assert.equal(fresh.version.epoch, 61);
  });

  test('a wiped NameServer waits for a server that only the others know', async (t) => {
    const world = await World.start(t);
    world.data[1]!.known.add(serverId(44));
    await world.restartNameServer('wiped');
    await world.pass(4000);
    assert.equal(world.ns.members.missing(world.ns.reign), servers(44));
    assert.equal(await world.locate(UNKNOWN), [LocateState.DONT_KNOW]);
    assert.is(world.ns.clusterMap().servers.find(({ id }) => id === 44)?.state, 'missing');
  });

  test('an equal epoch of a life before the wipe is not taken for its own', async (t) => {
    const world = await World.start(t);
    assert.is(world.data[0]!.promise.epoch, 1);
    await world.restartNameServer('wiped');
    assert.is(world.ns.reign.epoch, 1);
    await world.pass(3000);
    assert.ok(world.ns.reign.epoch > 1);
    assert.ok(world.data.every((server) => server.promise.epoch === world.ns.reign.epoch));
  });

  test('deposed by the promise of a server, the only NameServer leads again under a reign above it', async (t) => {
    const world = await World.start(t);
    const [one, two] = world.data as [FakeDataServer, FakeDataServer];
    two.promise = reignOf(10, 1);
    await world.settle(two.beat());
    await world.pass(100);
    assert.equal(world.leader.reign, reignOf(11));
    // No heartbeat was waited for.
    assert.equal(
      world.data.map(({ promise }) => promise),
      [reignOf(11), reignOf(11), reignOf(11)],
    );
    assert.equal((await world.settle(one.openBlock(world.data))).reign, reignOf(11));
  });

  test('a command that a server refuses for a higher reign ends this one', async (t) => {
    const world = await World.start(t);
    const [one, two] = world.data as [FakeDataServer, FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    world.alive.clear();
    // By an order of another leader; no heartbeat tells.
    two.promise = reignOf(10, 1);
    await world.settle(one.endSession(block));
    for (let i = 0; i < 30 && world.ns.reign.epoch < 10; i++) await turns(10);
    assert.equal(world.ns.reign, reignOf(11));
  });

  test('fewer servers than minWrite: refused, with the reason of each', async (t) => {
    const world = await World.start(t);
    const [one, two] = world.data as [FakeDataServer, FakeDataServer];
    world.alive.clear();
    world.alive.add(one);
    world.alive.add(two);
    await world.pass(4000);
    assert.is((await world.settle(one.openBlock())).members.length, 2);
    assert.equal(one.confirmedBy, world.ns.reign, 'one of three may be missing');
    world.alive.delete(two);
    await world.pass(4000);
    assert.is(one.confirmedBy, undefined, 'there may be blocks that nobody here has heard of');
    assert.match(
      await world.code(one.openBlock()),
      /NO_WRITE_SET: a new block needs 2 failure domains \(cluster\.minWrite\) and 1 can take one: server 2: no heartbeat/,
    );
  });

  test('at start it waits for those that are about to register, but not for long', async (t) => {
    const world = new World(t);
    await world.startNameServer();
    for (const server of world.data) await server.start();
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    for (const server of world.data) {
      world.alive.add(server);
      await world.settle(server.beat());
    }
    await world.settle(one.openBlock());
    // A restart: the series is there, so two of three could open a small block at once.
    world.alive.clear();
    await world.restartNameServer('all');
    for (const server of [one, two]) {
      await world.settle(server.beat());
      await world.settle(server.beat());
    }
    let granted = 0;
    const asking = one.openBlock().then((reply) => {
      granted = reply.members.length;
    });
    for (let i = 0; i < 10; i++) {
      world.clock.advance(50);
      await turns(6);
    }
    assert.is(granted, 0, 'it waits');
    for (const server of [three, three, one, two]) await world.settle(server.beat());
    await world.settle(asking);
    assert.is(granted, 3);

    await world.restartNameServer('all');
    world.alive.add(one);
    world.alive.add(two);
    await world.pass(3100);
    assert.is((await world.settle(one.openBlock())).members.length, 2);
  });

  test('a block with two members is sealed when three have been possible for a while', async (t) => {
    const world = await World.start(t);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    world.alive.delete(three);
    await world.pass(4000);
    const { block, targetReplicas } = await world.settle(one.openBlock([two]));
    assert.is(targetReplicas, 3);
    await world.pass(3000);
    world.alive.add(three);
    await world.pass(20_000);
    assert.is(world.whole(block), Whole.OPEN);
    await world.pass(15_000);
    assert.is(world.whole(block), Whole.SEALED);
  });

  test('a mount of another cluster is refused over the wire, and teaches nothing', async (t) => {
    const world = await World.start(t);
    const stranger = new FakeDataServer(9, {
      net: world.net,
      clock: world.clock,
      nameservers: () => [world.ns.address],
    });
    t.defer(() => world.settle(stranger.close()));
    await world.settle(stranger.start());
    stranger.overrides = { clusterUuid: 'ee'.repeat(16), promise: reignOf(900) };
    assert.match(await world.code(stranger.register()), /^REFUSED: .*belongs to cluster ee/);
    assert.is(world.ns.reign.epoch, 1);
    assert.equal(world.ns.members.known, servers(1, 2, 3));
  });

  test('a lost heartbeat ends in a new report; a lost block is noticed', async (t) => {
    const world = await World.start(t);
    const [one] = world.data as [FakeDataServer];
    const { block } = await world.settle(one.openBlock(world.data));
    await world.pass(3000);
    const before = one.registrations;
    world.ns.members.get(one.id)!.table.reset();
    one.blocks.delete(block);
    await world.pass(3000);
    assert.is(one.registrations, before + 1);
    assert.is(world.ns.map.facts(block)?.replicas.find(({ server }) => server === 1)?.state, 0);
    await world.pass(20_000);
    assert.is(world.whole(block), Whole.SEALED, 'its primary does not have it any more');
  });

  test('a standby answers what it knows and commands nothing', async (t) => {
    const world = new World(t);
    await world.lock.take({ owner: 'another', ttlMs: 1e9, epoch: 30 });
    await world.startNameServer({ rival: { address: { host: '127.0.0.1', port: 1 }, lock: world.lock } });
    const [one] = world.data as [FakeDataServer];
    for (const server of world.data) {
      await server.start();
      server.promise = reignOf(30, 1);
      world.alive.add(server);
    }
    one.put(entryOf({ state: BlockState.RECOVERED }));
    await world.pass(5000);
    assert.equal(await world.locate(entryOf().block, UNKNOWN), [LocateState.FOUND, LocateState.DONT_KNOW]);
    assert.match(await world.code(one.openBlock()), /^NOT_LEADER/);
    assert.match(await world.code(one.endSession(entryOf().block)), /^NOT_LEADER/);
    assert.equal(one.promise, reignOf(30, 1));
    assert.not(world.ns.clusterMap().leader);
    assert.is(one.blocks.get(entryOf().block)?.state, BlockState.RECOVERED);
  });

  test('who may ask what', async (t) => {
    const world = await World.start(t);
    const map = zClusterMap.parse(JSON.parse((await world.ask('gateway', Op.CLUSTER_MAP)).header.toString()));
    assert.is(map.servers.length, 3);
    assert.ok(map.servers.every(({ state }) => state === 'up'));
    const status = zStatus.parse(JSON.parse((await world.ask('gateway', Op.STATUS)).header.toString()));
    assert.equal([status.kind, status.role, status.state], ['nameserver', 'primary', 'ok']);
    for (const op of [Op.REGISTER, Op.REPORT, Op.HEARTBEAT, Op.OPEN_BLOCK, Op.END_SESSION])
      assert.match(await world.code(world.ask('gateway', op)), /^FORBIDDEN/);
    assert.match(await world.code(world.ask('dataserver', Op.REGISTER, Buffer.from('{'))), /^PROTOCOL/);
    assert.match(await world.code(world.ask('dataserver', Op.LOCATE, Buffer.alloc(3))), /^PROTOCOL/);
  });

  test('the version of the map moves when a server goes or its disk fails, and not with heartbeats', async (t) => {
    const world = await World.start(t);
    const [, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const version = () => world.ns.clusterMap().mapVersion;
    const before = version();
    await world.pass(3000);
    assert.is(version(), before);
    two.io = { healthy: true, readOnly: true, probeMs: 1 };
    await world.pass(1000);
    const withoutDisk = version();
    assert.ok(withoutDisk > before);
    assert.equal(
      (await world.settle(world.data[0]!.openBlock())).members.map(({ id }) => id),
      servers(1, 3),
    );
    world.alive.delete(three);
    await world.pass(6000);
    assert.ok(version() > withoutDisk);
  });

  for (const how of ['silent', 'dead'] as const)
    test(`a block is sealed without a member that is ${how}, which follows when it is back`, async (t) => {
      const world = await World.start(t);
      const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
      const { block } = await world.settle(one.openBlock(world.data));
      await world.pass(1000);
      world.alive.delete(three);
      await world.pass(6000);
      await world.settle(one.endSession(block));
      await world.pass(SEAL_PATIENCE_MS - 2000);
      assert.is(one.blocks.get(block)?.state, BlockState.FENCED, 'it is waited for');
      await world.pass(4000);
      for (const server of [one, two]) assert.is(server.blocks.get(block)?.state, BlockState.SEALED);
      await world.pass(60_000);
      assert.is(world.ns.sealer.waiting, 0, 'nothing is done for it in vain');
      if (how === 'dead') three.restart();
      world.alive.add(three);
      await world.pass(5000);
      assert.is(three.blocks.get(block)?.state, BlockState.SEALED);
      assert.is(world.whole(block), Whole.SEALED);
    });

  test('servers that keep failing each other get no blocks together, as long as there are others', async (t) => {
    const world = await World.start(t);
    const [one, , three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const membersOf = async (): Promise<ServerId[]> => {
      const { members } = await world.settle(one.openBlock(world.data));
      return members.map(({ id }) => id).sort();
    };
    for (let i = 0; i < PAIR_FAILURES_PER_MINUTE_MAX; i++) {
      const { block, members } = await world.settle(one.openBlock(world.data));
      assert.is(members.length, 3);
      await world.settle(one.endSession(block, servers(2)));
      // Not heard, and said again: one failure.
      await world.settle(one.endSession(block, servers(2)));
      await world.pass(1000);
    }
    assert.equal(await membersOf(), servers(1, 3));
    world.alive.delete(three);
    await world.pass(6000);
    assert.equal(await membersOf(), servers(1, 2), 'better than none');
    world.alive.add(three);
    await world.pass(PAIR_HOLD_MS_MIN + 3000);
    assert.equal(await membersOf(), servers(1, 2, 3));
  });

  test('ids that this store cannot have given out: it is an old copy, and trusts itself no more', async (t) => {
    for (const how of ['heartbeat', 'registration'] as const) {
      const world = await World.start(t);
      const [one] = world.data as [FakeDataServer];
      await world.settle(one.openBlock(world.data));
      assert.ok(world.ns.view.isWhole);
      const three = world.data[2]!;
      world.alive.delete(three);
      await world.pass(4000);
      if (how === 'heartbeat') one.put(entryOf({ block: 0x2_0500, state: BlockState.SEALED }));
      else {
        one.highestIds = [{ page: 2, counter: 0x500 }];
        one.restart();
      }
      await world.pass(2000);
      assert.ok(
        world.log.lines.some(({ message }) => /its directory is an old copy/.test(message)),
        how,
      );
      assert.match(await world.code(one.openBlock()), /^SAFE_MODE/, 'nobody may be missing now');
      world.alive.add(three);
      await world.pass(3000);
      assert.is((await world.settle(one.openBlock())).block, 0x4_0000);
    }
  });

  test('a primary with a thousand blocks that are not sealed gets no more', async (t) => {
    const world = await World.start(t);
    const [one, two] = world.data as [FakeDataServer, FakeDataServer];
    for (let i = 0; i < UNSETTLED_BLOCKS_PER_SERVER_MAX; i++)
      world.ns.map.open(blockId(0x20_0000 + i), {
        version: { epoch: world.ns.reign.epoch, n: 1 },
        members: servers(1, 2, 3),
        targetReplicas: 3,
      });
    assert.match(await world.code(one.openBlock()), /^OVERLOADED: 1024 blocks of server 1/);
    await world.settle(two.openBlock(world.data));
  });
});
