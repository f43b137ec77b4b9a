import * as assert from 'uvu/assert';
import { DEAD_MS } from '../../common/limits.ts';
import { AgreedTime, type ClockVote } from '../../nameserver/agreed-time.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const HOUR = 3_600_000;

/** Others whose clocks are ahead of the right time by so many hours, and the leader's by `own`. */
function timesOf(own: number, others: Record<string, number | undefined>) {
  const clock = new ManualClock();
  const rightMs = clock.now();
  const heardAtMs = clock.monotonic();
  const wall = {
    ...clock,
    monotonic: () => clock.monotonic(),
    now: () => clock.now() + own * HOUR,
  } as typeof clock;
  const votes = (): ClockVote[] =>
    Object.entries(others).map(([host, hours]) => ({
      host: host.replace(/#.*/, '') || undefined,
      leadMs: hours === undefined ? undefined : rightMs + hours * HOUR - heardAtMs,
    }));
  const time = new AgreedTime({ clock: wall, host: 'a', votes });
  const inHours = (ms: number | undefined) => ms && (ms - rightMs) / HOUR;
  return { clock, earliest: () => inHours(time.earliest()), latest: () => inHours(time.latest()) };
}

describe('agreed time', (test) => {
  test('most machines are right, whoever leads', () => {
    for (const own of [-2, 0, 5]) {
      const time = timesOf(own, { b: 0, c: 0 });
      assert.is(time.earliest(), 0, `${own}`);
      assert.is(time.latest(), 0, `${own}`);
    }
    assert.is(timesOf(0, { b: -3, c: 0 }).latest(), 0);
    assert.is(timesOf(0, { b: 7, c: 0 }).earliest(), 0);
  });

  test('one against one, two against two: dated late, over late', () => {
    for (const [own, others] of [
      [-2, { b: 0 }],
      [0, { b: -2 }],
      [-2, { b: -2, c: 0, d: 0 }],
    ] as const) {
      const time = timesOf(own, others);
      assert.is(time.latest(), 0);
      assert.is(time.earliest(), -2);
    }
  });

  test('a machine has one vote for all its disks, and its own for those beside the leader', () => {
    const time = timesOf(0, { 'b#1': 9, 'b#2': 9, 'b#3': 9, 'a#4': 9, c: 0 });
    assert.is(time.latest(), 0);
    assert.is(timesOf(1, {}).earliest(), 1, 'alone it believes itself');
  });

  test('one that has just started does not take its own clock for that of the cluster', () => {
    for (const others of [
      { b: undefined, c: undefined },
      { b: undefined },
      { '#2': undefined, '#3': undefined },
    ]) {
      const time = timesOf(-2, { 'a#1': -2, ...others });
      assert.is(time.latest(), undefined, JSON.stringify(others));
      assert.is(time.earliest(), undefined, JSON.stringify(others));
    }
    assert.is(timesOf(-2, { 'a#1': undefined }).latest(), -2, 'nobody else is known');
  });

  test('of those that were not heard yet each may be right: dated late, over late', () => {
    const three = timesOf(-2, { b: 0, c: undefined });
    assert.is(three.latest(), 0);
    assert.is(three.earliest(), -2);
    const five = timesOf(0, { b: -3, c: 1, '#4': undefined, d: undefined, 'c#5': undefined });
    assert.is(five.latest(), 1);
    assert.is(five.earliest(), -3);
  });

  test('those that come late count at once, those that never come for ten minutes', () => {
    const others: Record<string, number | undefined> = { b: undefined, c: undefined };
    const time = timesOf(-2, others);
    assert.is(time.latest(), undefined);
    others['b'] = 0;
    assert.is(time.latest(), 0);
    const gone = timesOf(-2, { b: undefined });
    assert.is(gone.latest(), undefined);
    gone.clock.advance(DEAD_MS + 1);
    assert.ok(gone.latest()! < -1);
  });

  test('goes on between two counts of the votes', () => {
    const time = timesOf(0, { b: 0, c: 0 });
    time.latest();
    time.clock.advance(500);
    assert.is(time.latest()! * HOUR, 500);
    time.clock.advance(5_000);
    assert.is(time.earliest()! * HOUR, 5_500);
  });
});
