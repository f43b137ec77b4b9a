import * as assert from 'uvu/assert';
import { CUT_OFF_MS_MAX } from '../../common/limits.ts';
import {
  type Election,
  type ElectionEffect,
  type ElectionEvent,
  newElection,
  type PeerSight,
  step,
} from '../../nameserver/election.ts';
import { describe } from '../kit/suite.ts';

const GRANTED: ElectionEvent = { kind: 'lock', answer: 'granted' };
const HELD: ElectionEvent = { kind: 'lock', answer: 'held' };
const DOWN: ElectionEvent = { kind: 'lock', answer: 'down' };
const SILENT: ElectionEvent = { kind: 'peer', answer: 'silent' };
const peer = (leads: boolean, able = true): ElectionEvent => ({
  kind: 'peer',
  answer: { leads, able } satisfies PeerSight,
});

/** A machine with a clock, told one event after the other. */
class Machine {
  state: Election;
  nowMs = 1000;
  isAble = true;

  constructor({ nameserver = 0, isAlone = false } = {}) {
    this.state = newElection({ nameserver, isAlone, nowMs: this.nowMs });
  }

  at(event: ElectionEvent, afterMs = 0): readonly ElectionEffect[] {
    this.nowMs += afterMs;
    const { next, effects } = step(this.state, event, { nowMs: this.nowMs, isAble: this.isAble });
    this.state = next;
    return effects;
  }

  tick(afterMs = 250): readonly ElectionEffect[] {
    return this.at({ kind: 'tick' }, afterMs);
  }

  lead(): this {
    this.tick();
    this.at(GRANTED);
    this.at(SILENT);
    this.at({ kind: 'drawn' });
    assert.is(this.state.role, 'leading');
    return this;
  }

  /** Ticks with the store down and this answer of the other one, until it draws. @returns after how long */
  patience(answer: ElectionEvent, msMax = 200_000): number {
    const since = this.nowMs;
    while (this.nowMs - since < msMax) {
      this.tick();
      this.at(DOWN);
      if (this.at(answer).includes('draw')) return this.nowMs - since;
    }
    return Number.POSITIVE_INFINITY;
  }
}

