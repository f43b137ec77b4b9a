import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { periodOf, UploadLimits } from '../../../client/gateway/upload-limits.ts';
import { CounterRedis } from '../../../common/adapters/counter-redis.ts';
import { nodeClock } from '../../../common/adapters/node-clock.ts';
import { UNLIMITED, type UploadPolicy } from '../../../common/config-uploads.ts';
import { isTfsError, type TfsError } from '../../../common/errors.ts';
import { type Token, tokenOf } from '../../../common/secrets.ts';
import { RedisOfTest } from '../../kit/redis-of-test.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const DAY_MS = 86_400_000;
/** Nothing here lasts so long that a window ends meanwhile. */
const SLOW = { perSecond: 0.01, burst: 3 };

const token = (name: string, policy: Partial<UploadPolicy>): Token =>
  tokenOf(`the-token-called-${name}`, { name, policy: { ...UNLIMITED, name: 'p', ...policy } });

async function refusalOf(work: Promise<unknown>): Promise<TfsError | undefined> {
  try {
    await work;
  } catch (error) {
    if (isTfsError(error)) return error;
    throw error;
  }
  return undefined;
}

const codeOf = async (work: Promise<unknown>) => (await refusalOf(work))?.code ?? 'OK';

async function times(count: number, work: () => Promise<unknown>): Promise<string[]> {
  const codes = [];
  for (let i = 0; i < count; i++) codes.push(await codeOf(work()));
  return codes;
}

const OK3 = ['OK', 'OK', 'OK', 'RATE_LIMITED', 'RATE_LIMITED'];

async function until(what: string, test: () => boolean): Promise<void> {
  for (const startedAt = Date.now(); !test(); await sleep(20))
    if (Date.now() - startedAt > 20_000) throw new Error(`never: ${what}`);
}

async function withRedis(t: TestContext, workers: number) {
  const redis = await RedisOfTest.open(t);
  redis.start();
  await redis.untilUp();
  const all = Array.from({ length: workers }, () => {
    const connection = CounterRedis.open(redis.url);
    t.defer(() => connection.disconnect());
    const limits = new UploadLimits({ clock: nodeClock, redis: connection, clusterUuid: 'ab'.repeat(16) });
    return { limits, connection };
  });
  for (const { connection } of all) await until('it is connected', () => connection.status === 'ready');
  return { redis, all };
}

function limitsSuite(name: string, open: (t: TestContext) => Promise<readonly [UploadLimits, UploadLimits]>) {
  describe(name, (test) => {
    test('so many at once, and no more', async (t) => {
      const [a, b] = await open(t);
      const one = token('one', { rate: SLOW });
      const turns = [a, b, a, b, a];
      assert.equal(await times(5, () => turns.pop()!.admit(one, 0)), OK3);
      const refused = await refusalOf(a.admit(one, 0));
      assert.ok(refused!.retryAfterMs! > 200_000 && refused!.retryAfterMs! <= 300_000);
      assert.match(refused!.message, '3 pictures may be stored in 300 s');
      // Another token of the same policy has counters of its own, and so has what has no rate.
      assert.equal(await times(5, () => b.another(token('two', { rate: SLOW }))), OK3);
      assert.is(await codeOf(b.admit(token('one', {}), 0)), 'OK');
    });

    test('a window ends, and the next begins', async (t) => {
      const [a] = await open(t);
      const one = token('one', { rate: { perSecond: 2, burst: 2 } });
      const codes = await times(20, async () => {
        await sleep(150);
        await a.admit(one, 0);
      });
      const granted = codes.filter((code) => code === 'OK').length;
      assert.ok(granted >= 4 && granted < 20, codes.join());
    });

    test('bytes up to the quota, and not one more; what was refused or given back does not count', async (t) => {
      const [a, b] = await open(t);
      const one = token('one', { quota: { bytes: 1000, period: 'day' } });
      const first = await a.charge(one, 600);
      assert.is(await codeOf(b.charge(one, 401)), 'QUOTA_EXCEEDED');
      assert.is(await codeOf(b.admit(one, 401)), 'QUOTA_EXCEEDED');
      assert.is(await codeOf(b.admit(one, 400)), 'OK');
      await b.charge(one, 400);
      const refused = await refusalOf(a.admit(one, 0));
      assert.match(
        refused!.message,
        'no more than 1000 bytes may be stored in a day of UTC, and 1000 were in 20',
      );
      assert.ok(refused!.retryAfterMs! <= DAY_MS);
      first!.refund();
      await sleep(100);
      assert.is(await codeOf(a.charge(one, 601)), 'QUOTA_EXCEEDED');
      assert.is(await codeOf(a.charge(one, 600)), 'OK');
      assert.is(await a.charge(token('one', {}), 1), undefined);
    });

    test('as many as are granted at the same time fit the quota', async (t) => {
      const [a, b] = await open(t);
      const one = token('many', { quota: { bytes: 1000, period: 'month' } });
      const codes = await Promise.all(
        Array.from({ length: 40 }, (_, i) => codeOf((i % 2 === 0 ? a : b).charge(one, 70))),
      );
      assert.is(codes.filter((code) => code === 'OK').length, 14);
      assert.is(await codeOf(b.charge(one, 20)), 'OK');
      assert.is(await codeOf(a.charge(one, 1)), 'QUOTA_EXCEEDED');
    });
  }, 60_000);
}

