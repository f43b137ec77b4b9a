import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { incarnationOf, type ServerId } from '../../common/ids.ts';
import { DOUBT_MS_MAX, PROVISIONAL_AFTER_MS } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { Configure, Member } from '../../common/wire/control.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Configurer } from '../../nameserver/configurer.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = entryOf().block;
const [s1, s2, s3] = servers(1, 2, 3) as [ServerId, ServerId, ServerId];
const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });
const refuse = () => Promise.reject(new Error('not here'));

/** A sealed block on 1, 2, 3, sequenced by 1. */
class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly down = new Set<number>();
  readonly unconfirmedFrom = new Map<number, number>();
  readonly orders: string[] = [];
  readonly seals: string[] = [];
  fail: TfsError | undefined;
  /** A server that takes part in nothing. */
  failsWith: number | undefined;
  /** Members of each configuration that was to begin. */
  readonly tried: string[] = [];
  leads = true;
  domains = 3;
  epoch = 1;
  seq = 10;
  readonly configurer = new Configurer({
    map: this.map,
    clock: this.clock,
    log: silentLog,
    minWrite: 2,
    reign: () => (this.leads ? reignOf(this.epoch) : undefined),
    reachable: (id) => (this.down.has(id) ? undefined : memberOf(id)),
    address: memberOf,
    domainOf: (id) => `d${id}`,
    domainsInAll: () => this.domains,
    isDrained: () => false,
    canWrite: () => true,
    unconfirmedFromMs: (id) => this.unconfirmedFrom.get(id) ?? Number.NEGATIVE_INFINITY,
    seal: (block, _, holders) => this.seals.push(`${block} ${holders.join()}`),
    commands: {
      fence: refuse,
      seal: refuse,
      syncOps: refuse,
      configure: async (to: Member, { version, members }: Configure) => {
        await turns(1);
        if (this.fail !== undefined) throw this.fail;
        this.tried.push(members.map(({ id }) => id).join());
        if (members.some(({ id }) => id === this.failsWith))
          throw new TfsError('UNAVAILABLE', 'planted', { details: { avoid: [this.failsWith!] } });
        this.orders.push(`${to.id}: (${version.epoch}, ${version.n}) ${members.map(({ id }) => id).join()}`);
        return { version, seq: ++this.seq };
      },
    },
  });

  constructor(state: BlockState = BlockState.SEALED) {
    for (const server of [s1, s2, s3]) this.map.report(server, entryOf({ state }));
  }

  async request(...failed: number[]): Promise<string> {
    try {
      const { version, opsPrimary, members } = await this.configurer.request(B, servers(...failed));
      return `${opsPrimary}: (${version.epoch}, ${version.n}) ${members.map(({ id }) => id).join()}`;
    } catch (error) {
      return isTfsError(error) ? error.code : String(error);
    }
  }

  async pump(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 500) {
      await this.clock.advance(500);
      this.configurer.pump();
      await turns(5);
    }
  }
}

