import * as assert from 'uvu/assert';
import { Preference } from '../../client/preference.ts';
import { ServerHealth } from '../../client/server-health.ts';
import { ServerPace } from '../../client/server-pace.ts';
import { TfsError } from '../../common/errors.ts';
import type { Millis, ServerId } from '../../common/ids.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const ids = (...numbers: number[]) => numbers as ServerId[];
const id = (n: number) => n as ServerId;
const random = { bytes: (n: number) => Buffer.alloc(n), u32: () => 0, float: () => 0.5 };
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('server health', (test) => {
  test('a server that failed is in trouble for a while', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    health.failed(id(1));
    assert.is(health.isTroubled(id(1)), true);
    clock.advance(200);
    assert.is(health.isTroubled(id(1)), false);
    health.failed(id(1));
    health.succeeded(id(1));
    assert.is(health.isTroubled(id(1)), false);
    assert.is(health.isFine, true);
  });

  test('repeated failures are waited out longer, up to a bound', () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    for (let i = 0; i < 20; i++) health.failed(id(1));
    clock.advance(1000);
    assert.is(health.isTroubled(id(1)), true);
    clock.advance(1000);
    assert.is(health.isTroubled(id(1)), false);
  });

  test('with a PING, no request finds out: it stays in trouble until it has answered one', async () => {
    const clock = new ManualClock();
    const pings: { resolve: () => void; reject: (error: unknown) => void }[] = [];
    const health = new ServerHealth<ServerId>(
      clock,
      random,
      () => new Promise<void>((resolve, reject) => pings.push({ resolve, reject })),
    );
    health.failed(id(1));
    clock.advance(5000);
    for (let i = 0; i < 10; i++) assert.is(health.isTroubled(id(1)), true);
    assert.is(pings.length, 1, 'one at a time');
    pings[0]!.reject(new TfsError('DEADLINE', 'nothing'));
    await settled();
    assert.is(health.isTroubled(id(1)), true);
    assert.is(pings.length, 1, 'not at once again');
    clock.advance(5000);
    assert.is(health.isTroubled(id(1)), true);
    pings[1]!.resolve();
    await settled();
    assert.is(health.isTroubled(id(1)), false);
  });
});

