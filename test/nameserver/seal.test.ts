import * as assert from 'uvu/assert';
import { type ErrorCode, TfsError } from '../../common/errors.ts';
import { type BlockId, blockId, incarnationOf, type ServerId } from '../../common/ids.ts';
import { SEAL_CONTRADICTED_RETRY_MS, SEAL_PATIENCE_MS, SEALS_RUNNING_MAX } from '../../common/limits.ts';
import { tunable } from '../../common/tunables.ts';
import type { FenceReply, Member, Seal, SealFact, SealReply } from '../../common/wire/control.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Whole } from '../../nameserver/block-page.ts';
import type { Commands } from '../../nameserver/commands.ts';
import { SealCoordinator } from '../../nameserver/seal.ts';
import { captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = blockId(0x2_0000);
const TIMES = { patienceMs: SEAL_PATIENCE_MS, deadMs: 2 * SEAL_PATIENCE_MS };
/** Of a block of that many bytes, with the records at these places lost. */
const digestOf = (length: number, lost: readonly number[] = []): string =>
  [length.toString(16), ...lost.map((at) => at.toString(16))].join('f').padStart(64, '0');

/** A member's copy of one block: a length stands for its bytes, in records of 100. */
class Copy {
  length: number;
  clean = true;
  provenLength = 0;
  /** Where damaged records start. */
  bad = new Set<number>();
  fencedAt = 0;
  seal: SealFact | undefined;
  complete = false;

  constructor(length: number) {
    this.length = length;
  }

  holds(at: number): boolean {
    return at < this.length && !this.bad.has(at);
  }

  badBelow(length: number): number[] {
    return [...this.bad].filter((at) => at < length).sort((a, b) => a - b);
  }
}

class World implements Commands {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly log = captureLog();
  readonly copies = new Map<number, Map<BlockId, Copy>>();
  readonly down = new Set<number>();
  readonly calls: string[] = [];
  readonly unread: string[] = [];
  /** Calls that fail, as long as they are in here. */
  readonly broken = new Set<string>();
  brokenBy: ErrorCode = 'IO';
  /** Thrown by the next call of that kind to that server, once. */
  readonly faults = new Map<string, Error>();
  writeSet = servers(1, 2, 3);
  leads = true;
  epoch = 5;
  running = 0;
  mostRunning = 0;
  readonly sealer = new SealCoordinator({
    map: this.map,
    commands: this,
    clock: this.clock,
    log: this.log,
    reign: () => (this.leads ? reignOf(this.epoch) : undefined),
    reachable: (server) => (this.down.has(server) ? undefined : memberOf(server)),
    onUnread: (block, server) => this.unread.push(`${block - B} on ${server}`),
    times: TIMES,
  });

  hold(block: BlockId, lengths: Record<number, number>, state: BlockState = BlockState.OPEN): void {
    for (const [server, length] of Object.entries(lengths)) {
      const id = servers(Number(server))[0]!;
      if (!this.copies.has(id)) this.copies.set(id, new Map());
      this.copies.get(id)!.set(block, new Copy(length));
      this.map.report(id, entryOf({ block, state, length }));
    }
  }

  copy(server: number, block: BlockId = B): Copy {
    return this.copies.get(server)!.get(block)!;
  }

  async fence(
    { id }: Member,
    { block, reign }: { block: BlockId; reign: { epoch: number } },
  ): Promise<FenceReply> {
    await this.#call('fence', id);
    const copy = this.copies.get(id)?.get(block);
    if (!copy)
      return {
        known: false,
        validLength: 0,
        slots: 0,
        provenLength: 0,
        holes: [],
        clean: false,
        members: [],
      };
    copy.fencedAt = Math.max(copy.fencedAt, reign.epoch);
    const bad = copy.badBelow(copy.length);
    return {
      known: true,
      validLength: copy.length,
      slots: copy.length / 100,
      provenLength: copy.provenLength,
      holes: bad.map((start) => ({ start, end: start + 100 })),
      clean: copy.clean,
      ...(bad.length > 0 ? {} : { digest: digestOf(copy.length) }),
      ...(copy.seal ? { seal: copy.seal } : {}),
      members: this.writeSet,
    };
  }

  configure(): Promise<never> {
    return Promise.reject(new Error('not here'));
  }

  /** As a DataServer: fills what it lacks from the sources, then seals if what is left is what was decided. */
  async seal({ id }: Member, order: Seal): Promise<SealReply> {
    await this.#call(order.complete ? 'complete' : 'seal', id);
    const copy = this.copies.get(id)?.get(order.block);
    if (!copy) throw new TfsError('NOT_FOUND', 'no such block');
    assert.ok(copy.fencedAt > 0, 'fenced before it is sealed');
    const sources = order.sources.flatMap(({ id: other }) => this.copies.get(other)?.get(order.block) ?? []);
    for (let at = 0; at < order.length; at += 100)
      if (sources.some((source) => source.holds(at))) copy.bad.delete(at);
      else if (!copy.holds(at)) copy.bad.add(at);
    const { length, slots, epoch } = order;
    const lost = copy.badBelow(length);
    const digest = digestOf(length, lost);
    if (order.digest === undefined ? lost.length > 0 && !order.mayLose : order.digest !== digest)
      throw new TfsError('CONFLICT', 'records are missing');
    copy.length = length;
    copy.complete ||= order.complete;
    copy.seal = { length, slots, digest, epoch, complete: copy.complete, lost: lost.length };
    return { digest, length, slots, lost: lost.length };
  }

  async syncOps(): Promise<{ seq: number }> {
    throw new Error('not asked for here');
  }

  /** Lets everything that can run do so, for `ms` of time. */
  async pass(ms = 0): Promise<void> {
    for (let left = ms; left >= 0; left -= 100) {
      this.sealer.pump();
      await turns(10);
      this.clock.advance(100);
    }
  }

  called(kind: string): string[] {
    return this.calls.filter((call) => call.startsWith(kind));
  }

  async #call(kind: string, server: ServerId): Promise<void> {
    this.calls.push(`${kind} ${server}`);
    this.running++;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    await turns(1);
    this.running--;
    if (this.broken.has(`${kind} ${server}`)) throw new TfsError(this.brokenBy, 'planted');
    const fault = this.faults.get(`${kind} ${server}`);
    this.faults.delete(`${kind} ${server}`);
    if (fault) throw fault;
  }
}

