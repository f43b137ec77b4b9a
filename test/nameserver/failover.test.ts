import * as assert from 'uvu/assert';
import type { BlockId } from '../../common/ids.ts';
import { blockId } from '../../common/ids.ts';
import { PROMISE_ROUND_MS_MAX } from '../../common/limits.ts';
import { compareReigns, encodeControl, zPromoteReply, zStatus } from '../../common/wire/control.ts';
import { decodeLocateReply, encodeLocate, LocateState, Op } from '../../common/wire/messages.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import type { FakeDataServer } from './fake-dataserver.ts';
import { World } from './world.ts';

const UNKNOWN = blockId(0x7ff0_1234);
const FAILOVER_MS_MAX = 2000;

const idOf = (world: World, server: unknown): number => world.nameservers.indexOf(server as never);

async function pair(t: Parameters<typeof World.start>[0]): Promise<World> {
  const world = await World.start(t, { nameservers: 2 });
  t.defer(() => soundReigns(world));
  return world;
}

/** Both NameServers have heard everyone in this moment, as certainly as it can be. */
async function heardAll(world: World): Promise<void> {
  for (const server of world.data) for (let i = 0; i < 2; i++) await world.settle(server.beat());
}

/** What may never happen, whatever did: a DataServer obeyed a lower reign after a higher one. */
function soundReigns(world: World): void {
  for (const { obeyed } of world.data)
    for (let i = 1; i < obeyed.length; i++)
      assert.ok(compareReigns(obeyed[i - 1]!, obeyed[i]!) <= 0, JSON.stringify(obeyed));
}

/** Opens a block and checks that its id and its reign are new. */
class Ledger {
  readonly #world: World;
  readonly #blocks = new Set<BlockId>();
  /** Who led under which epoch. */
  readonly #reigns = new Map<number, string>();

  constructor(world: World) {
    this.#world = world;
  }

