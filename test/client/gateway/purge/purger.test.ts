import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import * as assert from 'uvu/assert';
import { PurgeQueue } from '../../../../client/gateway/purge/purge-queue.ts';
import { Purger } from '../../../../client/gateway/purge/purger.ts';
import { BullLink } from '../../../../common/adapters/bull-link.ts';
import { nodeClock } from '../../../../common/adapters/node-clock.ts';
import { zPurgeSection } from '../../../../common/config-purge.ts';
import { silentLog } from '../../../../common/log.ts';
import { type Metrics, openMetrics } from '../../../../common/metrics.ts';
import { findRedisServer } from '../../../../tools/cluster/redis.ts';
import { CacheOfTest } from '../../../kit/cache-of-test.ts';
import { until } from '../../../kit/filled-cluster.ts';
import { LocalCluster } from '../../../kit/local-cluster.ts';
import { RedisOfTest } from '../../../kit/redis-of-test.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const clusterUuid = 'ab'.repeat(16);
const LONG_MS = 3600_000;
const SHORT_MS = 1_000;

interface Worker {
  readonly purger: Purger;
  readonly metrics: Metrics;
  close(): Promise<void>;
}

/** A cluster, a Redis, caches, and what gateway workers have of all that. */
class World {
  readonly cluster: LocalCluster;
  readonly redis: RedisOfTest;
  readonly edge: CacheOfTest;
  readonly hook: CacheOfTest;
  readonly #t: TestContext;

  private constructor(t: TestContext, cluster: LocalCluster, redis: RedisOfTest, caches: CacheOfTest[]) {
    this.#t = t;
    this.cluster = cluster;
    this.redis = redis;
    [this.edge, this.hook] = caches as [CacheOfTest, CacheOfTest];
  }

  static async open(t: TestContext, { redis: wanted = true } = {}): Promise<World> {
    const redis = await RedisOfTest.open(t);
    if (wanted) {
      redis.start();
      await redis.untilUp();
    }
    const caches = [await CacheOfTest.start(t), await CacheOfTest.start(t)];
    const cluster = await LocalCluster.start(t, { mounts: 2, replicas: 2 });
    return new World(t, cluster, redis, caches);
  }

  /** @param scanMs in tests of what does not depend on scans, so long that there is only the first */
  worker(scanMs: number, tierOfHook = 1): Worker {
    const link = BullLink.open({ url: this.redis.url, clusterUuid, log: silentLog, lockMs: 2_000 });
    const metrics = openMetrics({ kind: 'gateway', id: '0', processMetrics: false });
    const { caches } = zPurgeSection.parse({
      caches: [
        { id: 'edge', kind: 'purge', url: this.edge.url, timeoutMs: 500 },
        { id: 'hook', kind: 'webhook', url: this.hook.url, timeoutMs: 500, tier: tierOfHook },
      ],
    });
    const targets = caches.map((cache) => ({ ...cache, keys: [Buffer.alloc(32, 1)] }));
    const { client } = this.cluster;
    const queue = new PurgeQueue(link);
    const purger = Purger.open({ targets, client, queue, scanMs, clock: nodeClock, log: silentLog, metrics });
    const close = async () => {
      await purger.close();
      await link.close();
      metrics.close();
    };
    this.#t.defer(close);
    return { purger, metrics, close };
  }

  async stored(): Promise<string> {
    return (await this.cluster.client.put(randomBytes(2000))).name;
  }

  /** As a gateway does it. */
  async removeThrough({ purger }: Worker, name: string): Promise<void> {
    await this.cluster.client.remove(name);
    purger.changed(name);
  }

  countOf(cache: CacheOfTest, name: string): number {
    return cache.purged.filter((one) => one === name).length;
  }

  async untilPurged(name: string, caches: readonly CacheOfTest[] = [this.edge, this.hook]): Promise<void> {
    await until(`${name} is purged`, () => caches.every((cache) => this.countOf(cache, name) > 0), 60_000);
  }

  /** Every worker has asked all DataServers since. */
  async untilAsked(...workers: Worker[]): Promise<void> {
    const before = await Promise.all(workers.map(scansOf));
    for (const [i, worker] of workers.entries())
      while ((await scansOf(worker)) < before[i]! + 2) await sleep(50);
  }

  async untilIdle(...workers: Worker[]): Promise<void> {
    await until('nothing is pending', () => workers.every(({ purger }) => purger.pending === 0), 60_000);
  }
}

