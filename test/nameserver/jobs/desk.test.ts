import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../../common/errors.ts';
import { type BlockId, epochOf, incarnationOf, type ServerId } from '../../../common/ids.ts';
import {
  GRANTS_MAX,
  JOB_ATTEMPTS_MAX,
  JOB_MS_MIN,
  JOB_PARKED_MS,
  JOB_REPORTED_MS,
} from '../../../common/limits.ts';
import { silentLog } from '../../../common/log.ts';
import type { BlockHeadReply, Reign } from '../../../common/wire/control.ts';
import type { JobOrder, TakeJob } from '../../../common/wire/jobs.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import { JobDesk } from '../../../nameserver/jobs/desk.ts';
import { shareOf } from '../../../nameserver/jobs/rates.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { describe } from '../../kit/suite.ts';
import { servers } from '../entries.ts';
import { addressOf, reignOf } from '../messages.ts';
import { B, PlannedWorld } from '../planner/planned-world.ts';

const SEAL = { length: 5000, slots: 3, digest: 'ab'.repeat(32), epoch: epochOf(1) };

class World extends PlannedWorld {
  readonly clock = new ManualClock();
  reign: Reign | undefined = reignOf(3);
  readonly heads = new Map<number, Partial<BlockHeadReply> | Error>();
  isPaused = false;
  readonly sealedAnew: BlockId[] = [];
  readonly incarnations = new Map<number, number>();
  rates: { bytesPerSecond: number; clusterBytesPerSecond: number | undefined } = {
    bytesPerSecond: 1e6,
    clusterBytesPerSecond: undefined,
  };
  readonly desk: JobDesk;

  /** Server 3 of 1, 2, 3 is lost. */
  constructor(count = 5) {
    super(count);
    this.desk = new JobDesk({
      map: this.map,
      clock: this.clock,
      pauses: { isPaused: () => this.isPaused },
      log: silentLog,
      rates: this.rates,
      isViewComplete: () => this.viewComplete,
      garbage: {
        garbagePercent: this.garbagePercent,
        isLeftAlone: (block) => this.leftAlone.has(block),
      },
      erasures: this.erased,
      repairer: { lostByBlock: new Map() },
      servers: () => this.servers,
      reign: () => this.reign,
      reachable: (id) =>
        this.servers.get(id)?.isCurrent
          ? { id, incarnation: incarnationOf(1), address: addressOf(id) }
          : undefined,
      commands: {
        blockHead: async ({ id }) => {
          const head = this.heads.get(id);
          if (head instanceof Error) throw head;
          return { generation: 0, state: BlockState.SEALED, seal: SEAL, ...head };
        },
      },
      seal: (block) => this.sealedAnew.push(block),
    });
    this.block({ 1: {}, 2: {}, 3: {} });
    this.giveUp(3);
  }

  ask(server: number, { block = B, incarnation = 1, kind = 'replicate' as TakeJob['kind'] } = {}): TakeJob {
    const [id] = servers(server) as [ServerId];
    return { kind, block, server: id, incarnation: incarnationOf(incarnation), round: 1 };
  }

  async take(
    server: number,
    options: { block?: BlockId; incarnation?: number; kind?: TakeJob['kind'] } = {},
  ): Promise<string> {
    const answer = await this.desk.take(this.ask(server, options));
    if (answer.answer === 'unwanted') return answer.why;
    if (answer.answer !== 'replicate') return `${answer.answer} ${answer.block} of ${answer.bytes} bytes`;
    return `from ${answer.order.sources.map(({ id }) => id).join(' ')}`;
  }

  tidy(): void {
    this.desk.tidy((id) => incarnationOf(this.incarnations.get(id) ?? 1));
  }
}

const NOTHING = 'nothing of that kind is to be done for this block';

