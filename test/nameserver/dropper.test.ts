import * as assert from 'uvu/assert';
import { type ErrorCode, TfsError } from '../../common/errors.ts';
import { incarnationOf, type ServerId } from '../../common/ids.ts';
import { DROP_RETRY_MS_MIN, DROPS_PER_SERVER_MAX, DROPS_RUNNING_MAX } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { Configure, Drop, Member } from '../../common/wire/control.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Configurer } from '../../nameserver/configurer.ts';
import { Dropper } from '../../nameserver/dropper.ts';
import { EmptyScan } from '../../nameserver/empty-scan.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = entryOf().block;
const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });
const refuse = () => Promise.reject(new Error('not here'));
const SEALED = { state: BlockState.SEALED, length: 50_000 };

/** A leader with sealed blocks on pretended servers. */
class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly log: string[] = [];
  readonly empty = new EmptyScan(this.map);
  readonly used = new Map<number, number>();
  readonly unpromised = new Set<number>();
  readonly unreachable = new Set<number>();
  readonly unconfirmedFrom = new Map<number, number>();
  /** What DROP answers, by server. */
  readonly refusal = new Map<number, ErrorCode>();
  /** Orders that are not answered until somebody lets them. */
  held: (() => void)[] | undefined;
  /** What the newest order named. */
  missing: readonly number[] | undefined;
  leads = true;
  isViewComplete = true;
  readonly configurer: Configurer;
  readonly dropper: Dropper;

  constructor() {
    const shared = {
      map: this.map,
      clock: this.clock,
      log: silentLog,
      reign: () => (this.leads ? reignOf(1) : undefined),
      reachable: (id: ServerId) => (this.unreachable.has(id) ? undefined : memberOf(id)),
      domainOf: (id: ServerId) => `d${id}`,
      domainsInAll: () => Number.POSITIVE_INFINITY,
      isDrained: () => false,
      canWrite: () => true,
    };
    this.configurer = new Configurer({
      ...shared,
      minWrite: 2,
      address: memberOf,
      unconfirmedFromMs: (id) => this.unconfirmedFrom.get(id) ?? Number.NEGATIVE_INFINITY,
      seal: () => undefined,
      commands: {
        fence: refuse,
        seal: refuse,
        syncOps: refuse,
        configure: async (to: Member, { block, version, members }: Configure) => {
          await turns(1);
          this.log.push(
            `configure ${block - B} ${version.n}: ${members.map(({ id }) => id).join()} by ${to.id}`,
          );
          return { version, seq: 10 };
        },
      },
    });
    this.dropper = new Dropper({
      ...shared,
      empty: this.empty.found,
      configurer: this.configurer,
      isViewComplete: () => this.isViewComplete,
      missing: () => [...this.unpromised].map((id) => id as ServerId),
      isCurrent: (id) => !this.unpromised.has(id),
      usedPercent: (id) => this.used.get(id) ?? 50,
      commands: { drop: (to, order) => this.#drop(to, order) },
    });
  }

  async #drop({ id }: Member, { block, reason, version, generation, missing }: Drop) {
    if (this.held !== undefined) await new Promise<void>((resolve) => this.held!.push(resolve));
    else await turns(1);
    const code = this.refusal.get(id);
    this.log.push(
      `drop ${block - B} ${reason} at ${id}, ${generation} (1, ${version.n})${code ? ` ${code}` : ''}`,
    );
    this.missing = missing;
    if (code !== undefined) throw new TfsError(code, 'planted');
    return { dropped: true };
  }

  /** As its servers report it. */
  report(servers: readonly number[], over: Parameters<typeof entryOf>[0] = {}): void {
    for (const server of servers) this.map.report(server as ServerId, entryOf({ ...SEALED, ...over }));
  }

  async pump(times = 1, ms = 500): Promise<void> {
    for (let i = 0; i < times; i++) {
      this.clock.advance(ms);
      this.empty.step();
      this.dropper.pump();
      await turns(8);
    }
  }
}

/** Members are 1, 2, 3, and 4 has come back with an older configuration. */
function returned(): World {
  const world = new World();
  world.report([4], { members: [1, 2, 4] });
  world.report([1, 2, 3], { n: 2 });
  return world;
}

