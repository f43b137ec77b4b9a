import * as assert from 'uvu/assert';
import {
  OutstandingPurges,
  type Purge,
  purgeBackoffMs,
  purgeId,
} from '../../../../client/gateway/purge/outstanding.ts';
import { PURGE_ATTEMPTS_MAX, PURGE_GIVEN_UP_MS } from '../../../../common/limits.ts';
import { describe } from '../../../kit/suite.ts';

const purge = (i: number, cache = 'edge'): Purge => ({
  cache,
  name: `T1${String(i).padStart(16, '0')}`,
  reason: 'delete',
  atMs: 1000 + i,
});

describe('outstanding purges', (test) => {
  test('each is there once, until it is done, and then not again', () => {
    const outstanding = new OutstandingPurges(() => 0);
    assert.ok(outstanding.add(purge(1)) && outstanding.add(purge(1)) && outstanding.add(purge(2)));
    assert.is(outstanding.size, 2);
    outstanding.done(purgeId(purge(1)));
    assert.ok(outstanding.add(purge(1)), 'it has its place: among what is done');
    assert.is(outstanding.size, 1);
    assert.ok(outstanding.isDone(purgeId(purge(1))));
    const later = { ...purge(1), atMs: 5000 };
    outstanding.add(later);
    assert.is(outstanding.size, 2, 'another change of the same name is another purge');
  });

  test('has a bound, and says when it is reached', () => {
    const outstanding = new OutstandingPurges(() => 0, 3);
    assert.equal(
      [1, 2, 3, 4].map((i) => outstanding.add(purge(i))),
      [true, true, true, false],
    );
    assert.ok(outstanding.add(purge(2)), 'it is there already');
    outstanding.done(purgeId(purge(1)));
    assert.ok(outstanding.add(purge(4)));
  });

  test('those of a cache that wait longest go first, and what is in the queue is left there for a while', () => {
    const outstanding = new OutstandingPurges(() => 0);
    for (let i = 0; i < 6; i++) outstanding.add(purge(i, i % 2 === 0 ? 'edge' : 'hook'));
    const names = (found: readonly Purge[]) => found.map(({ atMs }) => atMs - 1000);
    const first = outstanding.toBeQueued('edge', -1, 2);
    assert.equal(names(first), [0, 2]);
    for (const one of first) one.queuedAtMs = 100;
    assert.equal(names(outstanding.toBeQueued('edge', 50, 9)), [4]);
    assert.equal(names(outstanding.toBeQueued('edge', 100, 9)), [0, 2, 4]);
    outstanding.queueIsGone();
    assert.equal(names(outstanding.toBeQueued('edge', 0, 9)), [0, 2, 4]);
  });

  test('all of them are looked up in turn, however many there are', () => {
    const outstanding = new OutstandingPurges(() => 0);
    for (let i = 0; i < 10; i++) outstanding.add(purge(i));
    const seen = [0, 1, 2, 3].map(() => outstanding.nextToCheck(4).map(({ atMs }) => atMs - 1000));
    assert.equal(seen, [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
      [0, 1, 2, 3],
    ]);
  });

  test('what failed here waits, longer each time up to half a minute; after a day it is given up', () => {
    let nowMs = 0;
    const outstanding = new OutstandingPurges(() => nowMs);
    outstanding.add(purge(1));
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      const [due] = outstanding.due('edge', nowMs, 9);
      outstanding.failed(due!.id);
      assert.is(outstanding.due('edge', nowMs, 9).length, 0);
      waits.push(due!.dueAtMs - nowMs);
      nowMs = due!.dueAtMs;
    }
    assert.equal(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    let allMs = 0;
    for (let attempts = 1; attempts < PURGE_ATTEMPTS_MAX; attempts++) allMs += purgeBackoffMs(attempts);
    assert.ok(allMs > 0.99 * PURGE_GIVEN_UP_MS, 'a job in the queue is tried as long');
    nowMs = PURGE_GIVEN_UP_MS;
    outstanding.add(purge(2));
    assert.is(outstanding.takeLapsed().length, 0);
    nowMs++;
    assert.equal(
      outstanding.takeLapsed().map(({ name }) => name),
      [purge(1).name],
    );
    assert.is(outstanding.size, 1);
  });
});