describe('election', (test) => {
  test('the lock, a silent peer, a stored epoch: then it leads, and says so', () => {
    const machine = new Machine();
    assert.equal(machine.tick(), ['take lock']);
    assert.equal(machine.tick(), [], 'one question at a time');
    assert.equal(machine.at(GRANTED), ['ask peer']);
    assert.equal(machine.at(SILENT), ['draw']);
    assert.equal(machine.at({ kind: 'drawn' }), ['lead', 'tell peer']);
    assert.is(machine.state.role, 'leading');
  });

  test('a leader renews the lock, and leads on when it is lost, held by another, or the store is down', () => {
    const machine = new Machine().lead();
    for (const answer of [GRANTED, HELD, DOWN, HELD, DOWN]) {
      assert.ok(machine.tick().includes('take lock'));
      assert.equal(machine.at(answer), []);
      assert.is(machine.state.role, 'leading');
    }
    assert.is(machine.patience(SILENT, 20_000), Number.POSITIVE_INFINITY);
    assert.is(machine.state.role, 'leading');
  });

  test('a leader tells the other one once a second', () => {
    const machine = new Machine().lead();
    const told: number[] = [];
    for (let i = 1; i <= 12; i++) if (machine.tick().includes('tell peer')) told.push(i);
    assert.equal(told, [4, 8, 12]);
  });

  test('a leader that is cut off from the DataServers hands over to one that is not', () => {
    const machine = new Machine().lead();
    machine.isAble = false;
    for (let ms = 250; ms < 3000; ms += 250) {
      assert.ok(machine.tick().includes('tell peer'), 'it asks at once and again');
      assert.equal(machine.at(peer(false)), [], 'it may be about to hear them');
    }
    machine.tick();
    for (const answer of [SILENT, peer(false, false), peer(true)]) assert.equal(machine.at(answer), []);
    assert.equal(machine.at(peer(false)), ['resign', 'hand over', 'release lock']);
    assert.is(machine.state.role, 'standby');
    machine.tick();
    machine.at(GRANTED);
    assert.equal(machine.at(peer(false)), ['release lock'], 'it is about to lead');
    const able = new Machine().lead();
    able.tick(4000);
    assert.equal(able.at(peer(false)), []);
    able.isAble = false;
    for (let ms = 0; ms < 1500; ms += 250) {
      able.tick();
      assert.equal(able.at(peer(false)), [], 'for a moment only');
    }
    able.tick();
    assert.ok(able.at(peer(false)).includes('hand over'));
  });

  test('a standby that gets the lock gives it back to a leader that is able', () => {
    const machine = new Machine({ nameserver: 1 });
    for (let i = 0; i < 20; i++) {
      assert.equal(machine.tick(), ['take lock']);
      assert.equal(machine.at(GRANTED), ['ask peer']);
      assert.equal(machine.at(peer(true)), ['release lock']);
      assert.is(machine.state.role, 'standby');
    }
  });

  test('a leader that cannot do its work is replaced by one that can, and by no other', () => {
    const machine = new Machine({ nameserver: 1 });
    machine.isAble = false;
    machine.tick();
    machine.at(GRANTED);
    assert.equal(machine.at(peer(true, false)), ['release lock']);
    machine.isAble = true;
    machine.tick();
    machine.at(GRANTED);
    assert.equal(machine.at(peer(true, false)), ['draw']);
  });

  test('just after its start it lets the other one go first, if that one knows more, but not for ever', () => {
    const machine = new Machine();
    machine.isAble = false;
    for (let ms = 250; ms < 3000; ms += 250) {
      machine.tick();
      machine.at(GRANTED);
      assert.equal(machine.at(peer(false)), ['release lock'], `${ms} ms`);
    }
    machine.tick();
    machine.at(GRANTED);
    assert.equal(machine.at(peer(false)), ['draw']);
  });

  test('without a store and a leader in sight: NameServer 0 after 3 s, 1 after 6 s', () => {
    for (const answer of [SILENT, peer(false)]) {
      assert.is(new Machine().patience(answer), 3000);
      assert.is(new Machine({ nameserver: 1 }).patience(answer), 6000);
    }
  });

  test('without a store a leader in sight is left alone, and so is one that holds the lock unseen', () => {
    assert.is(new Machine().patience(peer(true, false)), Number.POSITIVE_INFINITY);
    const machine = new Machine();
    for (let i = 0; i < 100; i++) {
      machine.tick();
      assert.equal(machine.at(HELD), []);
    }
    assert.is(machine.patience(SILENT), 3000, 'counted from when the store last answered');
  });

  test('a process that was stopped does not count that time', () => {
    const machine = new Machine();
    machine.tick(60_000);
    machine.at(DOWN);
    assert.equal(machine.at(SILENT), []);
    assert.is(machine.patience(SILENT), 3000);
  });

  test('two that cannot see each other take turns ever more seldom; a store that answers ends that', () => {
    const machine = new Machine();
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      waits.push(machine.patience(SILENT));
      machine.at({ kind: 'drawn' });
      assert.equal(machine.at({ kind: 'deposed' }), ['resign', 'release lock']);
    }
    assert.equal(waits, [3000, 6000, 12_000, 24_000, 48_000, 60_000, 60_000]);
    machine.tick();
    machine.at(HELD);
    assert.is(machine.patience(SILENT), 3000);
  });

  test('deposed: it follows, and is elected again only as anyone else', () => {
    const machine = new Machine().lead();
    assert.equal(machine.at({ kind: 'deposed' }), ['resign', 'release lock']);
    assert.is(machine.state.role, 'standby');
    assert.equal(machine.at({ kind: 'deposed' }), [], 'twice is once');
    assert.equal(machine.tick(), ['take lock']);
    machine.at(GRANTED);
    assert.equal(machine.at(peer(true)), ['release lock']);
    machine.tick();
    machine.at(GRANTED);
    assert.equal(machine.at(SILENT), ['draw']);
  });

  test('handed over or ordered: it leads without lock and questions', () => {
    const machine = new Machine({ nameserver: 1 });
    assert.equal(machine.at({ kind: 'lead' }), ['draw']);
    assert.equal(machine.at({ kind: 'lead' }), [], 'once');
    assert.equal(machine.tick(), ['take lock'], 'the lock is asked for all the same');
    assert.equal(machine.at(HELD), []);
    assert.equal(machine.at({ kind: 'drawn' }), ['lead', 'tell peer']);
    assert.equal(machine.at({ kind: 'lead' }), []);
    const asking = new Machine();
    asking.tick();
    asking.at(GRANTED);
    assert.equal(asking.at({ kind: 'lead' }), ['draw']);
    assert.equal(asking.at(peer(true)), [], 'the answer comes too late');
  });

  test('an epoch that cannot be stored: the other one gets its chance', () => {
    const machine = new Machine();
    machine.tick();
    machine.at(GRANTED);
    machine.at(SILENT);
    assert.equal(machine.at({ kind: 'not drawn' }), ['release lock']);
    assert.equal(machine.tick(), []);
    assert.equal(machine.tick(250), []);
    assert.equal(machine.tick(500), ['take lock']);
  });

  test('one that is cut off from the other one, too, lets the lock go: once, and asks for it again later', () => {
    const machine = new Machine().lead();
    const passes = (ms: number) => {
      const effects = new Set<ElectionEffect>();
      for (let left = ms; left > 0; left -= 250)
        for (const effect of [...machine.tick(), ...machine.at(HELD), ...machine.at(SILENT)])
          effects.add(effect);
      return effects;
    };
    assert.not(passes(10_000).has('resign'), 'as long as it sees the DataServers the other one may be dead');
    machine.isAble = false;
    assert.not(passes(CUT_OFF_MS_MAX).has('resign'));
    machine.isAble = true;
    passes(250);
    machine.isAble = false;
    const effects = passes(CUT_OFF_MS_MAX + 250);
    assert.ok(effects.has('resign') && effects.has('release lock') && !effects.has('hand over'));
    assert.is(machine.state.role, 'standby');
    assert.equal(machine.at(GRANTED), ['release lock'], 'a renewal that was on its way');
    assert.not(passes(CUT_OFF_MS_MAX - 500).has('take lock'), 'the other one has all the time it needs');
    assert.ok(passes(750).has('take lock'));
    // It does not: nobody else is there to lead.
    machine.at(GRANTED);
    machine.at(SILENT);
    machine.at({ kind: 'drawn' });
    assert.not(
      passes(10 * CUT_OFF_MS_MAX).has('resign'),
      'it was not able in this reign, and nobody else is',
    );
  });

  test('stopped: hands over, and gives back a lock that comes late', () => {
    const machine = new Machine().lead();
    machine.tick();
    assert.equal(machine.at({ kind: 'stop' }), ['resign', 'hand over', 'release lock']);
    assert.equal(machine.at(GRANTED), ['release lock']);
    for (const event of [{ kind: 'tick' }, { kind: 'lead' }, { kind: 'drawn' }, SILENT] as ElectionEvent[])
      assert.equal(machine.at(event), []);
    const standby = new Machine();
    standby.tick();
    standby.at(HELD);
    assert.equal(standby.at({ kind: 'stop' }), []);
  });

  test('the only one leads at once, also after it was deposed, and asks nobody', () => {
    const machine = new Machine({ isAlone: true });
    assert.equal(machine.tick(0), ['draw']);
    assert.equal(machine.at({ kind: 'drawn' }), ['lead']);
    assert.equal(machine.tick(), []);
    assert.equal(machine.at({ kind: 'deposed' }), ['resign', 'draw']);
    assert.equal(machine.at({ kind: 'not drawn' }), []);
    assert.equal(machine.tick(), []);
    assert.equal(machine.tick(750), ['draw']);
    machine.at({ kind: 'drawn' });
    assert.equal(machine.at({ kind: 'stop' }), ['resign']);
  });
});