describe('server pace', (test) => {
  /** One read of `ms` from each of the servers. */
  const readAll = (clock: ManualClock, pace: ServerPace, times: Record<number, number>) => {
    for (const [server, ms] of Object.entries(times)) {
      const askedAt = clock.monotonic();
      pace.asked(id(Number(server)), askedAt);
      pace.answered(id(Number(server)), (askedAt + ms) as Millis, ms);
    }
    clock.advance(60);
  };

  test('much slower than the others is behind; slow like the others is not, nor fast enough', () => {
    const clock = new ManualClock();
    const pace = new ServerPace(clock);
    for (let i = 0; i < 10; i++) readAll(clock, pace, { 1: 2, 2: 3, 3: 500 });
    assert.equal(
      [1, 2, 3].map((n) => pace.isBehind(id(n))),
      [false, false, true],
    );
    const allSlow = new ServerPace(clock);
    for (let i = 0; i < 10; i++) readAll(clock, allSlow, { 1: 400, 2: 500, 3: 600 });
    assert.is(allSlow.isEven, true);
    const small = new ServerPace(clock);
    for (let i = 0; i < 10; i++) readAll(clock, small, { 1: 1, 2: 1, 3: 40 });
    assert.is(small.isEven, true);
  });

  test('two slow ones of three are both found', () => {
    const clock = new ManualClock();
    const pace = new ServerPace(clock);
    for (let i = 0; i < 10; i++) readAll(clock, pace, { 1: 2, 2: 500, 3: 500 });
    assert.equal(
      [1, 2, 3].map((n) => pace.isBehind(id(n))),
      [false, true, true],
    );
  });

  test('it is tried now and then, and comes back after a few good answers', () => {
    const clock = new ManualClock();
    const pace = new ServerPace(clock);
    for (let i = 0; i < 10; i++) readAll(clock, pace, { 1: 2, 2: 2, 3: 500 });
    assert.is(pace.tryOut(id(3)), false, 'just found slow');
    clock.advance(1000);
    assert.is(pace.tryOut(id(3)), true);
    assert.is(pace.tryOut(id(3)), false, 'one request at a time');
    for (let i = 0; i < 5; i++) readAll(clock, pace, { 1: 2, 2: 2, 3: 2 });
    readAll(clock, pace, { 1: 2 });
    assert.is(pace.isBehind(id(3)), false);
  });

  test('a server that answers nothing is behind before any deadline, and not once it answers', () => {
    const clock = new ManualClock();
    const pace = new ServerPace(clock);
    readAll(clock, pace, { 1: 2, 2: 2 });
    pace.asked(id(2), clock.monotonic());
    clock.advance(240);
    readAll(clock, pace, { 1: 2 });
    assert.is(pace.isSilent(id(2)), true);
    readAll(clock, pace, { 1: 2 });
    assert.is(pace.isBehind(id(2)), true);
    pace.answered(id(2), clock.monotonic(), 2);
    clock.advance(60);
    readAll(clock, pace, { 1: 2 });
    assert.is(pace.isBehind(id(2)), false);
  });

  test('while nobody answers no server is silent: the others are asked for a sign of life first', () => {
    const clock = new ManualClock();
    let asked = 0;
    const pace = new ServerPace(clock, () => void asked++);
    readAll(clock, pace, { 1: 2, 2: 2, 3: 2 });
    for (const server of [1, 2, 3]) pace.asked(id(server), clock.monotonic());
    clock.advance(400);
    for (let i = 0; i < 10; i++) assert.is(pace.isSilent(id(2)), false);
    assert.is(asked, 1);
    pace.heard(id(3));
    assert.is(pace.isSilent(id(2)), true);
  });
});

describe('preference', (test) => {
  const world = () => {
    const clock = new ManualClock();
    const health = new ServerHealth(clock, random);
    const pace = new ServerPace(clock);
    const down = new Set<ServerId>();
    const slow = new Set<ServerId>();
    const states = {
      get isEven() {
        return down.size + slow.size === 0;
      },
      isUp: (server: ServerId) => !down.has(server),
      isSlow: (server: ServerId) => slow.has(server),
    };
    return { clock, health, pace, down, slow, preference: new Preference(states, health, pace) };
  };

  test('as given while all is well', () => {
    const servers = ids(2, 3, 1);
    assert.is(world().preference.order(servers), servers);
  });

  test('slow ones after the others, those that fail or are down last', () => {
    const { preference, health, down, slow } = world();
    health.failed(id(1));
    assert.equal(preference.order(ids(1, 2, 3)), [2, 3, 1]);
    slow.add(id(2));
    assert.equal(preference.order(ids(1, 2, 3)), [3, 2, 1]);
    down.add(id(3));
    assert.equal(preference.order(ids(1, 2, 3)), [2, 1, 3]);
  });

  test('a server that is behind gets one request a second, if it would be the first to be asked', () => {
    const { preference, clock, pace } = world();
    for (let i = 0; i < 10; i++) {
      for (const [server, ms] of [
        [1, 500],
        [2, 2],
        [3, 2],
      ] as const) {
        pace.asked(id(server), clock.monotonic());
        pace.answered(id(server), clock.monotonic(), ms);
      }
      clock.advance(60);
    }
    assert.equal(preference.order(ids(1, 2, 3)), [2, 3, 1]);
    clock.advance(1000);
    assert.equal(preference.order(ids(2, 1, 3)), [2, 3, 1]);
    assert.equal(preference.order(ids(1, 2, 3)), [1, 2, 3]);
    assert.equal(preference.order(ids(1, 2, 3)), [2, 3, 1]);
  });
});
