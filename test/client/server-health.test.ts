import * as assert from 'uvu/assert';
import { ServerHealth } from '../../client/server-health.ts';
import type { ServerId } from '../../common/ids.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const ids = (...numbers: number[]) => numbers as ServerId[];
const random = { bytes: (n: number) => Buffer.alloc(n), u32: () => 0, float: () => 0.5 };
const up = () => true;

describe('server health', (test) => {
  test('a server that failed is asked last until its time is over', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    const servers = ids(1, 2, 3);
    assert.is(health.order(servers, up), servers);
    health.failed(1 as ServerId);
    assert.equal(health.order(servers, up), [2, 3, 1]);
    clock.advance(200);
    assert.equal(health.order(servers, up), [1, 2, 3]);
    health.succeeded(1 as ServerId);
    assert.is(health.order(servers, up), servers);
  });

  test('one request finds out, the others go on avoiding it', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    health.failed(1 as ServerId);
    clock.advance(200);
    assert.equal(health.order(ids(1, 2, 3), up), [1, 2, 3]);
    assert.equal(health.order(ids(1, 2, 3), up), [2, 3, 1]);
    // Nobody told how it went: another one may try later.
    clock.advance(2000);
    assert.equal(health.order(ids(1, 2, 3), up), [1, 2, 3]);
  });

  test('a request that would not ask it first is no trial', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    health.failed(1 as ServerId);
    clock.advance(200);
    assert.equal(health.order(ids(2, 1, 3), up), [2, 1, 3]);
    assert.equal(health.order(ids(1, 2, 3), up), [1, 2, 3]);
  });

  test('repeated failures are waited out longer, up to a bound', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    for (let i = 0; i < 20; i++) health.failed(1 as ServerId);
    clock.advance(1000);
    assert.is(health.isTroubled(1 as ServerId), true);
    clock.advance(1000);
    assert.is(health.isTroubled(1 as ServerId), false);
  });

  test('what the map shows as down is asked last, too', () => {
    const health = new ServerHealth(new ManualClock(), random);
    assert.equal(
      health.order(ids(1, 2, 3), (id) => id !== 2),
      [1, 3, 2],
    );
  });
});