describe('configurer', (test) => {
  test('leaves out who cannot be reached, under a new version of this reign, and tells who orders operations now', async () => {
    const world = new World();
    world.down.add(1);
    assert.is(await world.request(1), '2: (1, 2) 2,3');
    assert.equal(world.orders, ['2: (1, 2) 2,3']);
    assert.equal(world.map.staleOf(s1), [B]);
    assert.is(await world.request(1), '2: (1, 2) 2,3', 'asked again nothing changes');
    assert.is(world.orders.length, 1);
    world.epoch = 4;
    world.down.clear();
    assert.is(await world.request(), '2: (4, 1) 1,2,3', 'numbers begin again in a new reign');
  });

  test('one that was left out and still holds the old configuration hears of the new one, and brings about none', async () => {
    const world = new World();
    world.down.add(1);
    await world.request(1);
    world.down.clear();
    for (let i = 0; i < 3; i++) {
      const { version, opsPrimary, members } = await world.configurer.request(B, [s2], {
        renew: true,
        server: s1,
      });
      assert.equal([version.n, opsPrimary, members.map(({ id }) => id)], [2, s2, [s2, s3]]);
    }
    assert.equal(world.orders, ['2: (1, 2) 2,3'], 'it is no member, and knows nothing of those who are');
    await world.configurer.request(B, [], { renew: true, server: s3 });
    assert.is(world.orders.length, 2, 'a member gets another one');
  });

  test('one whose copy is damaged is left out where another one has a sound copy, and not where none has', async () => {
    const world = new World();
    const damaged = entryOf({ state: BlockState.SEALED, flags: BlockFlag.SUSPECT });
    for (const id of [s1, s2, s3]) world.map.report(id, damaged);
    const ask = () => world.configurer.request(B, [s1], { sound: true, server: s1 });
    const error = await ask().catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'UNAVAILABLE'), String(error));
    assert.match(error.message, 'has a sound copy');
    assert.equal(world.orders, []);
    world.map.report(s3, entryOf({ state: BlockState.SEALED }));
    assert.is((await ask()).opsPrimary, s2);
    assert.is((await ask()).opsPrimary, s2, 'it is told now');
    assert.is(world.orders.length, 1);
  });

  test('a member that is only told of in a confirmed answer is left out when that answer has lost its worth', async () => {
    const world = new World();
    world.down.add(3);
    world.unconfirmedFrom.set(3, world.clock.monotonic() + 2_000);
    assert.is(await world.request(3), 'UNAVAILABLE');
    assert.equal(world.map.staleOf(s3), [B], 'from now on every answer says so');
    await world.clock.advance(1_999);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.clock.advance(1);
    assert.is(await world.request(3), '1: (1, 2) 1,2');
  });

  test('one that lives, and only a member cannot reach, is told first', async () => {
    const world = new World();
    world.unconfirmedFrom.set(3, Number.POSITIVE_INFINITY);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.clock.advance(PROVISIONAL_AFTER_MS - 1);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.clock.advance(1);
    assert.is(await world.request(3), '1: (1, 2) 1,2');
  });

  test('one that comes back while the others begin to go on without it is not told that it is current', async () => {
    const world = new World();
    world.down.add(3);
    const asked = world.request(3);
    assert.equal(world.orders, [], 'the order is under way');
    assert.equal(world.map.staleOf(s3), [B]);
    assert.is(await asked, '1: (1, 2) 1,2');
    assert.equal(world.map.staleOf(s3), [B]);
  });

  test('nor when nobody knows whether they do, for a while', async () => {
    const world = new World();
    world.down.add(3);
    world.fail = new TfsError('DEADLINE', 'planted');
    assert.is(await world.request(3), 'UNAVAILABLE');
    world.down.clear();
    await world.pump(DOUBT_MS_MAX - 1_000);
    assert.equal(world.map.staleOf(s3), [B]);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.pump(DOUBT_MS_MAX - 1_000);
    assert.equal(world.map.staleOf(s3), [B], 'after the second order as after the first');
    await world.pump(2_000);
    assert.equal(world.map.staleOf(s3), []);
  });

  test('whom an order that failed was to leave out need not be told once more', async () => {
    const world = new World();
    world.down.add(3);
    world.fail = new TfsError('DEADLINE', 'planted');
    assert.is(await world.request(3), 'UNAVAILABLE');
    world.down.clear();
    world.fail = undefined;
    world.unconfirmedFrom.set(3, Number.POSITIVE_INFINITY);
    assert.is(await world.request(3), '1: (1, 3) 1,2');
  });

  test('a block that was sealed without the one that is left out: its seal is complete now', async () => {
    const world = new World();
    world.map.report(s3, entryOf({ state: BlockState.OPEN }));
    world.down.add(3);
    assert.is(await world.request(3), '1: (1, 2) 1,2');
    assert.equal(world.seals, [`${B} `]);
    const other = new World();
    other.down.add(3);
    assert.is(await other.request(3), '1: (1, 2) 1,2');
    assert.equal(other.seals, [], 'it was complete before');
  });

  test('a doubt that comes to nothing is forgotten', async () => {
    const world = new World();
    world.unconfirmedFrom.set(3, Number.POSITIVE_INFINITY);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.pump(DOUBT_MS_MAX + 1_000);
    assert.equal(world.map.staleOf(s3), []);
    assert.equal(world.orders, []);
  });

  test('so is one about a server that a later leader has taken in again meanwhile', async () => {
    const world = new World();
    world.unconfirmedFrom.set(3, Number.POSITIVE_INFINITY);
    assert.is(await world.request(3), 'UNAVAILABLE');
    await world.clock.advance(PROVISIONAL_AFTER_MS);
    const asked = world.request(3);
    for (const server of [s1, s2, s3])
      world.map.report(server, entryOf({ state: BlockState.SEALED, epoch: 2, seq: 12 }));
    assert.is(await asked, '1: (2, 1) 1,2,3');
    assert.equal(world.orders, ['1: (1, 2) 1,2']);
    await world.pump(DOUBT_MS_MAX + 1_000);
    assert.equal(world.map.staleOf(s3), []);
  });

  test('a version that a member may hold is not used twice', async () => {
    const world = new World();
    world.down.add(3);
    world.fail = new TfsError('UNAVAILABLE', 'planted');
    assert.is(await world.request(3), 'UNAVAILABLE');
    world.fail = undefined;
    assert.is(await world.request(3), '1: (1, 3) 1,2');
    world.map.report(s1, entryOf({ state: BlockState.SEALED, n: 9, members: [1, 2], seq: 20 }));
    world.map.report(s2, entryOf({ state: BlockState.SEALED, n: 9, members: [1, 2], seq: 20 }));
    world.down.clear();
    assert.is(await world.request(), '1: (1, 10) 1,2,3');
  });

  test('a replica that comes back is sealed and taken in without anybody asking', async () => {
    const world = new World();
    world.down.add(3);
    await world.request(3);
    world.map.report(s3, entryOf({ state: BlockState.RECOVERED }));
    await world.pump(2_000);
    assert.equal(world.seals, [], 'not while it cannot be reached');
    world.down.clear();
    await world.pump(1_000);
    assert.is(world.seals[0], `${B} 3`);
    assert.equal(world.map.staleOf(s3), [B]);
    world.map.report(s3, entryOf({ state: BlockState.SEALED }));
    await world.pump(10_000);
    assert.equal(world.map.staleOf(s3), []);
    assert.is(world.orders.at(-1), '1: (1, 3) 1,2,3');
  });

  test('where nobody holds the newest configuration any more its members begin another, newer one, by themselves', async () => {
    const world = new World();
    const sealed = { state: BlockState.SEALED };
    const newest = entryOf({ ...sealed, n: 2, members: [1, 2], seq: 2 });
    for (const server of [s1, s2]) world.map.report(server, newest);
    world.map.report(s1, entryOf(sealed));
    world.down.add(2);
    await world.pump(10_000);
    assert.equal(world.orders, [], 'as far as is known server 2 holds it');
    world.map.report(s2, entryOf(sealed));
    await world.pump(10_000);
    assert.equal(world.orders, [], 'and now, as long as it cannot take part');
    world.down.clear();
    await world.pump(120_000);
    assert.equal(world.orders, ['1: (1, 3) 1,2,3']);
    assert.equal(world.map.staleServers, []);
  });

  test('a replica that cannot be taken in is tried more and more seldom', async () => {
    const world = new World();
    world.down.add(3);
    await world.request(3);
    world.down.clear();
    world.failsWith = 3;
    await world.pump(60_000);
    const [, ...tried] = world.tried;
    const tries = tried.filter((members) => members === '1,2,3').length;
    assert.ok(tries >= 2 && tries <= 10, `${tries} tries`);
    assert.equal(
      tried,
      Array.from({ length: tries }, () => ['1,2,3', '1,2']).flat(),
      'and the others, who had stopped for it, go on at once',
    );
  });

  test('one that could not take part in a block is done without in the others, where it can be', async () => {
    const world = new World();
    const C = (B + 1) as typeof B;
    for (const id of [s1, s2, s3]) world.map.report(id, entryOf({ block: C, state: BlockState.SEALED }));
    world.failsWith = 3;
    await world.configurer.request(B, [], { renew: true }).catch(() => undefined);
    assert.equal(world.tried, ['1,2,3']);
    await world.configurer.request(C, [], { renew: true });
    assert.equal(world.tried, ['1,2,3', '1,2']);
    world.down.add(1);
    world.failsWith = undefined;
    const { members } = await world.configurer.request(B, [], { renew: true });
    assert.equal(
      members.map(({ id }) => id),
      [s2, s3],
      'it is tried all the same where too few are left without it',
    );
    assert.is(await world.configurer.request(C, [], { renew: true }).then(({ version }) => version.n), 3);
    assert.is(world.tried.at(-1), '2,3', 'and counts as well again');
  });

  test('also then one whose place another has to give up, which has to be told first', async () => {
    const world = new World();
    const s4 = servers(4)[0]!;
    const newest = { state: BlockState.SEALED, n: 2, members: [1, 3, 4], seq: 11 };
    // Begun on one server, and not finished; the two that hold the one before come first.
    world.map.report(s4, entryOf({ state: BlockState.SEALED }));
    world.map.report(s1, entryOf(newest));
    world.unconfirmedFrom.set(4, Number.POSITIVE_INFINITY);
    for (const id of [2, 3, 4]) world.down.add(id);
    await world.pump(300_000);
    world.down.clear();
    await world.pump(80_000);
    assert.equal(world.orders, ['1: (1, 3) 1,2,3']);
  });

  test('only a leader changes anything, and only what it knows', async () => {
    const world = new World();
    world.down.add(1);
    world.leads = false;
    assert.is(await world.request(1), 'NOT_LEADER');
    world.leads = true;
    world.down.add(2);
    assert.is(await world.request(1), 'UNAVAILABLE');
    world.map.forget(B);
    assert.is(await world.request(1), 'DONT_KNOW');
    assert.equal(world.orders, []);
  });

  test('those who ask at the same time share one change', async () => {
    const world = new World();
    world.down.add(1);
    const replies = await Promise.all([world.request(1), world.request(1), world.request()]);
    assert.equal(replies, Array(3).fill('2: (1, 2) 2,3'));
    assert.is(world.orders.length, 1);
  });
});
