import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { type BlockId, epochOf, incarnationOf, type ServerId, type Slot } from '../../common/ids.ts';
import { COMPACT_RETRY_MS_MIN, NOTED_ERASURES_SLOTS_MAX } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { ErasedSlot, TracesCleared } from '../../common/wire/erase.ts';
import type { BlockFacts } from '../../nameserver/block-facts.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { Erasure } from '../../nameserver/erasure.ts';
import { ErasureList } from '../../nameserver/erasure-list.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';

const BLOCK = 0x2_0000 as BlockId;
const REIGN = { epoch: epochOf(3), nameserver: 0 };
const slot = (n: number, aliases = 0): ErasedSlot => ({ slot: n as Slot, aliases });
const NOTHING_LEFT: TracesCleared = { holds: [], left: [], removed: 0 };

/** A leader over servers 1, 2, 3, of which 4 was removed; what compaction and servers do the test says. */
class World {
  readonly clock = new ManualClock();
  readonly list = new ErasureList(this.clock);
  whole: Whole = Whole.SEALED;
  leads = true;
  queued = false;
  paused = false;
  readonly away = new Set<number>();
  readonly sealed: BlockId[] = [];
  readonly erased: (readonly ErasedSlot[])[] = [];
  compacts: () => Promise<Slot[]> = async () => [];
  clears: (server: number) => Promise<TracesCleared> = async () => NOTHING_LEFT;
  readonly erasure = new Erasure({
    map: { facts: (block) => (block === BLOCK ? ({ whole: this.whole } as BlockFacts) : undefined) },
    members: {
      known: [1, 2, 3] as ServerId[],
      removed: [4] as ServerId[],
      reachable: (id) =>
        this.away.has(id)
          ? undefined
          : { id, incarnation: incarnationOf(1), address: { host: 'h', port: Number(id) } },
    },
    compaction: {
      erase: async (_, slots) => {
        this.erased.push(slots);
        return { generation: 1, freedBytes: 8, kept: await this.compacts() };
      },
    },
    list: this.list,
    commands: { clear: ({ id }) => this.clears(id) },
    log: silentLog,
    requireReign: () => {
      if (!this.leads) throw new TfsError('NOT_LEADER', 'it does not lead');
      return REIGN;
    },
    isLed: () => this.leads,
    isQueued: () => this.queued,
    isPaused: () => this.paused,
    seal: (block) => void this.sealed.push(block),
  });
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

describe('erasing on the leader', (test) => {
  test('an open block is sealed first, and what is kept is told and forgotten', async () => {
    const world = new World();
    world.whole = Whole.OPEN;
    assert.is(await codeOf(world.erasure.erase({ block: BLOCK, slots: [slot(1)] })), 'UNAVAILABLE');
    assert.equal(world.sealed, [BLOCK]);
    assert.equal(world.erased, []);
    world.whole = Whole.SEALED;
    world.compacts = async () => [1 as Slot];
    assert.equal(await world.erasure.erase({ block: BLOCK, slots: [slot(1)] }), { kept: [1] });
    assert.is(world.list.size, 0, 'somebody has to look at the list of names again');
    world.leads = false;
    assert.is(await codeOf(world.erasure.erase({ block: BLOCK, slots: [slot(1)] })), 'NOT_LEADER');
    assert.is(world.list.size, 0);
  });

  test('what could not be done is done later though nobody asks again: directly, or at the word of a job', async () => {
    const world = new World();
    const { erasure, list, clock } = world;
    world.compacts = async () => {
      throw new TfsError('UNAVAILABLE', 'a member is away');
    };
    assert.is(await codeOf(erasure.erase({ block: BLOCK, slots: [slot(1, 2)] })), 'UNAVAILABLE');
    assert.is(await codeOf(erasure.erase({ block: BLOCK, slots: [slot(5)] })), 'UNAVAILABLE');
    assert.ok(list.has(BLOCK));
    world.compacts = async () => [];
    const pumped = async () => {
      const before = world.erased.length;
      erasure.pump();
      await turns(5);
      return world.erased.length - before;
    };
    assert.is(await pumped(), 0, 'not at once');
    clock.advance(COMPACT_RETRY_MS_MIN + 1);
    world.queued = true;
    assert.is(await pumped(), 0, 'the queue brings it');
    assert.equal(
      await erasure.goOn(7 as BlockId),
      { generation: 0, freedBytes: 0 },
      'a job is never trusted',
    );
    world.queued = false;
    world.paused = true;
    assert.is(await pumped(), 0);
    world.paused = false;
    world.leads = false;
    assert.is(await pumped(), 0);
    world.leads = true;
    assert.is(await pumped(), 1);
    assert.equal(world.erased.at(-1), [slot(1, 2), slot(5)]);
    assert.is(list.size, 0);
    assert.equal(await erasure.goOn(BLOCK), { generation: 0, freedBytes: 0 }, 'the job that comes late');
  });

  test('every server that was ever known is accounted for', async () => {
    const world = new World();
    world.away.add(2);
    world.clears = async (server) => {
      if (server === 3) throw new TfsError('READ_ONLY', 'the disk only reads');
      return { ...NOTHING_LEFT, holds: [BLOCK] };
    };
    const ask = { sha1: 'ab'.repeat(20), blocks: [{ block: BLOCK, slots: [1 as Slot] }] };
    const { servers } = await world.erasure.clearTraces(ask);
    assert.equal(
      servers.map(({ server, isRemoved, cleared, failure }) => [server, isRemoved, cleared?.holds, failure]),
      [
        [1, false, [BLOCK], undefined],
        [2, false, undefined, 'it does not answer'],
        [3, false, undefined, 'the disk only reads'],
        [4, true, undefined, 'it was taken out of the cluster'],
      ],
    );
    world.leads = false;
    assert.is(await codeOf(world.erasure.clearTraces(ask)), 'NOT_LEADER');
  });

  test('what is remembered is bounded', () => {
    const list = new ErasureList(new ManualClock());
    const many = Array.from({ length: NOTED_ERASURES_SLOTS_MAX }, (_, i) => slot(i));
    list.note(1 as BlockId, many.slice(1));
    list.note(2 as BlockId, many.slice(0, 2));
    assert.not.ok(list.has(2 as BlockId), 'no room: whoever asked asks again');
    list.note(3 as BlockId, many.slice(0, 1));
    assert.ok(list.has(3 as BlockId));
    assert.is(list.note(3 as BlockId, many.slice(1, 2)).length, 2);
    assert.is(list.of(3 as BlockId)!.length, 1, 'what was noted before stays');
    list.end(1 as BlockId);
    list.note(2 as BlockId, many.slice(0, 2));
    assert.is(list.size, 2);
  });

  test('what there is no room to remember is erased all the same', async () => {
    const world = new World();
    world.list.note(
      1 as BlockId,
      Array.from({ length: NOTED_ERASURES_SLOTS_MAX }, (_, i) => slot(i)),
    );
    await world.erasure.erase({ block: BLOCK, slots: [slot(4), slot(7)] });
    assert.equal(world.erased, [[slot(4), slot(7)]]);
  });
});