const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });

describe('seal coordinator', (test) => {
  test('all are fenced, then sealed at the longest, then told that the seal is complete', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 400 });
    world.sealer.enqueue(B, 'full');
    await world.pass();
    for (const server of [1, 2, 3]) {
      const { length, slots, digest, epoch } = world.copy(server).seal!;
      assert.equal(
        { length, slots, digest, epoch },
        { length: 500, slots: 5, digest: digestOf(500), epoch: 5 },
      );
      assert.ok(world.copy(server).complete);
    }
    assert.is(
      world.calls.findIndex((call) => call.startsWith('seal')),
      3,
    );
    assert.is(world.map.facts(B)?.whole, Whole.SEALED);
    assert.is(world.map.facts(B)?.length, 500);
    assert.is(world.sealer.waiting, 0);
    assert.equal(world.sealer.stats, { sealed: 1, forgotten: 0, retries: 0, alarms: 0, lostRecords: 0 });
  });

  test('without a known digest the best copy is sealed first and tells it to the others', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    for (const server of [1, 2, 3]) world.copy(server).bad.add(100 * server);
    world.sealer.enqueue(B, 'full');
    await world.pass();
    assert.equal(world.called('seal'), ['seal 1', 'seal 2', 'seal 3']);
    assert.is(world.copy(3).seal?.digest, digestOf(500));
    assert.ok(world.copy(3).complete);
  });

  test('one whose disk takes no writes holds nobody up: the others are sealed, and have what it has', async () => {
    for (const isDigestKnown of [true, false]) {
      const world = new World();
      world.hold(B, { 1: 500, 2: 500, 3: 500 });
      if (!isDigestKnown) for (const server of [1, 2, 3]) world.copy(server).bad.add(100 * server);
      world.broken.add('seal 1');
      world.brokenBy = 'READ_ONLY';
      world.sealer.enqueue(B, 'io');
      await world.pass();
      assert.is(world.copy(1).seal, undefined);
      for (const server of [2, 3]) assert.is(world.copy(server).seal?.digest, digestOf(500));
      assert.equal(world.called('complete'), [], 'it is not on all of its write set');
      assert.equal([world.sealer.stats.sealed, world.sealer.waiting], [1, 1], 'it may come back');
      await world.pass(2 * tunable.sealRetryMsMax);
      assert.is(world.sealer.stats.sealed, 1);
      world.broken.clear();
      await world.pass(2 * tunable.sealRetryMsMax);
      assert.is(world.copy(1).seal?.digest, digestOf(500));
      assert.ok([1, 2, 3].every((server) => world.copy(server).complete));
      assert.is(world.sealer.waiting, 0);
    }
  });

  test('with no disk that takes writes nothing is sealed', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500 });
    for (const server of [1, 2]) world.broken.add(`seal ${server}`);
    world.brokenBy = 'READ_ONLY';
    world.sealer.enqueue(B, 'io');
    await world.pass();
    assert.equal([world.sealer.stats.sealed, world.sealer.waiting], [0, 1]);
    assert.is.not(world.map.facts(B)?.whole, Whole.SEALED);
  });

  test('a member that is away is waited for, and its return starts the seal at once', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 700 });
    world.down.add(3);
    world.sealer.enqueue(B, 'member');
    await world.pass(SEAL_PATIENCE_MS - 2000);
    assert.equal(world.called('seal'), []);
    world.down.delete(3);
    world.sealer.serverIsBack(servers(3)[0]!);
    await turns(16);
    assert.is(world.copy(1).seal?.length, 700);
  });

  test('without a member that stays away the others are sealed; it is, alike, when it is back', async () => {
    for (const [length, state] of [
      [400, BlockState.RECOVERED],
      [700, BlockState.OPEN],
    ] as const) {
      const world = new World();
      world.hold(B, { 1: 500, 2: 500, 3: length });
      world.down.add(3);
      world.sealer.enqueue(B, 'member');
      await world.pass(SEAL_PATIENCE_MS + 500);
      assert.equal([world.copy(1).seal?.length, world.copy(2).seal?.length], [500, 500]);
      assert.is(world.copy(1).complete, false, 'not on every member');
      assert.equal([world.sealer.waiting, world.sealer.stats.alarms], [0, 0]);
      assert.is(world.map.facts(B)?.whole, Whole.UNSEALED);
      world.down.delete(3);
      world.copy(3).clean = false;
      world.map.report(servers(3)[0]!, entryOf({ block: B, state, length }));
      world.sealer.enqueue(B, 'its state');
      await world.pass(200);
      for (const server of [1, 2, 3]) {
        assert.is(world.copy(server).seal?.digest, digestOf(500));
        assert.ok(world.copy(server).complete);
      }
      assert.is(world.map.facts(B)?.whole, Whole.SEALED);
    }
  });

  test('with no clean copy the missing one is waited for until it counts as dead, and that is an alarm', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 600, 3: 700 }, BlockState.RECOVERED);
    for (const server of [1, 2, 3]) world.copy(server).clean = false;
    world.down.add(3);
    world.sealer.enqueue(B, 'recovered');
    await world.pass(TIMES.deadMs - 1000);
    assert.equal(world.called('seal'), []);
    await world.pass(2000);
    assert.is(world.copy(1).seal?.length, 600);
    assert.is(world.sealer.stats.alarms, 1);
  });

  test('a wait that ends within less than the clock can tell apart is not tried again without a pause', async () => {
    const world = new World();
    // From 2^20 ms on it does not hold what it held before.
    const leastMs = 2 ** -33;
    world.clock.advance(leastMs);
    world.hold(B, { 1: 500, 2: 500, 3: 500 }, BlockState.RECOVERED);
    for (const server of [1, 2]) world.copy(server).clean = false;
    world.down.add(3);
    world.sealer.enqueue(B, 'recovered');
    await turns(20);
    world.clock.advance(TIMES.deadMs - leastMs);
    const started = world.clock.monotonic();
    assert.is(started + leastMs, started);
    world.sealer.pump();
    await turns(100);
    assert.is(world.called('fence').length, 4, 'once at the start, once now');
    await world.pass(100);
    assert.is(world.copy(1).seal?.length, 500);
  });

  test('the write set that a replica names is fenced too, and everyone who is said to have it', async () => {
    const world = new World();
    world.writeSet = servers(1, 2, 3);
    world.hold(B, { 1: 500, 2: 600, 3: 400, 4: 300 });
    world.map.forget(B);
    // A later configuration has left out the third; the fourth is a replica that belongs to nothing.
    for (const server of servers(1, 2, 4))
      world.map.report(server, entryOf({ block: B, n: 2, members: [1, 2] }));
    world.sealer.enqueue(B, 'full');
    await world.pass();
    assert.equal(world.called('fence').sort(), ['fence 1', 'fence 2', 'fence 3', 'fence 4']);
    for (const server of [1, 2, 3, 4]) assert.is(world.copy(server).seal?.length, 600);
  });

  test('a seal is complete on all members of a configuration that left out a member of the write set', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 400 });
    for (const server of servers(1, 2))
      world.map.report(server, entryOf({ block: B, n: 2, members: [1, 2] }));
    world.down.add(3);
    world.sealer.enqueue(B, 'member');
    await world.pass(SEAL_PATIENCE_MS + 500);
    assert.equal([world.copy(1).complete, world.copy(2).complete], [true, true]);
    assert.equal(world.called('complete'), ['complete 2', 'complete 1'], 'the sequencer last');
  });

  test('an empty block is sealed and nobody is told more about it', async () => {
    const world = new World();
    world.hold(B, { 1: 0, 2: 0, 3: 0 });
    world.sealer.enqueue(B, 'stop');
    await world.pass();
    assert.is(world.copy(1).seal?.length, 0);
    assert.equal(world.called('complete'), []);
  });

  test('of two SEALs all replicas get the one of the newest epoch, longer or shorter', async () => {
    for (const newer of [500, 900]) {
      const older = 1400 - newer;
      const world = new World();
      world.epoch = 9;
      world.hold(B, { 1: older, 2: newer, 3: 800 });
      const sealOf = (length: number, epoch: number): SealFact => ({
        length,
        slots: length / 100,
        digest: digestOf(length),
        epoch: reignOf(epoch).epoch,
      });
      world.copy(1).seal = sealOf(older, 4);
      world.copy(2).seal = sealOf(newer, 6);
      world.sealer.enqueue(B, 'odd');
      await world.pass();
      for (const server of [1, 2, 3]) assert.is(world.copy(server).seal?.length, newer);
      assert.is(world.sealer.stats.alarms, 0);
    }
  });

  test('a member that contradicts the seal is left as it is, with one alarm, and is not asked again and again', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 900 });
    world.copy(1).seal = { length: 500, slots: 5, digest: digestOf(500), epoch: reignOf(3).epoch };
    world.copy(3).provenLength = 800;
    world.sealer.enqueue(B, 'odd');
    await world.pass(SEAL_CONTRADICTED_RETRY_MS / 2);
    assert.is(world.copy(2).seal?.length, 500);
    assert.is(world.copy(3).seal, undefined);
    assert.is(world.copy(3).length, 900);
    assert.is(world.called('fence 3').length, 1);
    assert.equal([world.sealer.stats.alarms, world.sealer.contradicted], [1, 1]);
    assert.ok(world.sealer.isQueued(B));
    await world.pass(SEAL_CONTRADICTED_RETRY_MS);
    assert.is(world.called('fence 3').length, 2);
    assert.is(world.sealer.stats.alarms, 1, 'said once');
  });

  test('what is bad on every replica is sealed as lost, not before everyone was asked', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    for (const server of [1, 2]) {
      world.copy(server).bad.add(200);
      world.copy(server).clean = false;
    }
    world.copy(3).bad.add(300);
    world.down.add(3);
    world.sealer.enqueue(B, 'damaged');
    await world.pass(TIMES.deadMs - 1000);
    assert.equal(world.called('seal'), []);
    await world.pass(2000);
    for (const server of [1, 2]) assert.is(world.copy(server).seal?.digest, digestOf(500, [200]));
    assert.is(world.sealer.stats.lostRecords, 1);
    // It had what was given up for lost.
    world.down.delete(3);
    world.sealer.enqueue(B, 'its state');
    await world.pass(500);
    for (const server of [1, 2, 3]) assert.is(world.copy(server).seal?.digest, digestOf(500));
    assert.is(world.sealer.waiting, 0);
  });

  test('a copy that is clean and damaged does not lose a record while another member is away', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    for (const server of [1, 2]) world.copy(server).bad.add(200);
    world.down.add(3);
    world.sealer.enqueue(B, 'damaged');
    await world.pass(TIMES.deadMs / 2);
    assert.is(world.copy(1).seal, undefined);
    world.down.delete(3);
    world.sealer.serverIsBack(servers(3)[0]!);
    await world.pass(500);
    for (const server of [1, 2, 3]) assert.is(world.copy(server).seal?.digest, digestOf(500));
    assert.is(world.sealer.stats.lostRecords, 0);
  });

  test('a member that answers heartbeats and no fence is asked now and then, the others are sealed', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    world.broken.add('fence 3');
    world.sealer.enqueue(B, 'member');
    await world.pass(SEAL_PATIENCE_MS + 500);
    assert.is(world.copy(2).seal?.length, 500);
    const asked = world.called('fence 3').length;
    await world.pass(60_000);
    assert.ok(world.called('fence 3').length - asked <= 5);
    world.broken.clear();
    await world.pass(20_000);
    assert.is(world.copy(3).seal?.length, 500);
    assert.is(world.sealer.waiting, 0);
  });

  test('a replica that its disk fails to read is made of the others, as soon as they are sealed', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    world.broken.add('fence 3');
    world.sealer.enqueue(B, 'member');
    await world.pass(SEAL_PATIENCE_MS - 1000);
    assert.equal([world.unread, world.copy(2).seal], [[], undefined], 'it may be read a moment later');
    await world.pass(1500);
    assert.equal(world.unread, ['0 on 3']);
    assert.is(world.copy(2).seal?.length, 500);

    const damaged = new World();
    damaged.hold(B, { 1: 500, 2: 500, 3: 500 });
    damaged.broken.add('fence 3');
    damaged.brokenBy = 'CORRUPT';
    damaged.sealer.enqueue(B, 'member');
    await damaged.pass(SEAL_PATIENCE_MS + 500);
    assert.equal(damaged.unread, ['0 on 3'], 'its ops log is not what was written');

    const other = new World();
    other.hold(B, { 1: 500, 2: 500, 3: 500 });
    other.faults.set('fence 3', new TfsError('CONNECTION_LOST', 'planted'));
    other.down.add(3);
    other.sealer.enqueue(B, 'member');
    await other.pass(SEAL_PATIENCE_MS + 500);
    assert.equal(other.unread, [], 'one that is away');
  });

  test('any call may fail at any point: it starts again and ends in the same seal', async () => {
    for (const kind of ['fence', 'seal', 'complete'])
      for (const server of [1, 2, 3]) {
        const world = new World();
        world.hold(B, { 1: 500, 2: 600, 3: 400 });
        world.faults.set(`${kind} ${server}`, new TfsError('CONNECTION_LOST', 'planted'));
        world.sealer.enqueue(B, 'full');
        await world.pass(2000);
        assert.is(world.sealer.stats.retries, 1, `${kind} ${server}`);
        assert.is(world.sealer.waiting, 0);
        for (const each of [1, 2, 3])
          assert.equal([world.copy(each).length, world.copy(each).seal?.epoch], [600, 5]);
      }
  });

  test('a new leader finishes what an old one began, at the old length', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 900 });
    world.copy(2).fencedAt = 3;
    world.copy(2).seal = { length: 500, slots: 5, digest: digestOf(500), epoch: reignOf(3).epoch };
    world.sealer.enqueue(B, 'unfinished');
    await world.pass();
    for (const server of [1, 2, 3]) assert.is(world.copy(server).seal?.length, 500);
    assert.is(world.copy(1).seal?.epoch, 3);
    assert.equal(world.called('seal').sort(), ['seal 1', 'seal 3'], 'the second has it already');
  });

  test('a block that nobody holds is forgotten, loudly if it was there before', async () => {
    const world = new World();
    world.map.open(B, {
      version: { epoch: reignOf(5).epoch, n: 1 },
      members: servers(1, 2),
      targetReplicas: 3,
    });
    world.sealer.enqueue(B, 'nobody reports it');
    await world.pass();
    assert.is(world.map.facts(B), undefined);
    assert.equal(
      world.log.lines.filter(({ level }) => level === 'error'),
      [],
    );
    world.hold(B, { 1: 500, 2: 500 });
    for (const copies of world.copies.values()) copies.clear();
    world.sealer.enqueue(B, 'odd');
    await world.pass();
    assert.is(world.map.facts(B), undefined);
    assert.is(world.log.lines.filter(({ level }) => level === 'error').length, 1);
  });

  test('a member that does not hold the block does not keep the others from their seal', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    world.copies.get(3)!.clear();
    world.sealer.enqueue(B, 'member');
    await world.pass();
    assert.is(world.copy(1).seal?.length, 500);
    assert.not(world.copy(1).complete);
    assert.is(world.map.facts(B)?.whole, Whole.SEALED);
    assert.is(world.sealer.waiting, 0);
  });

  test('of a block the map does not know, the primary names the members', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 600, 3: 400 });
    world.map.forget(B);
    world.sealer.enqueue(B, 'full', servers(1));
    await world.pass();
    for (const server of [1, 2, 3]) assert.is(world.copy(server).seal?.length, 600);
  });

  test('nothing is commanded by one who does not lead', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    world.leads = false;
    world.sealer.enqueue(B, 'full');
    await world.pass(5000);
    assert.equal(world.calls, []);
    world.leads = true;
    await world.pass(500);
    assert.is(world.copy(1).seal?.length, 500);
  });

  test('asked for again while it ran, and gone since: nobody waits for it for ever', async () => {
    const world = new World();
    world.hold(B, { 1: 100, 2: 100, 3: 100 });
    world.sealer.enqueue(B, 'test');
    await turns(1);
    world.sealer.enqueue(B, 'again');
    for (let i = 0; world.sealer.stats.sealed === 0 && i < 200; i++) await turns(1);
    world.map.forget(B);
    world.copies.clear();
    for (let i = 0; i < 20; i++) {
      world.clock.advance(1_000);
      world.sealer.pump();
      await turns(5);
    }
    assert.is(world.sealer.stats.sealed, 1);
    assert.is(world.sealer.waiting, 0);
  });

  test('gone before its turn came: nobody waits for it for ever', async () => {
    const world = new World();
    const blocks = Array.from({ length: SEALS_RUNNING_MAX }, (_, i) => blockId(0x3_0000 + i));
    for (const block of blocks) world.hold(block, { 1: 500, 2: 500, 3: 500 }, BlockState.RECOVERED);
    world.hold(B, { 1: 500, 2: 500, 3: 500 }, BlockState.RECOVERED);
    for (const block of blocks) world.sealer.enqueue(block, 'recovered');
    world.sealer.enqueue(B, 'recovered');
    world.map.forget(B);
    await world.pass(20_000);
    assert.is(world.map.counts.sealed, SEALS_RUNNING_MAX);
    assert.is(world.sealer.waiting, 0);
  });

  test('gone while it was tried again, and named by who ended its session: nobody waits for it either', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 }, BlockState.RECOVERED);
    world.down.add(3);
    world.sealer.enqueue(B, 'io', [1, 2, 3] as ServerId[]);
    await world.pass(100);
    assert.is(world.sealer.waiting, 1);
    world.map.forget(B);
    await world.pass(20_000);
    assert.is(world.sealer.waiting, 0);
  });

  test('who leads again has not waited for anyone meanwhile', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 600, 3: 700 }, BlockState.RECOVERED);
    for (const server of [1, 2, 3]) world.copy(server).clean = false;
    world.down.add(3);
    world.sealer.enqueue(B, 'recovered');
    await world.pass(1000);
    world.leads = false;
    await world.pass(2 * TIMES.deadMs);
    world.epoch = 9;
    world.leads = true;
    await world.pass(TIMES.deadMs - 2000);
    assert.equal(world.called('seal'), []);
    await world.pass(4000);
    assert.is(world.copy(1).seal?.length, 600);
  });

  test('many at once: a bounded number, all of them in the end', async () => {
    const world = new World();
    const blocks = Array.from({ length: 100 }, (_, i) => blockId(0x2_0000 + i));
    for (const block of blocks) world.hold(block, { 1: 500, 2: 500, 3: 500 }, BlockState.RECOVERED);
    for (const block of blocks) world.sealer.enqueue(block, 'recovered');
    for (const block of blocks) world.sealer.enqueue(block, 'again');
    await world.pass(20_000);
    assert.ok(world.mostRunning <= 3 * SEALS_RUNNING_MAX);
    assert.ok(world.mostRunning > SEALS_RUNNING_MAX, 'and not one after the other');
    assert.is(world.map.counts.sealed, 100);
    assert.is(world.sealer.waiting, 0);
  });

  test('a closed coordinator starts nothing, and closing waits for what runs', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    world.sealer.enqueue(B, 'full');
    await world.sealer.close();
    assert.is(world.running, 0);
    const calls = world.calls.length;
    world.sealer.enqueue(blockId(0x2_0001), 'full', servers(1));
    await world.pass(1000);
    assert.is(world.calls.length, calls);
  });
});
