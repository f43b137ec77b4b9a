import * as assert from 'uvu/assert';
import type { Millis } from '../../../common/ids.ts';
import { SCRUB_BYTES_PER_SECOND_MIN, SCRUB_REST_MS_MAX, SCRUB_REST_MS_MIN } from '../../../common/limits.ts';
import { Meter } from '../../../dataserver/scrub/meter.ts';
import { Bucket, disturbs, rateFor, restMs } from '../../../dataserver/scrub/pace.ts';
import { ReadClock } from '../../../dataserver/scrub/read-times.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { describe } from '../../kit/suite.ts';

const WEEK_MS = 7 * 24 * 3600 * 1000;
const TB = 1e12;
const MOST = 32e6;

describe('the pace of a scrub', (test) => {
  test('a large disk is read in time, with a tenth of it to spare; a small one not too slowly, a late one not too fast', () => {
    const rate = rateFor(4 * TB, 0, WEEK_MS, MOST);
    assert.ok(Math.abs((rate * WEEK_MS * 0.9) / 1000 - 4 * TB) < 1e6, `${rate}`);
    assert.ok(rateFor(3 * TB, WEEK_MS / 2, WEEK_MS, MOST) > rate, 'what is left has less time');
    assert.is(rateFor(1e9, 0, WEEK_MS, MOST), SCRUB_BYTES_PER_SECOND_MIN);
    assert.is(rateFor(0, 0, WEEK_MS, MOST), SCRUB_BYTES_PER_SECOND_MIN);
    for (const sinceMs of [0.95 * WEEK_MS, WEEK_MS, 10 * WEEK_MS])
      assert.is(rateFor(1e9, sinceMs, WEEK_MS, MOST), MOST);
  });

  test('the bucket lets bytes through at the rate, and makes up for nothing', () => {
    const bucket = new Bucket();
    let now = 1000;
    let waited = 0;
    for (let i = 0; i < 10; i++) {
      const waitMs = bucket.take(100, 1000, now);
      waited += waitMs;
      now += waitMs;
    }
    assert.is(waited, 900, 'the first piece at once, nine tenths of a second for nine more');
    assert.is(bucket.take(100, 1000, now + 60_000), 0);
    assert.is(bucket.take(100, 1000, now + 60_000), 100, 'the minute without any is not made up for');
  });

  test('reads disturbed are reads slower by a quarter, and by more than noise', () => {
    assert.not(disturbs({ quietMs: undefined, besideMs: 100 }));
    assert.not(disturbs({ quietMs: 1, besideMs: undefined }));
    assert.not(disturbs({ quietMs: 10, besideMs: 12 }));
    assert.ok(disturbs({ quietMs: 10, besideMs: 13 }));
    assert.not(disturbs({ quietMs: 0.1, besideMs: 0.5 }));
    assert.ok(disturbs({ quietMs: 0.1, besideMs: 0.7 }));
  });

  test('it rests longer and longer while it disturbs, and finds its way back', () => {
    const slow = { quietMs: 1, besideMs: 50 };
    const fine = { quietMs: 1, besideMs: 1 };
    let rest = 0;
    const seen: number[] = [];
    for (let i = 0; i < 20; i++) {
      rest = restMs(rest, slow);
      seen.push(rest);
    }
    assert.is(seen[0], SCRUB_REST_MS_MIN);
    assert.ok(seen.every((ms, i) => i === 0 || ms >= seen[i - 1]!));
    assert.is(rest, SCRUB_REST_MS_MAX);
    let steps = 0;
    for (; rest > 0; steps++) rest = restMs(rest, fine);
    assert.ok(steps > 10 && steps < 60, `${steps}: little by little`);
    assert.is(restMs(0, { quietMs: undefined, besideMs: undefined }), 0, 'nobody reads, nobody is disturbed');
  });

  test('reads are told apart by whether a piece was being read meanwhile', async () => {
    const clock = new ManualClock();
    const reads = new ReadClock(clock);
    const read = (ms: number): void => {
      const begunAtMs = reads.begin();
      clock.advance(ms);
      reads.end(begunAtMs);
    };
    for (let i = 0; i < 49; i++) read(1);
    assert.is(reads.times.quietMs, undefined, 'too few to tell');
    for (let i = 0; i < 60; i++) read(1);
    read(90);
    assert.equal(reads.times, { quietMs: 1, besideMs: undefined }, 'one in a hundred is none of the 99');
    await reads.piece(async () => {
      for (let i = 0; i < 60; i++) read(20);
    });
    assert.equal(reads.times, { quietMs: 1, besideMs: 20 });
    const begunBefore = reads.begin();
    await reads.piece(async () => clock.advance(5));
    for (let i = 0; i < 60; i++) reads.end(begunBefore);
    assert.is(reads.times.besideMs, 20, 'a read that began before the piece and ended after it has met it');
    clock.advance(11_000);
    assert.equal(reads.times, { quietMs: 1, besideMs: undefined }, 'what it was like a while ago');
    clock.advance(300_000);
    assert.is(reads.times.quietMs, undefined);
  });

  test('the meter tells the rate of the last seconds', () => {
    const meter = new Meter();
    for (let second = 0; second < 20; second++) meter.add(1000, second * 1000);
    assert.ok(Math.abs(meter.rate(20_000 as Millis) - 1000) < 150, `${meter.rate(20_000)}`);
    assert.is(meter.rate(31_000), 0);
  });
});
