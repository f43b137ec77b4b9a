import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { type BlockId, blockId, incarnationOf, type ServerId } from '../../common/ids.ts';
import { SEALS_RUNNING_MAX } from '../../common/limits.ts';
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
const digestOf = (length: number): string => length.toString(16).padStart(64, '0');

/** A member's copy of one block: a length stands for its bytes. */
class Copy {
  length: number;
  fencedAt = 0;
  seal: SealFact | undefined;
  complete = false;
  hole = false;

  constructor(length: number) {
    this.length = length;
  }
}

class World implements Commands {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly log = captureLog();
  readonly copies = new Map<number, Map<BlockId, Copy>>();
  readonly down = new Set<number>();
  readonly calls: string[] = [];
  /** Thrown by the next call of that kind to that server, once. */
  readonly faults = new Map<string, Error>();
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
    return {
      known: true,
      validLength: copy.length,
      slots: copy.length / 100,
      provenLength: 0,
      holes: copy.hole ? [{ start: 0, end: 100 }] : [],
      clean: true,
      ...(copy.hole ? {} : { digest: digestOf(copy.length) }),
      ...(copy.seal ? { seal: copy.seal } : {}),
      members: servers(1, 2, 3),
    };
  }

  configure(): Promise<never> {
    return Promise.reject(new Error('not here'));
  }

  async seal({ id }: Member, order: Seal): Promise<SealReply> {
    await this.#call(order.complete ? 'complete' : 'seal', id);
    const copy = this.copies.get(id)?.get(order.block);
    if (!copy) throw new TfsError('NOT_FOUND', 'no such block');
    assert.ok(copy.fencedAt > 0, 'fenced before it is sealed');
    if (copy.length < order.length || copy.hole) {
      const source = order.sources.some(({ id: other }) => {
        const theirs = this.copies.get(other)?.get(order.block);
        return other !== id && theirs !== undefined && theirs.length >= order.length;
      });
      assert.ok(source || copy.length >= order.length, 'what is missing is on a source');
      copy.hole = false;
    }
    copy.length = order.length;
    copy.seal = {
      length: order.length,
      slots: order.slots,
      digest: digestOf(order.length),
      epoch: order.epoch,
    };
    copy.complete ||= order.complete;
    return { digest: digestOf(order.length), length: order.length, slots: order.slots };
  }

  async syncOps(): Promise<{ seq: number }> {
    throw new Error('not asked for here');
  }

  /** Lets everything that can run do so, for `ms` of time. */
  async pass(ms = 0): Promise<void> {
    for (let left = ms; left >= 0; left -= 100) {
      this.sealer.pump();
      await turns(8);
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
      assert.equal(world.copy(server).seal, { length: 500, slots: 5, digest: digestOf(500), epoch: 5 });
      assert.ok(world.copy(server).complete);
    }
    assert.is(
      world.calls.findIndex((call) => call.startsWith('seal')),
      3,
    );
    assert.is(world.map.facts(B)?.whole, Whole.SEALED);
    assert.is(world.map.facts(B)?.length, 500);
    assert.is(world.sealer.waiting, 0);
    assert.equal(world.sealer.stats, { sealed: 1, forgotten: 0, retries: 0, alarms: 0 });
  });

  test('without a known digest the best copy is sealed first and tells it to the others', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 500 });
    for (const server of [1, 2, 3]) world.copy(server).hole = true;
    world.sealer.enqueue(B, 'full');
    await world.pass();
    assert.equal(world.called('seal'), ['seal 1', 'seal 2', 'seal 3']);
    assert.is(world.copy(3).seal?.digest, digestOf(500));
    assert.ok(world.copy(3).complete);
  });

  test('nothing is decided while a member is away, and its return starts the seal at once', async () => {
    const world = new World();
    world.hold(B, { 1: 500, 2: 500, 3: 700 });
    world.down.add(3);
    world.sealer.enqueue(B, 'member');
    await world.pass(60_000);
    assert.equal(world.called('seal'), []);
    world.down.delete(3);
    world.sealer.serverIsBack(servers(3)[0]!);
    await turns(12);
    assert.is(world.copy(1).seal?.length, 700);
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
