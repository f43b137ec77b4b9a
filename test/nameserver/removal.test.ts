import * as assert from 'uvu/assert';
import { type BlockId, blockId, serverId } from '../../common/ids.ts';
import { encodeControl, type RemoveServerReply, zRemoveServerReply } from '../../common/wire/control.ts';
import { LocateState, Op } from '../../common/wire/messages.ts';
import { type RemovalFacts, whyNotRemoved } from '../../nameserver/removal.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { servers } from './entries.ts';
import { World } from './world.ts';

const UNKNOWN = blockId(0x7ff0_1234);

const dead: RemovalFacts = {
  server: serverId(4),
  isKnown: true,
  state: 'down',
  missing: [],
  domainsLeft: 3,
  minWrite: 2,
  onlyThere: 0,
  isWhole: true,
};

/** Two NameServers and four DataServers, of which the fourth has died. */
async function withDead(t: TestContext): Promise<World> {
  const world = await World.start(t, { nameservers: 2, dataservers: 4 });
  world.alive.delete(world.data[3]!);
  return world;
}

async function remove(world: World, server: number, { force = false, at = leaderOf(world) } = {}) {
  const asked = world.ask('operator', Op.REMOVE_SERVER, encodeControl({ server, force }), at);
  let reply: RemoveServerReply | undefined;
  const code = await world.code(
    asked.then(({ header }) => {
      reply = zRemoveServerReply.parse(JSON.parse(header.toString()));
    }),
  );
  return { code, reply };
}

const leaderOf = (world: World): number => world.nameservers.indexOf(world.leader);
const knownTo = (world: World): number[][] => world.nameservers.map((ns) => ns!.members.known);

/** A block of the dead one and one other, which the other has lost. */
async function onlyOnFour(world: World): Promise<BlockId> {
  const { block } = await world.settle(world.data[3]!.openBlock(world.data));
  await world.pass(1500);
  for (const server of world.data.slice(0, 3)) {
    server.blocks.delete(block);
    server.restart();
  }
  await world.pass(2000);
  return block;
}

describe('removal of a server', (test) => {
  test('is refused where it loses something, or may; never possible of one that is alive', () => {
    const why = (facts: Partial<RemovalFacts>, force = false) =>
      whyNotRemoved({ ...dead, ...facts }, force) ?? 'removed';
    assert.is(why({}), 'removed');
    assert.is(why({ state: 'missing' }), 'removed');
    assert.is(why({ isWhole: false }), 'removed', 'all others have been heard');
    const risks: [Partial<RemovalFacts>, string][] = [
      [{ onlyThere: 3 }, '3 blocks have no good copy'],
      [{ missing: servers(2) }, 'server 2 has not been heard'],
      [{ domainsLeft: 1 }, '1 failure domains would be left'],
      [{ isWhole: false, minWrite: 1 }, 'cluster.minWrite 1'],
    ];
    for (const [facts, message] of risks) {
      assert.match(why(facts), message);
      assert.match(why(facts), '--force');
      assert.is(why(facts, true), 'removed');
    }
    for (const force of [false, true]) {
      assert.match(why({ state: 'up' }, force), 'is alive');
      assert.match(why({ isKnown: false }, force), 'there is no server 4');
    }
  });

  test('makes a complete view possible without it, on both NameServers, over restarts and wipes', async (t) => {
    const world = await withDead(t);
    assert.match((await remove(world, 4)).code, 'is alive', 'it was heard a moment ago');
    await world.pass(6000);
    assert.match((await remove(world, 4, { at: 1 - leaderOf(world) })).code, 'NOT_LEADER');
    assert.equal(await remove(world, 4), { code: 'none', reply: { removed: servers(4), onBoth: true } });
    assert.equal(knownTo(world), [servers(1, 2, 3), servers(1, 2, 3)]);
    assert.equal((await remove(world, 4)).code, 'none', 'again');

    await world.pass(2000);
    for (const id of [0, 1]) world.killNameServer(id);
    for (const id of [0, 1]) await world.restartKilled('synced', id);
    await world.pass(8000);
    assert.equal(knownTo(world), [servers(1, 2, 3), servers(1, 2, 3)], 'it is durable');

    // Every disk has heard of it; without their word a wiped NameServer would wait for all it is configured with.
    for (const id of [0, 1]) world.killNameServer(id);
    for (const id of [0, 1]) await world.restartKilled('wiped', id);
    await world.pass(8000);
    assert.equal(knownTo(world), [servers(1, 2, 3), servers(1, 2, 3)]);
    assert.ok(world.leader.view.isComplete());
    const { leader } = world;
    assert.equal(await world.locateAt(world.nameservers.indexOf(leader), UNKNOWN), [LocateState.ABSENT]);

    world.data[3]!.restart();
    const back = await world.code(world.data[3]!.register(leaderOf(world)));
    assert.match(back, 'REFUSED');
    assert.match(back, 'tfs salvage');
  });

  test('forgets no block: what only it held is without a copy, and not absent', async (t) => {
    const world = await World.start(t, { nameservers: 2, dataservers: 4 });
    const block = await onlyOnFour(world);
    world.alive.delete(world.data[3]!);
    await world.pass(6000);
    const refused = await remove(world, 4);
    assert.match(refused.code, '1 blocks have no good copy');
    assert.equal((await remove(world, 4, { force: true })).code, 'none');
    await world.pass(2000);
    const states = await world.locateAt(leaderOf(world), block, UNKNOWN);
    assert.equal(states, [LocateState.FOUND, LocateState.ABSENT]);
    assert.is(world.leader.blockFigures().byCopies[0], 1);
  });

  test('goes on while the other NameServer is away, which hears it from the DataServers', async (t) => {
    const world = await withDead(t);
    await world.pass(6000);
    const away = 1 - leaderOf(world);
    world.killNameServer(away);
    assert.equal((await remove(world, 4)).reply, { removed: servers(4), onBoth: false });
    await world.pass(2000);
    await world.restartKilled('all', away);
    await world.pass(3000);
    assert.equal(knownTo(world), [servers(1, 2, 3), servers(1, 2, 3)]);
  });
}, 20_000);
