import * as assert from 'uvu/assert';
import { serverId } from '../../common/ids.ts';
import { type DrainServerReply, encodeControl, zDrainServerReply } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import { whyNotDrained } from '../../nameserver/drains.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { servers } from './entries.ts';
import { World } from './world.ts';

const start = (t: TestContext) => World.start(t, { nameservers: 2, dataservers: 4 });
const leaderOf = (world: World): number => world.nameservers.indexOf(world.leader);
const drainedAt = (world: World): number[][] => world.nameservers.map((ns) => ns!.drains.servers);

async function say(world: World, server: number, drained: boolean, at = leaderOf(world)) {
  let reply: DrainServerReply | undefined;
  const asked = world.ask('operator', Op.DRAIN_SERVER, encodeControl({ server, drained }), at);
  const code = await world.code(
    asked.then(({ header }) => {
      reply = zDrainServerReply.parse(JSON.parse(header.toString()));
    }),
  );
  return { code, reply };
}

describe('a server that is to be emptied', (test) => {
  test('is one whose copies can go somewhere', () => {
    const facts = { server: serverId(4), isKnown: true, domainsLeft: 3, replicas: 3 };
    assert.is(whyNotDrained(facts), undefined);
    assert.match(whyNotDrained({ ...facts, domainsLeft: 2 })!, '2 failure domains would be left');
    assert.match(whyNotDrained({ ...facts, isKnown: false })!, 'there is no server 4');
  });

  test('is known to both NameServers, over restarts, until somebody takes it back', async (t) => {
    const world = await start(t);
    assert.match((await say(world, 4, true, 1 - leaderOf(world))).code, 'NOT_LEADER');
    assert.equal(await say(world, 4, true), { code: 'none', reply: { drained: servers(4), onBoth: true } });
    assert.equal((await say(world, 4, true)).reply, { drained: servers(4), onBoth: true }, 'again');
    assert.match((await say(world, 3, true)).code, 'CONFLICT: 2 failure domains');
    assert.equal(drainedAt(world), [servers(4), servers(4)]);
    for (const id of [0, 1]) world.killNameServer(id);
    for (const id of [0, 1]) await world.restartKilled('synced', id);
    await world.pass(8000);
    assert.equal(drainedAt(world), [servers(4), servers(4)], 'it is durable');
    assert.is(world.leader.clusterMap().servers.find(({ id }) => id === 4)!.drained, true);
    assert.equal((await say(world, 4, false)).reply, { drained: [], onBoth: true });
    assert.equal(drainedAt(world), [[], []]);
  });

  test('is told to the other NameServer when that one is back, and an older word changes nothing', async (t) => {
    const world = await start(t);
    const away = 1 - leaderOf(world);
    world.killNameServer(away);
    assert.equal((await say(world, 4, true)).reply, { drained: servers(4), onBoth: false });
    await world.restartKilled('all', away);
    await world.pass(12_000);
    assert.equal(drainedAt(world), [servers(4), servers(4)]);
    const { drains } = world.nameservers[away]!;
    await world.settle(drains.learn({ stamp: { epoch: 0 as never, n: 9 }, servers: [] }));
    assert.equal(drains.servers, servers(4));
  });

  test('gets no new blocks, and those that are being written on it are closed', async (t) => {
    const world = await start(t);
    const data = world.data;
    const { block: before } = await world.settle(data[3]!.openBlock(data));
    await world.pass(1500);
    await say(world, 4, true);
    await world.pass(4000);
    for (const primary of data.slice(0, 3))
      for (let i = 0; i < 4; i++) {
        const { members } = await world.settle(primary.openBlock(data));
        assert.not.ok(
          members.some(({ id }) => id === 4),
          'as a member',
        );
      }
    assert.match(await world.code(data[3]!.openBlock(data)), 'tfs drain');
    assert.is(world.leader.map.facts(before)?.whole, 4, 'sealed');
  });
}, 20_000);
