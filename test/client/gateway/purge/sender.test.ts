import { createHmac } from 'node:crypto';
import * as assert from 'uvu/assert';
import { CacheSender } from '../../../../client/gateway/purge/sender.ts';
import type { PurgeTarget } from '../../../../client/gateway/purge/target.ts';
import { nodeClock } from '../../../../common/adapters/node-clock.ts';
import { zPurgeSection } from '../../../../common/config-purge.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { PURGES_WAITING_MAX } from '../../../../common/limits.ts';
import { CacheOfTest } from '../../../kit/cache-of-test.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const NAME = 'T19aETByJT1RCvBVdK';
const KEYS = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];

function open(t: TestContext, settings: object, keys: readonly Buffer[] = KEYS): CacheSender {
  const [cache] = zPurgeSection.parse({ caches: [{ id: 'edge', kind: 'purge', ...settings }] }).caches;
  const target: PurgeTarget = { ...cache!, keys };
  const sender = new CacheSender(target, nodeClock);
  t.defer(() => sender.close());
  return sender;
}

async function failureOf(work: Promise<void>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isTfsError(error)) throw new Error('it did not fail');
  return `${error.code} ${error.message}`;
}

describe('PURGE', (test) => {
  test('asks for the name below the path of the cache, with its tags, its host, and configured headers', async (t) => {
    const cache = await CacheOfTest.start(t);
    const settings = { url: `${cache.url}/base/`, host: 'img.example.com:8080', headers: { 'X-Zone': 'a' } };
    await open(t, settings).purge(NAME, 'delete');
    const [{ method, path, headers }] = cache.seen as [(typeof cache.seen)[number]];
    assert.is(`${method} ${path}`, `PURGE /base/images/${NAME}`);
    assert.is(headers.host, 'img.example.com:8080');
    assert.is(headers['surrogate-key'], NAME);
    assert.is(headers['cache-tag'], NAME);
    assert.is(headers['x-zone'], 'a');
  });

  test('is done by 2xx and by "not there"; anything else fails, and a redirect leads nowhere', async (t) => {
    const cache = await CacheOfTest.start(t);
    const elsewhere = await CacheOfTest.start(t);
    const sender = open(t, { url: cache.url });
    for (const status of [200, 204, 404]) {
      cache.answer = status;
      await sender.purge(NAME, 'delete');
    }
    for (const status of [400, 403, 405, 410, 429, 500, 503]) {
      cache.answer = status;
      assert.is(
        await failureOf(sender.purge(NAME, 'delete')),
        `UNAVAILABLE cache edge: it answered ${status}`,
      );
    }
    for (const status of [301, 302, 307, 308]) {
      cache.answer = { status, location: `${elsewhere.url}/images/${NAME}` };
      assert.is(
        await failureOf(sender.purge(NAME, 'delete')),
        `UNAVAILABLE cache edge: it answered ${status}`,
      );
    }
    assert.is(elsewhere.seen.length, 0);
  });

  test('of a cache that hangs, or is not there, fails in time, and works again when it is back', async (t) => {
    const cache = await CacheOfTest.start(t);
    const sender = open(t, { url: cache.url, timeoutMs: 200, headers: { authorization: 'Bearer secret' } });
    cache.answer = 'hang';
    assert.is(await failureOf(sender.purge(NAME, 'hide')), 'UNAVAILABLE cache edge: no answer within 200 ms');
    await cache.stop();
    const why = await failureOf(sender.purge(NAME, 'hide'));
    assert.match(why, /^UNAVAILABLE cache edge: .*(ECONNREFUSED|other side closed)/);
    assert.not.match(why, /secret/);
    cache.answer = 200;
    await cache.start();
    await sender.purge(NAME, 'hide');
    assert.equal(cache.purged, [NAME]);
  });

  test('a few at a time; of those beyond a bound it says so at once', async (t) => {
    const cache = await CacheOfTest.start(t);
    const sender = open(t, { url: cache.url, concurrency: 3 });
    const name = (i: number) => `T1${String(i).padStart(16, '0')}`;
    const all = Array.from({ length: 40 }, (_, i) => sender.purge(name(i), 'delete'));
    await Promise.all(all);
    assert.is(cache.purged.length, 40);
    assert.ok(cache.openMax <= 3, String(cache.openMax));
    cache.answer = 'hang';
    const waiting = Array.from({ length: PURGES_WAITING_MAX + 3 }, () =>
      sender.purge(NAME, 'delete').catch(() => undefined),
    );
    assert.match(await failureOf(sender.purge(NAME, 'delete')), /^OVERLOADED/);
    await sender.close();
    await Promise.all(waiting);
    assert.match(await failureOf(sender.purge(NAME, 'delete')), /^CLOSED/);
  });
});

describe('webhook', (test) => {
  test('names together in one signed POST, those of another reason in another', async (t) => {
    const cache = await CacheOfTest.start(t);
    const sender = open(t, { kind: 'webhook', url: `${cache.url}/hook?zone=1`, batch: 3 });
    const names = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(18));
    await Promise.all([...names.map((name) => sender.purge(name, 'delete')), sender.purge(NAME, 'hide')]);
    const bodies = cache.seen.map(({ body }) => JSON.parse(body.toString()) as Record<string, unknown>);
    assert.equal(
      bodies
        .map(({ names: some, tags, reason }) => [some, tags, reason])
        .sort((a, b) => (String(a) < String(b) ? -1 : 1)),
      [
        [[NAME], [NAME], 'hide'],
        [names.slice(0, 3), names.slice(0, 3), 'delete'],
        [names.slice(3), names.slice(3), 'delete'],
      ],
    );
    for (const { method, path, headers, body } of cache.seen) {
      assert.is(`${method} ${path}`, 'POST /hook?zone=1');
      assert.is(headers['content-type'], 'application/json');
      const [time, ...proofs] = String(headers['tfs-signature']).split(',');
      const seconds = time!.slice(2);
      assert.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 600);
      const expected = KEYS.map(
        (key) => `v1=${createHmac('sha256', key).update(`${seconds}.${body.toString()}`).digest('hex')}`,
      );
      assert.equal(proofs, expected);
    }
  });

  test('"not there" is no success of a webhook, and all names of a message fail together', async (t) => {
    const cache = await CacheOfTest.start(t);
    cache.answer = 404;
    const sender = open(t, { kind: 'webhook', url: cache.url });
    const all = [sender.purge(NAME, 'delete'), sender.purge('T1'.padEnd(18, 'x'), 'delete')];
    for (const one of all) assert.is(await failureOf(one), 'UNAVAILABLE cache edge: it answered 404');
    assert.is(cache.seen.length, 1);
  });
});
