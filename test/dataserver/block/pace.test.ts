import * as assert from 'uvu/assert';
import type { Clock } from '../../../common/seams/clock.ts';
import { Pace } from '../../../dataserver/block/pace.ts';
import { describe } from '../../kit/suite.ts';

const PIECE_BYTES = 64 * 1024;
const MOST = 32e6;
const LEAST = 8e6;

/** A pace on a clock that passes only while somebody sleeps, and how fast it lets work go on. */
function world(isInTheWay?: () => boolean, firstBytesPerSecond?: number) {
  let now = 1000;
  const sleep = async (ms: number): Promise<void> => {
    now += ms;
  };
  const clock = { monotonic: () => now, sleep } as unknown as Clock;
  const pace = new Pace(
    clock,
    MOST,
    isInTheWay && { isInTheWay, leastBytesPerSecond: LEAST, firstBytesPerSecond },
  );
  const rateOver = async (ms: number): Promise<number> => {
    const startedAt = now;
    let bytes = 0;
    for (; now - startedAt < ms; bytes += PIECE_BYTES) await pace.spend(PIECE_BYTES);
    return (bytes * 1000) / (now - startedAt);
  };
  return { rateOver, pass: (ms: number) => sleep(ms) };
}

const isAbout = (rate: number, wanted: number): boolean => Math.abs(rate / wanted - 1) < 0.1;

describe('the pace of a long work', (test) => {
  test('it keeps to its rate', async () => {
    const { rateOver } = world();
    assert.ok(isAbout(await rateOver(5000), MOST));
  });

  test('the next one begins as the last one went', async () => {
    const { rateOver } = world(() => false, LEAST);
    const first = await rateOver(200);
    assert.ok(isAbout(first, LEAST), `${first}`);
    await rateOver(10_000);
    assert.ok(isAbout(await rateOver(5000), MOST));
  });

  test('it slows down while others wait for it, not below the least, and finds its rate again little by little', async () => {
    let isBusy = false;
    const { rateOver, pass } = world(() => isBusy);
    assert.ok(isAbout(await rateOver(5000), MOST));
    isBusy = true;
    await rateOver(1000);
    const slow = await rateOver(10_000);
    assert.ok(isAbout(slow, LEAST), `${slow}`);
    isBusy = false;
    const soon = await rateOver(500);
    assert.ok(soon > LEAST && soon < MOST / 2, `${soon}: little by little`);
    await rateOver(10_000);
    assert.ok(isAbout(await rateOver(5000), MOST));
    await pass(60_000);
    assert.ok((await rateOver(1000)) < 1.3 * MOST, 'what it was late is not made up for');
  });
});