limitsSuite('limits in one process', async () => {
  const limits = new UploadLimits({ clock: nodeClock });
  return [limits, limits];
});

limitsSuite('limits of two processes with a Redis', async (t) => {
  const { all } = await withRedis(t, 2);
  return [all[0]!.limits, all[1]!.limits];
});

describe('limits while Redis is not well', (test) => {
  for (const [how, signal] of [
    ['hangs', 'SIGSTOP'],
    ['is gone', 'SIGKILL'],
  ] as const)
    test(`one that ${how} stops no upload; what is known here still counts`, async (t) => {
      const { redis, all } = await withRedis(t, 1);
      const { limits, connection } = all[0]!;
      const one = token('one', { rate: SLOW, quota: { bytes: 1000, period: 'month' } });
      const fresh = token('fresh', { rate: SLOW, quota: { bytes: 1000, period: 'month' } });
      await limits.admit(one, 10);
      await limits.charge(one, 900);
      assert.is(limits.countedAlone, 0);
      if (signal === 'SIGKILL') await redis.kill();
      else redis.signal(signal);
      t.defer(() => redis.signal('SIGCONT'));
      assert.equal(await times(5, () => limits.admit(fresh, 0)), OK3);
      assert.ok(limits.countedAlone > 0);
      assert.equal(await times(4, () => limits.admit(one, 10)), ['OK', 'OK', 'RATE_LIMITED', 'RATE_LIMITED']);
      assert.is(await codeOf(limits.charge(one, 101)), 'QUOTA_EXCEEDED');
      assert.is(await codeOf(limits.charge(one, 100)), 'OK');
      await until('the connection is given up', () => connection.status !== 'ready');
      if (signal === 'SIGSTOP') {
        redis.signal('SIGCONT');
      } else {
        redis.start();
      }
      await until('it is connected again', () => connection.status === 'ready');
      const before = limits.countedAlone;
      assert.is(await codeOf(limits.charge(fresh, 5)), 'OK');
      assert.is(limits.countedAlone, before);
    });

  test('one that was never there', async (t) => {
    const redis = await RedisOfTest.open(t);
    const connection = CounterRedis.open(redis.url);
    t.defer(() => connection.disconnect());
    const limits = new UploadLimits({ clock: nodeClock, redis: connection });
    assert.equal(await times(5, () => limits.admit(token('one', { rate: SLOW }), 0)), OK3);
  });
}, 60_000);

describe('periods of quotas', (test) => {
  test('are days and months of UTC', () => {
    const at = (text: string) => Date.parse(text);
    assert.equal(periodOf('day', at('2026-02-28T23:59:59.000Z')), { label: '2026-02-28', leftMs: 1000 });
    assert.equal(periodOf('day', at('2026-03-01T00:00:00.000Z')), { label: '2026-03-01', leftMs: DAY_MS });
    assert.equal(periodOf('month', at('2026-02-28T23:59:59.000Z')), { label: '2026-02', leftMs: 1000 });
    assert.equal(periodOf('month', at('2026-12-01T00:00:00.000Z')), {
      label: '2026-12',
      leftMs: 31 * DAY_MS,
    });
    assert.equal(periodOf('month', at('2027-12-31T00:00:00.000Z')), { label: '2027-12', leftMs: DAY_MS });
  });
});