async function scansOf({ metrics }: Worker): Promise<number> {
  const lines = (await metrics.text())
    .split('\n')
    .filter((line) => line.startsWith('tfs_gateway_change_scans_total{'));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

describe('purges, with a real Redis', (test) => {
  const withRedis = findRedisServer(process.env) === undefined ? test.skip : test;

  withRedis('a change through this gateway is sent at once, to every cache', async (t) => {
    const world = await World.open(t);
    const worker = world.worker(LONG_MS);
    await until('the first scan is over', () => worker.purger.pending === 0);
    const name = await world.stored();
    await world.removeThrough(worker, name);
    await world.untilPurged(name);
    const purge = world.edge.seen.at(-1)!;
    assert.is(`${purge.method} ${purge.path}`, `PURGE /images/${name}`);
    const post = JSON.parse(world.hook.seen.at(-1)!.body.toString());
    assert.equal([post.names, post.reason], [[name], 'changed']);
    assert.is(worker.purger.pending, 0);
  });

  withRedis('a cache that is down is told when it is back, the other one at once', async (t) => {
    const world = await World.open(t);
    const worker = world.worker(LONG_MS);
    await world.edge.stop();
    const name = await world.stored();
    await world.removeThrough(worker, name);
    await world.untilPurged(name, [world.hook]);
    await until('it is pending', () => worker.purger.pending === 1);
    assert.match(String(worker.purger.status['purgeFailing']), /^cache edge: /);
    await world.edge.start();
    await world.untilPurged(name, [world.edge]);
    await world.untilIdle(worker);
    assert.equal(worker.purger.status, { purgesPending: 0 });
  });

  withRedis('FLUSHALL while a cache is down: it is told all the same', async (t) => {
    const world = await World.open(t);
    const workers = [world.worker(SHORT_MS), world.worker(SHORT_MS)] as const;
    world.edge.answer = 503;
    const [through, besides] = [await world.stored(), await world.stored()];
    await world.removeThrough(workers[0], through);
    await world.cluster.client.hide(besides);
    await until('both are tried', () =>
      [through, besides].every((name) => world.edge.seen.some(({ path }) => path.endsWith(name))),
    );
    for (let i = 0; i < 3; i++) {
      await world.redis.flush();
      await sleep(300);
    }
    world.edge.answer = 200;
    await world.untilPurged(through);
    await world.untilPurged(besides);
    await world.untilIdle(...workers);
  });

  withRedis('a gateway that ends before it has told anybody: another one tells', async (t) => {
    const world = await World.open(t);
    const first = world.worker(SHORT_MS);
    world.edge.answer = 'hang';
    const name = await world.stored();
    await world.removeThrough(first, name);
    await first.close();
    await world.redis.flush();
    world.edge.answer = 204;
    world.worker(LONG_MS);
    await world.untilPurged(name);
  });

  withRedis('changes of which no gateway knows: each is told, by one of all workers, and once', async (t) => {
    const world = await World.open(t);
    const workers = [world.worker(SHORT_MS), world.worker(SHORT_MS), world.worker(SHORT_MS)] as const;
    const names = [await world.stored(), await world.stored(), await world.stored()];
    const { client } = world.cluster;
    await client.remove(names[0]!);
    await client.hide(names[1]!);
    await client.remove(names[2]!);
    await world.untilPurged(names[2]!);
    await client.undelete(names[2]!);
    await client.reveal(names[1]!);
    for (const name of [names[1]!, names[2]!])
      await until('both changes are told', () => world.countOf(world.edge, name) >= 2);
    await world.untilIdle(...workers);
    await world.untilAsked(...workers);
    await world.untilIdle(...workers);
    for (const cache of [world.edge, world.hook])
      assert.equal(
        names.map((name) => world.countOf(cache, name)),
        [1, 2, 2],
      );
    const reasons = world.hook.seen.map(({ body }) => String(JSON.parse(body.toString()).reason));
    assert.equal([...new Set(reasons)].sort(), ['delete', 'hide', 'reveal', 'undelete']);
    // A DataServer that has started again tells all of it again, and a new worker has never heard of it.
    await world.cluster.stopServer(1);
    await world.cluster.startServer(1);
    const fresh = world.worker(SHORT_MS);
    await world.untilAsked(...workers, fresh);
    await world.untilIdle(...workers, fresh);
    assert.equal(
      names.map((name) => world.countOf(world.edge, name)),
      [1, 2, 2],
    );
  });

  withRedis(
    'a cache that asks another one is purged after it, also when that had to be tried again',
    async (t) => {
      const world = await World.open(t);
      const workers = [world.worker(SHORT_MS, 2), world.worker(SHORT_MS, 2)] as const;
      const { edge: centre, hook: edge } = world;
      const lastOf = (cache: CacheOfTest, name: string) =>
        cache.seen.findLast(({ path, body }) => path.endsWith(name) || body.includes(name))!.atMs;
      const name = await world.stored();
      await world.removeThrough(workers[0], name);
      await world.untilPurged(name);
      assert.ok(lastOf(edge, name) >= lastOf(centre, name));
      centre.answer = 503;
      const [through, besides] = [await world.stored(), await world.stored()];
      await world.removeThrough(workers[0], through);
      await world.cluster.client.remove(besides);
      // It is told all the same: not everybody asks for it just now.
      await world.untilPurged(through, [edge]);
      await world.untilPurged(besides, [edge]);
      centre.answer = 200;
      for (const one of [through, besides]) {
        await world.untilPurged(one, [centre]);
        await until('the other one is purged again', () => lastOf(edge, one) > lastOf(centre, one), 60_000);
      }
      await world.untilIdle(...workers);
    },
  );

  withRedis('jobs that are none are left alone, and nothing is sent for them', async (t) => {
    const world = await World.open(t);
    const worker = world.worker(LONG_MS);
    const { hostname: host, port } = new URL(world.redis.url);
    const queue = new Queue('purge-edge', {
      connection: { host, port: Number(port) },
      prefix: `{tfs-${clusterUuid}}`,
    });
    t.defer(() => queue.close());
    const name = await world.stored();
    const good = { name, reason: 'delete', atMs: 1, cache: 'edge' };
    const bad = [
      null,
      'x',
      {},
      { ...good, name: '../../etc' },
      { ...good, name: `T2${name.slice(2)}` },
      { ...good, name: 'T1!!!!!!!!!!!!!!!!' },
      { ...good, reason: 'GET' },
      { ...good, atMs: 'now' },
    ];
    for (const payload of bad) await queue.add('purge', payload, { removeOnComplete: true });
    await queue.add('purge', good, { removeOnComplete: true });
    await world.untilPurged(name, [world.edge]);
    await until('all are taken', () => world.edge.seen.length > 0);
    assert.equal(
      world.edge.seen.map(({ path }) => path),
      [`/images/${name}`],
    );
    await worker.close();
  });

  withRedis(
    'Redis killed and empty again, or stopped: nothing waits for it, and nothing is lost',
    async (t) => {
      const world = await World.open(t);
      const worker = world.worker(SHORT_MS);
      world.edge.answer = 500;
      const names = [await world.stored(), await world.stored(), await world.stored()];
      await world.removeThrough(worker, names[0]!);
      await world.redis.kill();
      await world.cluster.client.remove(names[1]!);
      await until('it is tried without Redis', () =>
        world.edge.seen.some(({ path }) => path.endsWith(names[1]!)),
      );
      world.redis.start();
      await world.redis.untilUp();
      world.redis.signal('SIGSTOP');
      await world.removeThrough(worker, names[2]!);
      await world.untilPurged(names[2]!, [world.hook]);
      world.redis.signal('SIGCONT');
      world.edge.answer = 200;
      for (const name of names) await world.untilPurged(name);
      await world.untilIdle(worker);
    },
  );
}, 90_000);

describe('purges without a Redis', (test) => {
  test('are sent at once, and by asking the DataServers; tried again while a cache is down', async (t) => {
    const world = await World.open(t, { redis: false });
    const worker = world.worker(SHORT_MS);
    const names = [await world.stored(), await world.stored(), await world.stored()];
    await world.removeThrough(worker, names[0]!);
    await world.untilPurged(names[0]!);
    await world.cluster.client.remove(names[1]!);
    await world.untilPurged(names[1]!);
    await world.edge.stop();
    await world.cluster.client.hide(names[2]!);
    await world.untilPurged(names[2]!, [world.hook]);
    assert.is(world.countOf(world.edge, names[2]!), 0);
    await world.edge.start();
    await world.untilPurged(names[2]!, [world.edge]);
    await world.untilIdle(worker);
    await world.untilAsked(worker);
    assert.is(world.countOf(world.edge, names[1]!), 1, 'what is done is remembered');
  });

  test('and in the order in which caches ask each other', async (t) => {
    const world = await World.open(t, { redis: false });
    const worker = world.worker(SHORT_MS, 2);
    const { edge: centre, hook: edge } = world;
    centre.answer = 503;
    const name = await world.stored();
    await world.cluster.client.remove(name);
    await world.untilPurged(name, [edge]);
    assert.ok(worker.purger.pending > 0);
    const before = world.countOf(edge, name);
    centre.answer = 200;
    await world.untilPurged(name, [centre]);
    await until('the other one is purged again', () => world.countOf(edge, name) > before);
    await world.untilIdle(worker);
  });
}, 90_000);
