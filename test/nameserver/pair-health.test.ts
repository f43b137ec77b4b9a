import * as assert from 'uvu/assert';
import { type Incarnation, incarnationOf, type ServerId } from '../../common/ids.ts';
import {
  PAIR_FAILURES_PER_MINUTE_MAX,
  PAIR_HOLD_MS_MAX,
  PAIR_HOLD_MS_MIN,
  PAIR_RESTARTS_MAX,
} from '../../common/limits.ts';
import { PairHealth } from '../../nameserver/pair-health.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';
import { servers } from './entries.ts';

const [A, B, C] = servers(1, 2, 3) as [ServerId, ServerId, ServerId];

function open() {
  const clock = new ManualClock();
  const incarnations = new Map<ServerId, Incarnation>();
  const pairs = new PairHealth({ clock, incarnationOf: (server) => incarnations.get(server) });
  return {
    clock,
    pairs,
    restart: (server: ServerId) =>
      incarnations.set(server, incarnationOf((incarnations.get(server) ?? 0) + 1)),
    fail: (times: number, everyMs = 1000) => {
      for (let i = 0; i < times; i++) {
        pairs.failed(i % 2 === 0 ? A : B, i % 2 === 0 ? B : A);
        clock.advance(everyMs);
      }
    },
    /** How long the pair is held from now on. */
    heldMs: () => {
      let passed = 0;
      for (; pairs.isHeld(A, B); passed += 1000) clock.advance(1000);
      return passed;
    },
  };
}

describe('pairs of DataServers whose sessions fail', (test) => {
  test('a few failures in a minute, whoever was the primary, hold the pair and nobody else', () => {
    const { pairs, fail } = open();
    fail(PAIR_FAILURES_PER_MINUTE_MAX - 1);
    assert.not(pairs.isHeld(A, B));
    fail(1);
    assert.ok(pairs.isHeld(A, B) && pairs.isHeld(B, A));
    assert.not(pairs.isHeld(A, C) || pairs.isHeld(B, C));
    assert.equal([pairs.held, pairs.stats.holds], [1, 1]);
  });

  test('failures far apart do not add up', () => {
    const { pairs, fail } = open();
    fail(40, 61_000 / (PAIR_FAILURES_PER_MINUTE_MAX - 1));
    assert.is(pairs.stats.holds, 0);
  });

  test('the hold grows each time, to a bound, and starts over after a quiet time', () => {
    const { clock, fail, heldMs } = open();
    const holds: number[] = [];
    for (let i = 0; i < 5; i++) {
      fail(PAIR_FAILURES_PER_MINUTE_MAX, 0);
      holds.push(heldMs());
    }
    assert.equal(holds, [60_000, 120_000, 240_000, PAIR_HOLD_MS_MAX, PAIR_HOLD_MS_MAX]);
    clock.advance(PAIR_HOLD_MS_MAX + 1000);
    fail(PAIR_FAILURES_PER_MINUTE_MAX, 0);
    assert.is(heldMs(), PAIR_HOLD_MS_MIN);
  });

  test('a restart explains what failed before it; a server that does nothing but restart is held', () => {
    const { clock, pairs, fail, restart } = open();
    for (let i = 0; i <= PAIR_RESTARTS_MAX; i++) {
      fail(PAIR_FAILURES_PER_MINUTE_MAX, 0);
      assert.ok(pairs.isHeld(A, B));
      restart(B);
      clock.advance(1000);
      assert.is(pairs.isHeld(A, B), i === PAIR_RESTARTS_MAX);
    }
  });
});
