import * as assert from 'uvu/assert';
import { TokenBucket } from '../../../dataserver/jobs/token-bucket.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { describe } from '../../kit/suite.ts';

describe('TokenBucket', (test) => {
  test('as many bytes as time allows, however many share them, and whatever the pieces are', async () => {
    for (const users of [1, 2, 5]) {
      const clock = new ManualClock();
      const bucket = new TokenBucket(clock, 1_000_000);
      const one = async () => {
        for (const bytes of [300_000, 700_000, 1_000, 999_000]) await bucket.take(bytes);
      };
      const tookMs = await clock.spend(Promise.all(Array.from({ length: users }, one)));
      assert.ok(Math.abs(tookMs - 2000 * users) <= 50 * users, `${users} users took ${tookMs} ms`);
    }
  });

  test('a pause does not add up to a flood', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1_000_000);
    clock.advance(3_600_000);
    const tookMs = await clock.spend(bucket.take(1_000_000));
    assert.ok(tookMs >= 700 && tookMs <= 1000, `${tookMs}`);
  });

  test('another rate counts from when it is given', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1000);
    await clock.spend(bucket.take(1000));
    bucket.bytesPerSecond = 1_000_000;
    const tookMs = await clock.spend(bucket.take(1_000_000));
    assert.ok(tookMs >= 990 && tookMs <= 1050, `${tookMs}`);
  });
});