  async open(by = 0): Promise<BlockId> {
    const { data } = this.#world;
    const { block } = await this.#world.settle(data[by]!.openBlock(data));
    assert.not(this.#blocks.has(block), `id ${block} was given out twice`);
    this.#blocks.add(block);
    return block;
  }

  /** A new reign began. */
  note(): void {
    const { reign } = this.#world.leader;
    const key = `${reign.epoch} ${reign.nameserver}`;
    assert.not([...this.#reigns.values()].includes(key), `reign ${key} for the second time`);
    this.#reigns.set(this.#reigns.size, key);
  }
}

describe('two NameServers', (test) => {
  test('one leads, the other one knows the same and commands nothing', async (t) => {
    const world = await pair(t);
    const { leader } = world;
    const standby = world.nameservers[1 - idOf(world, leader)]!;
    const ledger = new Ledger(world);
    const block = await ledger.open();
    await world.pass(2000);
    assert.not(standby.leads);
    assert.ok(standby.view.isComplete(), 'hot');
    assert.is(standby.map.facts(block)?.whole, Whole.OPEN);
    const id = idOf(world, standby);
    assert.equal(await world.locateAt(id, block, UNKNOWN), [LocateState.FOUND, LocateState.DONT_KNOW]);
    assert.equal(await world.locateAt(1 - id, block, UNKNOWN), [LocateState.FOUND, LocateState.ABSENT]);
    assert.equal(standby.reign, leader.reign, 'it knows who leads');
    const status = zStatus.parse(
      JSON.parse((await world.ask('gateway', Op.STATUS, undefined, id)).header.toString()),
    );
    assert.equal([status.role, status.state], ['standby', 'ok']);
    assert.ok(world.data.every(({ confirmedBy }) => confirmedBy?.epoch === leader.reign.epoch));
  });

  test('a table that drifted apart unnoticed is asked for again, and counts as known when it is equal', async (t) => {
    const world = await pair(t);
    const { leader } = world;
    const standby = world.nameservers[1 - idOf(world, leader)]!;
    const block = await new Ledger(world).open();
    await world.pass(2000);
    const inStep = () => [leader, standby].map((server) => server.status().details?.['inStep']);
    assert.equal(inStep(), [3, 3]);
    const [one] = world.data as [FakeDataServer];
    // As a bug would do it: no message says that the block is gone.
    one.blocks.delete(block);
    await world.pass(1000);
    assert.equal(inStep(), [2, 2]);
    assert.is(one.confirmedBy, undefined, 'what is not known is not confirmed');
    await world.pass(4000);
    assert.equal(inStep(), [3, 3]);
    assert.is(standby.map.facts(block)?.replicas.find(({ server }) => server === 1)?.state, 0);
    assert.equal(one.confirmedBy, leader.reign);
  });

  test('the leader is killed: the other one commands within 2 s, sessions go on', async (t) => {
    const world = await pair(t);
    const ledger = new Ledger(world);
    const before = await ledger.open();
    await world.pass(2000);
    const dead = idOf(world, world.leader);
    const { epoch } = world.leader.reign;
    world.killNameServer(dead);
    const tookMs = await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    // Nobody's heartbeat is waited for: the promises are there in the same instant.
    assert.ok(world.leader.view.isComplete(), `${tookMs}`);
    assert.ok(world.leader.reign.epoch > epoch);
    const after = await ledger.open(1);
    assert.is(world.leader.map.facts(before)?.whole, Whole.OPEN);
    await world.pass(1000);
    const id = idOf(world, world.leader);
    assert.equal(await world.locateAt(id, before, after, UNKNOWN), [
      LocateState.FOUND,
      LocateState.FOUND,
      LocateState.ABSENT,
    ]);
    await world.settle(world.data[0]!.endSession(before));
    await world.pass(2000);
    assert.is(world.leader.map.facts(before)?.whole, Whole.SEALED);
  });

  test('a leader that stops hands over at once', async (t) => {
    const world = await pair(t);
    const id = idOf(world, world.leader);
    const stopping = world.nameservers[id]!;
    const begun = world.clock.monotonic();
    const closing = stopping.close();
    while (!world.nameservers[1 - id]!.leads) await world.pass(0).then(() => new Promise(setImmediate));
    assert.is(world.clock.monotonic(), begun, 'no time passed');
    await world.settle(closing);
    await world.pass(100);
    await new Ledger(world).open();
  });

  test('a standby that is dead or restarts disturbs nothing; it comes back hot', async (t) => {
    const world = await pair(t);
    const { leader } = world;
    const { reign } = leader;
    const id = 1 - idOf(world, leader);
    world.killNameServer(id);
    await world.pass(5000);
    await world.restartKilled('synced', id);
    await world.pass(5000);
    assert.is(world.leader, leader);
    assert.equal(leader.reign, reign);
    assert.ok(world.nameservers[id]!.view.isComplete());
  });

  test('a leader that was killed and is back at once lets the hot one lead', async (t) => {
    const world = await pair(t);
    const id = idOf(world, world.leader);
    world.killNameServer(id);
    await world.restartKilled('all', id);
    await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    assert.is(idOf(world, world.leader), 1 - id);
  });

  test('a dead DataServer is not waited for by a new leader', async (t) => {
    const world = await pair(t);
    const [, , third] = world.data;
    world.alive.delete(third!);
    await world.settle(third!.close());
    await world.pass(4000);
    world.killNameServer(idOf(world, world.leader));
    await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    const begun = world.clock.monotonic();
    const opening = world.data[0]!.openBlock();
    const { members } = await world.settle(opening);
    assert.is(members.length, 2);
    assert.ok(world.clock.monotonic() - begun < 500);
  });

  test('a block asked for before the promises are there gets all its replicas', async (t) => {
    const world = await pair(t);
    for (const server of world.data) server.promiseMs = 300;
    world.killNameServer(idOf(world, world.leader));
    await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    const [one] = world.data as [FakeDataServer];
    await world.settle(one.beat());
    assert.not(world.leader.view.isComplete());
    assert.is((await world.settle(one.openBlock())).members.length, 3);
  });

  test('what a server began under the old reign is heard of before "there is no such block"', async (t) => {
    const world = await pair(t);
    const [one] = world.data as [FakeDataServer];
    await heardAll(world);
    const { block } = await world.settle(one.openBlock(world.data));
    const dead = idOf(world, world.leader);
    // Created just now; the leader dies before anybody's next heartbeat.
    for (const server of world.data) server.silentTo = 1 - dead;
    world.killNameServer(dead);
    await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    await world.pass(50);
    for (const { promise } of world.data) assert.equal(promise, world.leader.reign);
    assert.equal(world.leader.members.missing(undefined), [], 'everyone was heard, and has promised');
    assert.equal(await world.locateAt(1 - dead, block), [LocateState.DONT_KNOW]);
    for (const server of world.data) server.silentTo = undefined;
    await world.pass(2000);
    assert.equal(await world.locateAt(1 - dead, block, UNKNOWN), [LocateState.FOUND, LocateState.ABSENT]);
  });

  test('a server that has not shown its promise is not confirmed: it may listen to another leader', async (t) => {
    const world = await pair(t);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    for (const server of world.data) server.promiseMs = 2 * PROMISE_ROUND_MS_MAX;
    world.alive.clear();
    const id = 1 - idOf(world, world.leader);
    await world.ask('operator', Op.PROMOTE, encodeControl({ force: true }), id);
    for (const server of [two, two, three, three]) await world.settle(server.beat());
    assert.ok(world.nameservers[id]!.view.isComplete());
    await world.settle(one.beat());
    assert.is(one.confirmedBy, undefined);
    await world.settle(one.beat());
    assert.equal(one.confirmedBy, world.nameservers[id]!.reign);
  });

  test('a replica that lacks an operation of its configuration is not confirmed until it has it', async (t) => {
    const world = await pair(t);
    const block = await new Ledger(world).open();
    await world.pass(2000);
    const [one, two, three] = world.data as [FakeDataServer, FakeDataServer, FakeDataServer];
    const hold = (server: FakeDataServer, seq: number) => server.put({ ...server.blocks.get(block)!, seq });
    for (const server of world.data) hold(server, 5);
    await heardAll(world);
    assert.equal(
      [one, two, three].map(({ stale }) => stale),
      [[], [], []],
    );
    // Its disk was set back, and nobody noticed.
    hold(one, 3);
    one.restart();
    for (let i = 0; i < 2; i++) await heardAll(world);
    assert.equal(one.confirmedBy, world.leader.reign, 'all else is confirmed');
    assert.equal(
      [one, two, three].map(({ stale }) => stale),
      [[block], [], []],
    );
    hold(one, 5);
    await heardAll(world);
    assert.equal(one.stale, []);
  });

  test('a leader that no DataServer reaches hands over to the one that all reach', async (t) => {
    const world = await pair(t);
    await world.pass(2000);
    const id = idOf(world, world.leader);
    for (const server of world.data) {
      server.silentTo = id;
      server.deafTo = id;
    }
    await world.until(() => world.leaders.length === 1 && idOf(world, world.leader) !== id, 5000);
    await world.pass(1000);
    await new Ledger(world).open();
    await world.pass(20_000);
    assert.is(idOf(world, world.leader), 1 - id);
  });

  test('the lock store is down: the leader leads on; at the start NameServer 0 leads after 3 s', async (t) => {
    const world = await pair(t);
    const { leader } = world;
    const { reign } = leader;
    world.lock.isDown = true;
    await world.pass(20_000);
    assert.is(world.leader, leader);
    assert.equal(leader.reign, reign);
    await new Ledger(world).open();

    const cold = new World(t, { nameservers: 2 });
    cold.lock.isDown = true;
    for (const id of [0, 1]) await cold.startNameServer({ id });
    assert.is(await cold.until(() => cold.leaders.length > 0, 4000), 3000);
    assert.is(idOf(cold, cold.leader), 0);
  });

  test('the leader dies while the lock store is down: the other one leads by promises alone', async (t) => {
    const world = await pair(t);
    world.lock.isDown = true;
    await world.pass(2000);
    const { reign } = world.leader;
    const dead = idOf(world, world.leader);
    world.killNameServer(dead);
    await world.until(() => world.leaders.length === 1, dead === 0 ? 7000 : 4000);
    assert.ok(compareReigns(world.leader.reign, reign) > 0);
    await new Ledger(world).open();
  });

  test('the lock store forgets, goes back, grants to both: the leader leads on, undisturbed', async (t) => {
    const world = await pair(t);
    const { leader } = world;
    const { reign } = leader;
    for (const fault of ['forgets', 'goes back', 'grants all'] as const) {
      for (let i = 0; i < 5; i++) {
        if (fault === 'forgets') world.lock.forget();
        if (fault === 'goes back') world.lock.rollBack(1);
        world.lock.grantsAll = fault === 'grants all';
        await world.pass(700);
        assert.is(world.leader, leader, fault);
        assert.equal(leader.reign, reign, fault);
      }
    }
  });

  test('both claim to lead: the lower one steps down, and only one was obeyed', async (t) => {
    const world = await pair(t);
    const old = world.leader;
    const id = idOf(world, old);
    const ledger = new Ledger(world);
    await ledger.open();
    // An operator insists, and the two cannot talk to each other.
    world.processes[id]!.stop();
    const forced = encodeControl({ force: true });
    const { header } = await world.ask('operator', Op.PROMOTE, forced, 1 - id);
    const reply = zPromoteReply.parse(JSON.parse(header.toString()));
    assert.ok(reply.leads);
    world.processes[id]!.wake();
    assert.ok(old.leads, 'it has heard nothing yet');
    await world.pass(1500);
    assert.is(idOf(world, world.leader), 1 - id);
    await ledger.open(1);
  });

  test('a leader that was stopped and wakes says no 404, and nothing it says is obeyed', async (t) => {
    const world = await pair(t);
    const old = world.leader;
    const id = idOf(world, old);
    const ledger = new Ledger(world);
    const sealing = await ledger.open();
    await world.pass(1000);
    await heardAll(world);
    const gateway = world.peers('gateway');
    const locate = async (...blocks: BlockId[]) => {
      const reply = await gateway.call(old.address, Op.LOCATE, encodeLocate(blocks));
      return decodeLocateReply(reply.header).locations.map(({ state }) => state);
    };
    assert.equal(await world.settle(locate(UNKNOWN)), [LocateState.ABSENT]);
    // When it wakes, nothing in its sockets tells that it was deposed.
    for (const server of world.data) server.silentTo = id;
    world.processes[id]!.stop();
    await world.until(() => world.leaders.length === 1, FAILOVER_MS_MAX);
    const fresh = await ledger.open(1);
    assert.not(old.map.has(fresh), 'the old leader has not heard of it');
    // A question that waits in its socket, and is read before anything else.
    const asking = locate(fresh, UNKNOWN);
    await turns(4);
    old.sealer.enqueue(sealing, 'what an old leader would do');
    world.processes[id]!.wake();
    assert.ok(old.leads && old.view.isComplete(), 'it has not heard yet');
    assert.equal(await world.settle(asking), [LocateState.DONT_KNOW, LocateState.DONT_KNOW]);
    for (const server of world.data) server.silentTo = undefined;
    await world.pass(2000);
    assert.not(old.leads);
    assert.is(idOf(world, world.leader), 1 - id);
    assert.is(world.leader.map.facts(sealing)?.whole, Whole.OPEN, 'it was not sealed');
    assert.ok(world.data.some(({ refusals }) => refusals > 0));
    await ledger.open();
  });

  test('an operator moves the lead, and is refused where that would be bad', async (t) => {
    const world = await pair(t);
    const ask = async (id: number, force: boolean) => {
      const asked = world.ask('operator', Op.PROMOTE, encodeControl({ force }), id);
      return zPromoteReply.parse(JSON.parse((await asked).header.toString()));
    };
    const first = idOf(world, world.leader);
    assert.ok((await ask(first, false)).leads, 'it does already');
    // The promises of the DataServers take their time: nobody takes the lead back meanwhile.
    for (const server of world.data) server.promiseMs = 2 * PROMISE_ROUND_MS_MAX;
    assert.ok((await ask(1 - first, false)).leads);
    await world.pass(1000);
    assert.is(idOf(world, world.leader), 1 - first);
    for (const server of world.data) server.promiseMs = 0;
    await world.pass(2000);
    assert.is(idOf(world, world.leader), 1 - first);
    await new Ledger(world).open();
    world.killNameServer(1 - first);
    assert.match(
      await world.code(ask(first, false)),
      /^CONFLICT: the other NameServer does not answer.*--force/,
    );
    assert.ok((await ask(first, true)).leads);
    for (const role of ['gateway', 'dataserver', 'nameserver'] as const)
      assert.match(await world.code(world.ask(role, Op.PROMOTE, undefined, first)), /^FORBIDDEN/);
    for (const op of [Op.PEER_STATE, Op.HAND_OVER])
      assert.match(await world.code(world.ask('operator', op, undefined, first)), /^FORBIDDEN/);
  });

  test('whatever is wiped, no epoch and no id comes twice', async (t) => {
    const world = await pair(t);
    const ledger = new Ledger(world);
    ledger.note();
    await ledger.open();
    for (const wiped of [[0], [1], [0, 1], [0], [0, 1]]) {
      for (const id of [0, 1]) world.killNameServer(id);
      world.lock.forget();
      for (const id of [0, 1]) await world.restartKilled(wiped.includes(id) ? 'wiped' : 'synced', id);
      await world.pass(8000);
      assert.ok(world.leader.view.isComplete());
      ledger.note();
      for (let i = 0; i < 3; i++) await ledger.open(i);
      await world.pass(1500);
    }
  });
}, 30_000);
