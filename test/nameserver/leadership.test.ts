import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { LOCK_EVERY_MS } from '../../common/limits.ts';
import type { PeerState, PeerStateReply, Reign } from '../../common/wire/control.ts';
import { Leadership } from '../../nameserver/leadership.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { ReignKeeper } from '../../nameserver/reign.ts';
import { type CaptureLog, captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { MemoryLockStore } from '../kit/memory-lock-store.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { reignOf } from './messages.ts';

/** One NameServer's leadership; the other one says what a test makes it say. */
class World {
  readonly clock = new ManualClock();
  readonly lock = new MemoryLockStore(this.clock);
  readonly medium = new MemoryKvMedium();
  readonly log: CaptureLog = captureLog();
  /** Undefined: silent. */
  peer: PeerStateReply | undefined;
  readonly told: PeerState[] = [];
  readonly handedOver: Reign[] = [];
  isAble = true;
  begun = 0;
  /** Awaited before an epoch is stored. */
  storing: Promise<void> = Promise.resolve();
  keeper!: ReignKeeper;
  leadership!: Leadership;

  static async open({ isAlone = false } = {}): Promise<World> {
    const world = new World();
    const kv = await world.medium.open();
    const batch = kv.batch.bind(kv);
    kv.batch = async (...args) => {
      await world.storing;
      return batch(...args);
    };
    world.keeper = await ReignKeeper.open(new NameStore(kv), { nameserver: 0, log: world.log });
    const other = {
      state: async (mine: PeerState) => {
        world.told.push(mine);
        if (world.peer === undefined) throw new TfsError('DEADLINE', 'silent');
        return world.peer;
      },
      handOver: async ({ reign }: { reign: Reign }) => void world.handedOver.push(reign),
    };
    world.leadership = new Leadership({
      nameserver: 0,
      keeper: world.keeper,
      clock: world.clock,
      log: world.log,
      rival: isAlone ? undefined : { lock: world.lock, other, owner: '0 this life' },
      isAble: () => world.isAble,
    });
    await world.leadership.start(() => world.begun++);
    await turns(4);
    return world;
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= LOCK_EVERY_MS) {
      this.clock.advance(Math.min(left, LOCK_EVERY_MS));
      await turns(4);
    }
  }
}

const refusal = (reign: Reign): TfsError =>
  new TfsError('STALE_EPOCH', 'over', { details: { epoch: reign.epoch, nameserver: reign.nameserver } });

describe('leadership', (test) => {
  test('a refused command ends the reign; a failed one, and one refused for other reasons, do not', async () => {
    const { leadership } = await World.open();
    assert.equal(leadership.reign, reignOf(1));
    leadership.refused(new Error('broken'));
    leadership.refused(new TfsError('CONNECTION_LOST', 'gone'));
    leadership.refused(new TfsError('STALE_EPOCH', 'a version of a block', { details: { epoch: 9, n: 1 } }));
    leadership.refused(refusal(reignOf(1)));
    assert.equal(leadership.reign, reignOf(1));
    leadership.refused(refusal(reignOf(7, 1)));
    assert.is(leadership.reign, undefined);
    assert.equal(leadership.highest, reignOf(7, 1));
    assert.throws(() => leadership.require(), /does not lead: ask the other one/);
  });

  test('a promise ends it when it is higher, or equal and of a life before', async () => {
    for (const [promise, isOwn, ends] of [
      [reignOf(1), true, false],
      [reignOf(0, 1), false, false],
      [reignOf(1), false, true],
      [reignOf(1, 1), true, true],
      [reignOf(2), true, true],
    ] as const) {
      const { leadership } = await World.open();
      leadership.shown(promise, isOwn);
      assert.is(leadership.reign === undefined, ends, JSON.stringify(promise));
    }
  });

  test('it may lead again, above what ended it', async () => {
    const world = await World.open();
    world.leadership.shown(reignOf(58, 1), true);
    await world.pass(500);
    assert.equal(world.leadership.reign, reignOf(59));
    assert.is(world.begun, 2);
  });

  test('what is heard while an epoch is stored raises it before anyone sees it', async () => {
    const world = await World.open({ isAlone: true });
    let stored: () => void = () => undefined;
    world.storing = new Promise((resolve) => {
      stored = resolve;
    });
    world.leadership.shown(reignOf(5), true);
    await turns(4);
    world.leadership.shown(reignOf(10, 1), true);
    assert.is(world.leadership.reign, undefined);
    stored();
    await turns(8);
    assert.equal(world.leadership.reign, reignOf(11));
  });

  test('an epoch that cannot be stored is not used; the only NameServer does not start without', async () => {
    const world = await World.open();
    world.medium.failWrites = new TfsError('DISK_FULL', 'planted');
    world.leadership.shown(reignOf(5), true);
    await world.pass(500);
    assert.is(world.leadership.reign, undefined);
    assert.is(world.lock.holder, undefined, 'the other one may try');
    assert.ok(world.log.lines.some(({ message }) => /could not store its epoch/.test(message)));
  });

  test('the other one asks and tells: the higher reign stays', async () => {
    const { leadership, isAble } = await World.open();
    const ask = { nameserver: 1, reign: reignOf(0, 1), leads: true };
    assert.equal(leadership.peerState(ask), { reign: reignOf(1), leads: true, able: isAble });
    assert.equal(leadership.peerState({ ...ask, reign: reignOf(4, 1), leads: false }).leads, true);
    assert.equal(leadership.peerState({ ...ask, reign: reignOf(4, 1) }), {
      reign: reignOf(4, 1),
      leads: false,
      able: isAble,
    });
  });

  test('a leader that is told by the other one, when it tells it, that there is a higher reign', async () => {
    const world = await World.open();
    world.peer = { reign: reignOf(8, 1), leads: true, able: true };
    await world.pass(1000);
    assert.is(world.leadership.reign, undefined);
    assert.ok(world.told.some(({ leads, reign }) => leads && reign.epoch === 1));
  });

  test('handed over: it leads above the old reign, but not at the word of one that was deposed', async () => {
    const world = await World.open();
    world.peer = { reign: reignOf(4, 1), leads: true, able: true };
    world.leadership.peerState({ nameserver: 1, reign: reignOf(4, 1), leads: true });
    await world.pass(500);
    assert.equal(await world.leadership.handedOver({ nameserver: 1, reign: reignOf(3, 1) }), {
      reign: reignOf(4, 1),
      leads: false,
    });
    assert.equal(await world.leadership.handedOver({ nameserver: 1, reign: reignOf(4, 1) }), {
      reign: reignOf(5),
      leads: true,
    });
  });

  test('it stops: commands nothing, hands over what it had, frees the lock', async () => {
    const world = await World.open();
    const closing = world.leadership.close();
    assert.is(world.leadership.reign, undefined, 'at once');
    await closing;
    assert.equal(world.handedOver, [reignOf(1)]);
    assert.is(world.lock.holder, undefined);
    assert.is(world.clock.pending, 0);
    await world.pass(10_000);
    assert.is(world.leadership.reign, undefined);
  });

  test('the lock of the life before is not its own', async () => {
    const world = await World.open();
    await world.lock.release('0 this life');
    await world.lock.take({ owner: '0 another life', ttlMs: 5000, epoch: 40 });
    world.leadership.shown(reignOf(2, 1), true);
    await world.pass(4000);
    assert.is(world.leadership.reign, undefined);
    await world.pass(1500);
    assert.equal(world.leadership.reign, reignOf(41), 'above what the store remembers');
  });
});