describe('the desk where jobs are asked for', (test) => {
  test('orders what the map says is to be done, under its reign, and nothing on the word of a job', async () => {
    const world = new World();
    const order = (await world.desk.give(world.ask(4))) as Extract<JobOrder, { answer: 'replicate' }>;
    assert.equal(order.order.reign, reignOf(3));
    assert.equal(order.order.seal, SEAL);
    assert.ok(order.order.joins);
    assert.equal([order.bytesPerSecond, order.msMax], [1e6, JOB_MS_MIN + 20]);
    assert.is(await world.take(4, { block: 7 as BlockId }), 'block 7 is not known');
    assert.is(await world.take(1), NOTHING, 'it has one');
    const whole = new World();
    whole.block({ 1: {}, 2: {}, 4: {} }, { block: B + 1 });
    assert.is(await whole.take(5, { block: (B + 1) as BlockId }), NOTHING);
  });

  test('one at a time for one missing copy; the same one may ask again, and gets the same', async () => {
    const world = new World();
    assert.match(await world.take(5), /^from [12] [12]$/);
    assert.is(await world.take(4), NOTHING);
    assert.match(await world.take(5), /^from [12] [12]$/);
    assert.is(world.desk.grants.size, 1);
    world.giveUp(2);
    assert.is(await world.take(4), 'from 1', 'two are missing now');
    assert.is(world.desk.grants.size, 2);
  });

  test('who is not the first choice may have it, who does not fit may not', async () => {
    const world = new World();
    world.server(4, { domain: 'd1' });
    assert.match(
      await world.take(4),
      /^copies in 2 of 3 .*; no other failure domain takes it \(server 5: another server asks\)$/,
    );
    world.server(5, { refuses: 'it stops' });
    assert.match(await world.take(5), /\(server 5: it stops\)$/);
  });

  test('what is done keeps its place until the map shows it, and no longer', async () => {
    const world = new World();
    await world.take(5);
    world.desk.end({ ...world.ask(5), bytes: 5000 });
    assert.equal(world.desk.stats, {
      granted: 1,
      refused: 0,
      done: 1,
      failed: 0,
      bytes: 5000,
      copiedBytes: 5000,
    });
    world.tidy();
    assert.is(await world.take(4), NOTHING);
    world.block({ 5: {} }, { members: [1, 2, 3] });
    world.tidy();
    assert.is(world.desk.grants.size, 0);
    assert.is(await world.take(4), NOTHING);
    const silent = new World();
    await silent.take(5);
    silent.desk.end({ ...silent.ask(5), bytes: 5000 });
    silent.clock.advance(JOB_REPORTED_MS);
    silent.tidy();
    assert.match(await silent.take(4), /^from/);
  });

  test('a failure frees the place; several in a row, and that server is left alone for a while', async () => {
    const world = new World();
    for (let i = 0; i < JOB_ATTEMPTS_MAX; i++) {
      assert.match(await world.take(5), /^from/);
      world.desk.end({ ...world.ask(5), failure: 'planted', bytes: 0 });
    }
    assert.match(await world.take(5), /several times/);
    assert.equal(
      world.desk.failures.parked.map(({ reason, count }) => [reason, count]),
      [['planted', 3]],
    );
    assert.match(await world.take(4), /^from/, 'another one');
    world.desk.end({ ...world.ask(4), failure: 'planted', bytes: 0 });
    world.clock.advance(JOB_PARKED_MS);
    assert.match(await world.take(5), /^from/);
    world.desk.end({ ...world.ask(5), bytes: 1 });
    assert.equal(world.desk.failures.parked, []);
  });

  test('what nobody says the end of ends by itself, and so does what a server that was started again had', async () => {
    const world = new World();
    await world.take(5);
    world.clock.advance(JOB_MS_MIN);
    world.tidy();
    assert.is(await world.take(4), NOTHING, 'the one who has it gives up before');
    world.clock.advance(20_000);
    world.tidy();
    assert.match(await world.take(4), /^from/);
    world.incarnations.set(4, 2);
    world.tidy();
    assert.is(world.desk.grants.size, 0);
    assert.is(world.desk.stats.failed, 2);
    world.desk.end({ ...world.ask(4), bytes: 5000 });
    assert.is(world.desk.stats.done, 0, 'the word of the life before');
  });

  test('only a leader that knows every block gives any, and another reign begins with nothing under way', async () => {
    const world = new World();
    await world.take(5);
    world.reign = undefined;
    assert.match(await world.take(4), /does not lead/);
    world.reign = reignOf(5);
    assert.match(await world.take(4), /^from/);
    assert.is(world.desk.grants.size, 1);
  });

  test('sources that do not answer or hold another generation are left out; without any it is for later', async () => {
    const world = new World();
    world.heads.set(1, new TfsError('CONNECTION_LOST', 'planted'));
    assert.is(await world.take(5), 'from 2');
    world.heads.set(2, { generation: 4 });
    const error = await world.take(5).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'UNAVAILABLE'));
    assert.is(world.desk.grants.size, 0);
    assert.equal(world.sealedAnew, []);
  });

  test('replicas that were sealed differently are sealed anew first', async () => {
    const world = new World();
    world.heads.set(1, { seal: { ...SEAL, digest: 'cd'.repeat(32) } });
    const error = await world.take(5).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'CONFLICT'));
    assert.equal(world.sealedAnew, [B]);
  });

  test('nothing of a kind that is paused', async () => {
    const world = new World();
    world.isPaused = true;
    assert.match(await world.take(5), /paused/);
    world.isPaused = false;
    assert.match(await world.take(5), /^from/);
  });

  test('sources take turns', async () => {
    const world = new World();
    const firsts = new Set<string>();
    for (let i = 0; i < 20; i++) {
      world.block({ 1: {}, 2: {}, 3: {} }, { block: B + i });
      firsts.add(await world.take(4 + (i % 2), { block: (B + i) as BlockId }));
    }
    assert.equal([...firsts].sort(), ['from 1 2', 'from 2 1']);
  });

  test('a bounded number is under way', async () => {
    const world = new World();
    for (let i = 0; i <= GRANTS_MAX; i++) world.block({ 1: {}, 2: {}, 3: {} }, { block: B + i });
    for (let i = 0; i < GRANTS_MAX; i++) await world.desk.give(world.ask(4, { block: (B + i) as BlockId }));
    assert.is(await world.take(4, { block: (B + GRANTS_MAX) as BlockId }), 'too much is under way');
  });

  test('a bound for the whole cluster is shared by those that can work', () => {
    const rates = { bytesPerSecond: 100, clusterBytesPerSecond: 300 };
    assert.equal(
      [1, 3, 4, 1000].map((count) => shareOf(rates, count)),
      [100, 100, 75, 1],
    );
    assert.is(shareOf({ ...rates, clusterBytesPerSecond: undefined }, 1000), 100);
  });

  test('one compaction at a time on a server, and two that a server takes part in', async () => {
    const world = new World(9);
    const rich = { length: 1_000_000, deadBytes: 500_000 };
    const kind = 'compact';
    const blockOf = (i: number) => (B + 10 + i) as BlockId;
    // Sequenced by 1, 1, 4, 5 and 6; server 2 has a part in all but the last.
    for (const [i, [a, b, c]] of [
      [1, 2, 6],
      [1, 2, 6],
      [4, 2, 7],
      [5, 2, 8],
      [6, 7, 8],
    ].entries())
      world.block({ [a!]: rich, [b!]: rich, [c!]: rich }, { block: blockOf(i), members: [a!, b!, c!] });
    assert.is(await world.take(2, { block: blockOf(0), kind }), NOTHING, 'it does not sequence it');
    const yes = (i: number) => `compact ${blockOf(i)} of 1000000 bytes`;
    assert.is(await world.take(1, { block: blockOf(0), kind }), yes(0));
    assert.is(await world.take(1, { block: blockOf(0), kind }), yes(0), 'the same once more');
    assert.match(await world.take(1, { block: blockOf(1), kind }), /does compact of block .* one such job/);
    assert.is(await world.take(4, { block: blockOf(2), kind }), yes(2));
    assert.is(
      await world.take(5, { block: blockOf(3), kind }),
      'server 2 rewrites as many blocks as it may at a time',
    );
    assert.is(await world.take(6, { block: blockOf(4), kind }), yes(4));
    world.desk.end({ ...world.ask(1, { block: blockOf(0), kind }), bytes: 1_000_000 });
    assert.is(await world.take(5, { block: blockOf(3), kind }), yes(3));
    assert.match(await world.take(4, { block: B }), /^from/, 'a copy is made all the same');
  });

  test('a compaction that fails again and again is left alone, and copies are not', async () => {
    const world = new World();
    const rich = { length: 1_000_000, deadBytes: 500_000 };
    const [block, kind] = [(B + 1) as BlockId, 'compact' as const];
    world.block({ 1: rich, 2: rich, 4: rich }, { block });
    for (let i = 0; i < JOB_ATTEMPTS_MAX; i++) {
      assert.match(await world.take(1, { block, kind }), /^compact/);
      world.desk.end({ ...world.ask(1, { block, kind }), failure: 'planted', bytes: 0 });
    }
    assert.match(await world.take(1, { block, kind }), /it failed on server 1 several times/);
    assert.not(world.desk.failures.isParked({ kind: 'replicate', block, server: world.ask(1).server }));
  });
});
