import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import * as assert from 'uvu/assert';
import { withDirectClient } from '../../tools/cli/direct.ts';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { CacheOfTest } from '../kit/cache-of-test.ts';
import { until } from '../kit/filled-cluster.ts';
import { ProcessCluster, tinyPng } from '../kit/process-cluster.ts';
import { withRedis } from '../kit/redis-server.ts';
import { runTfs } from '../kit/run-tfs.ts';
import { describe, type TestContext } from '../kit/suite.ts';

async function start(t: TestContext) {
  const edge = await CacheOfTest.start(t);
  const hook = await CacheOfTest.start(t);
  const cluster = await ProcessCluster.create({
    redis: true,
    gateways: 2,
    config: {
      purge: {
        scanMs: 1_000,
        caches: [
          { id: 'edge', kind: 'purge', url: edge.url, host: 'img.example.com' },
          { id: 'hook', kind: 'webhook', url: `${hook.url}/purged` },
        ],
      },
    },
  });
  t.defer(() => cluster.destroy());
  const secrets = { hook: { keys: [randomBytes(32).toString('hex')] } };
  writeFileSync(join(cluster.home, 'secrets/purge.json'), JSON.stringify(secrets), { mode: 0o600 });
  await cluster.startAll();
  await cluster.writable();
  const stored = async () => (await cluster.put(tinyPng(randomBytes(8)))).name;
  const untilPurged = (name: string, ...caches: CacheOfTest[]) =>
    until(`${name} is purged`, () => caches.every(({ purged }) => purged.includes(name)), 60_000);
  return { cluster, edge, hook, stored, untilPurged };
}

describe('caches in front of a cluster of processes', (test) => {
  const withIt = findRedisServer(process.env) === undefined ? test.skip : test;

  withIt('are told, whatever dies in between', async (t) => {
    const { cluster, edge, hook, stored, untilPurged } = await start(t);
    // Through a gateway.
    const plain = await stored();
    assert.is((await cluster.get(plain)).headers['surrogate-key'], plain);
    assert.is(await cluster.act('DELETE', plain), 204);
    await untilPurged(plain, edge, hook);
    assert.is(edge.seen.find(({ path }) => path.endsWith(plain))!.headers.host, 'img.example.com');

    // While one cache is down: the gateway is killed as soon as it has answered, the queue is emptied, Redis killed.
    await edge.stop();
    hook.answer = 500;
    const [deleted, hidden] = [await stored(), await stored()];
    assert.is(await cluster.act('POST', `${hidden}/hide`), 204);
    assert.is(await cluster.act('DELETE', deleted), 204);
    await cluster.stopOne('gw0', 'SIGKILL');
    await withRedis(cluster.redisAddress, (redis) => redis.flushall());
    await sleep(1_500);
    await cluster.stopOne('redis', 'SIGKILL');
    await edge.start();
    hook.answer = 200;
    await untilPurged(deleted, edge, hook);
    await untilPurged(hidden, edge, hook);

    // All gateways gone, Redis new and empty, DataServers started again, a deletion that no gateway has seen.
    await cluster.stopOne('gw1', 'SIGKILL');
    const direct = await withDirectClient(cluster.home, async (client) => {
      const { name } = await client.put(randomBytes(3000));
      await client.remove(name);
      return name;
    });
    for (const name of ['ds1', 'ds2', 'ds3'] as const) {
      await cluster.stopOne(name, 'SIGKILL');
      await cluster.startOne(name);
    }
    await cluster.startOne('redis');
    await cluster.startOne('gw0');
    await untilPurged(direct, edge, hook);

    const metrics = await (await request(`${cluster.url}/metrics`)).body.text();
    assert.match(metrics, /tfs_gateway_purges_total\{cache="edge",outcome="done",[^}]*\} [1-9]/);
    assert.match(metrics, /tfs_gateway_purges_pending\{cache="hook",/);
    const health = (await (await request(`${cluster.url}/healthz`)).body.json()) as Record<string, unknown>;
    assert.is(typeof (health['details'] as Record<string, unknown>)['purgesPending'], 'number');
  });

  withIt('"tfs purge" tells them now, and says what each of them answered', async (t) => {
    const { cluster, edge, hook, stored } = await start(t);
    const home = ['--home', cluster.home];
    const name = await stored();
    const fine = await runTfs(['purge', `${name}.jpg_310x310.jpg`, '--json', ...home]);
    assert.is(fine.code, 0, fine.stderr);
    assert.equal(fine.json, [
      {
        name,
        caches: [
          { cache: 'edge', purged: true },
          { cache: 'hook', purged: true },
        ],
      },
    ]);
    assert.equal([edge.purged, hook.purged], [[name], [name]]);
    edge.answer = 503;
    const half = await runTfs(['purge', name, ...home]);
    assert.is(half.code, 5, half.stderr);
    assert.is(half.stdout.toString(), `${name}  NOT purged: cache edge: it answered 503; purged from hook\n`);
    const before = hook.seen.length;
    const slip = await runTfs(['purge', name, 'T1nonsense', ...home]);
    assert.is.not(slip.code, 0);
    assert.match(slip.stderr, /T1nonsense is not a name/);
    assert.is(hook.seen.length, before, 'nothing was sent');
    // Erasing tells them too, and is not done before they have heard it.
    // On a busy machine an upload may have been begun twice: then its content has two names.
    const all = ['erase', name, '--all-names', '--yes', ...home];
    const erasing = await runTfs(all);
    assert.is(erasing.code, 5, erasing.stderr);
    assert.match(
      erasing.stdout.toString(),
      new RegExp(`${name} may still be in a cache in front: cache edge: it answered 503`),
    );
    edge.answer = 200;
    const erased = await runTfs(all);
    assert.is(erased.code, 0, erased.stderr);
    assert.match(erased.stdout.toString(), /Of the caches in front these were told: edge, hook/);
  });

  withIt('a webhook without a key: the gateway does not start, and says what to do', async (t) => {
    const { cluster } = await start(t);
    writeFileSync(join(cluster.home, 'secrets/purge.json'), '{}', { mode: 0o600 });
    await cluster.stopOne('gw1', 'SIGTERM');
    await cluster.startOne('gw1').then(
      () => assert.unreachable('it started'),
      () => undefined,
    );
    assert.match(cluster.log('gw1'), /the webhook \\"hook\\" needs a key/);
  });
}, 180_000);