describe('dropper', (test) => {
  test('lets go of the copy of a server that came back when another had taken its place', async () => {
    const world = returned();
    await world.pump();
    assert.equal(world.log, ['drop 0 excess at 4, 0 (1, 2)']);
    assert.equal(
      world.map
        .facts(B)!
        .replicas.map(({ server }) => server as number)
        .sort(),
      [1, 2, 3],
    );
    assert.is(world.dropper.stats.dropped, 1);
    await world.pump(20);
    assert.is(world.log.length, 1);
  });

  test('of nothing while it does not lead, or does not know every block', async () => {
    for (const key of ['leads', 'isViewComplete'] as const) {
      const world = returned();
      world[key] = false;
      await world.pump(20);
      assert.equal(world.log, []);
      world[key] = true;
      await world.pump();
      assert.is(world.log.length, 1);
    }
  });

  test('of nothing while a server of the others has not promised to this leader', async () => {
    const world = returned();
    world.unpromised.add(2);
    await world.pump(20);
    assert.equal(world.log, []);
  });

  test('of the copy on the fullest disk: the block first goes on without it', async () => {
    const world = new World();
    world.used.set(2, 90);
    world.report([1, 2, 3, 4]);
    world.unconfirmedFrom.set(2, Number.POSITIVE_INFINITY);
    await world.pump();
    assert.equal(world.log, []);
    assert.equal(world.map.staleOf(2 as ServerId), [B], 'it is told first that it is not needed');
    await world.pump(12);
    assert.equal(world.log, ['configure 0 2: 1,3,4 by 1', 'drop 0 excess at 2, 0 (1, 2)']);
    assert.is(world.dropper.waiting, 0);
  });

  test('tries again what was refused, more and more seldom, and says which it is', async () => {
    const world = returned();
    world.refusal.set(4, 'IO');
    await world.pump();
    await world.pump(1, DROP_RETRY_MS_MIN - 1);
    assert.is(world.log.length, 1);
    await world.pump(1, 1);
    assert.is(world.log.length, 2);
    await world.pump(1, DROP_RETRY_MS_MIN);
    assert.is(world.log.length, 2);
    assert.equal([world.dropper.waiting, world.dropper.stats.failures], [1, 2]);
    world.refusal.clear();
    await world.pump(1, DROP_RETRY_MS_MIN);
    assert.is(world.log.length, 3);
    await world.pump();
    assert.is(world.dropper.waiting, 0);
  });

  test('begins a new configuration where the copy waits for one that nobody finished', async () => {
    const world = returned();
    world.refusal.set(4, 'CONFLICT');
    await world.pump();
    await world.pump(1, DROP_RETRY_MS_MIN);
    world.refusal.clear();
    await world.pump(1, 2 * DROP_RETRY_MS_MIN);
    assert.equal(world.log, [
      'drop 0 excess at 4, 0 (1, 2) CONFLICT',
      'drop 0 excess at 4, 0 (1, 2) CONFLICT',
      'configure 0 3: 1,2,3 by 1',
      'drop 0 excess at 4, 0 (1, 3)',
    ]);
  });

  test('a few at a time on one server, and in all', async () => {
    const world = new World();
    for (let i = 0; i < 40; i++)
      for (const [server, members] of [
        [4 + (i % 8), [1, 2, 4]] as const,
        ...[1, 2, 3].map((id) => [id, [1, 2, 3]] as const),
      ])
        world.report([server], { block: B + i, members, n: server > 3 ? 1 : 2 });
    world.held = [];
    await world.pump(4);
    assert.is(world.held.length, DROPS_RUNNING_MAX);
    const one = new World();
    for (let i = 0; i < 40; i++) {
      one.report([4], { block: B + i, members: [1, 2, 4] });
      one.report([1, 2, 3], { block: B + i, n: 2 });
    }
    one.held = [];
    await one.pump(4);
    assert.is(one.held.length, DROPS_PER_SERVER_MAX);
    while (one.held.length > 0) {
      for (const answer of one.held.splice(0)) answer();
      await one.pump(2);
    }
    assert.is(one.dropper.stats.dropped, 40);
  });

  test('of many blocks that go on without one server: who was told so goes before others are told', async () => {
    const world = new World();
    const many = 60;
    world.used.set(2, 90);
    world.unconfirmedFrom.set(2, Number.POSITIVE_INFINITY);
    // So that what is stale at this server is looked at last.
    world.report([2], { block: B + many, state: BlockState.RECOVERED });
    world.report([1, 3], { block: B + many, n: 2, members: [1, 3] });
    for (let i = 0; i < many; i++) world.report([1, 2, 3, 4], { block: B + i });
    let [most, turn] = [0, 0];
    for (; turn < 120 && world.dropper.stats.dropped < many; turn++) {
      world.configurer.pump();
      await world.pump();
      most = Math.max(most, world.dropper.waiting);
    }
    assert.is(world.dropper.stats.dropped, many);
    assert.ok(most < many / 2, `${most} replicas are about to be left out at once`);
  });

  test('an empty block goes with all of its copies, and is not known any more', async () => {
    const world = new World();
    world.report([1, 2, 3], { length: 4096 });
    world.report([1, 2, 3], { block: B + 1 });
    await world.pump(2);
    assert.equal(
      [...world.log].sort(),
      [1, 2, 3].map((id) => `drop 0 retired at ${id}, 0 (1, 1)`),
    );
    assert.equal([world.map.has(B), world.map.counts.total], [false, 1]);
    assert.is(world.dropper.stats.retired, 1);
  });

  test('who retires an empty block is told which servers nobody has heard all of', async () => {
    const world = new World();
    world.unpromised.add(4);
    world.report([1, 2, 3], { length: 4096 });
    await world.pump(2);
    assert.equal(world.missing, [4]);
    assert.is(world.map.has(B), false);
  });

  test('what is left of an empty block goes later', async () => {
    const world = new World();
    world.report([1, 2, 3], { length: 4096 });
    world.refusal.set(3, 'IO');
    await world.pump(2);
    assert.equal(
      world.map
        .facts(B)!
        .replicas.filter(({ state }) => state !== 0)
        .map(({ server }) => server as number),
      [3],
    );
    world.refusal.clear();
    await world.pump(3, DROP_RETRY_MS_MIN);
    assert.is(world.map.has(B), false);
  });

  test('an empty block stays known while a server that holds it cannot be commanded', async () => {
    const world = new World();
    world.report([1, 2, 3], { length: 4096 });
    world.unreachable.add(3);
    await world.pump(2);
    assert.equal(
      [...world.log].sort(),
      [1, 2].map((id) => `drop 0 retired at ${id}, 0 (1, 1)`),
    );
    assert.equal([world.map.has(B), world.dropper.stats.retired], [true, 0]);
    world.unreachable.clear();
    await world.pump(3, DROP_RETRY_MS_MIN);
    assert.is(world.log.at(-1), 'drop 0 retired at 3, 0 (1, 1)');
    assert.equal([world.map.has(B), world.dropper.stats.retired], [false, 1]);
  });
});
