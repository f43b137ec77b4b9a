import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { BullQueues } from '../../../common/adapters/bull-queues.ts';
import { isTfsError } from '../../../common/errors.ts';
import { serverId } from '../../../common/ids.ts';
import { JOB_ATTEMPTS_MAX, JOB_LOCK_MS, QUEUE_CALL_MS_MAX } from '../../../common/limits.ts';
import { silentLog } from '../../../common/log.ts';
import type { JobHandler, QueuedJob } from '../../../common/seams/job-queue.ts';
import { findRedisServer } from '../../../tools/cluster/redis.ts';
import { RedisOfTest } from '../../kit/redis-of-test.ts';
import { withRedis } from '../../kit/redis-server.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const REDIS = findRedisServer(process.env);
const clusterUuid = 'ab'.repeat(16);
const SERVER = serverId(3);

class World {
  readonly redis: RedisOfTest;
  readonly queues: BullQueues;
  readonly #t: TestContext;

  private constructor(t: TestContext, redis: RedisOfTest) {
    this.#t = t;
    this.redis = redis;
    this.queues = this.open();
  }

  /** Without a Redis that answers. */
  static async open(t: TestContext): Promise<World> {
    return new World(t, await RedisOfTest.open(t));
  }

  static async started(t: TestContext, settings: readonly string[] = []): Promise<World> {
    const world = await World.open(t);
    world.redis.start(settings);
    await world.isUp();
    return world;
  }

  open(uuid = clusterUuid, lockMs = JOB_LOCK_MS): BullQueues {
    const queues = BullQueues.open({ url: this.redis.url, clusterUuid: uuid, log: silentLog, lockMs });
    this.#t.defer(() => queues.close());
    return queues;
  }

  async isUp(): Promise<void> {
    await until(async () =>
      this.queues.check().then(
        () => true,
        (error: unknown) => isTfsError(error, 'CONFIG'),
      ),
    );
  }

  add(...ids: string[]): Promise<void> {
    return this.queues.add(
      SERVER,
      ids.map((id) => jobOf(id)),
    );
  }

  work(handle: JobHandler, concurrency = 2, queues = this.queues): void {
    queues.work(SERVER, { concurrency, handle });
  }

  /** A process that takes a job and is killed. @returns its last words */
  async dyingWorker(): Promise<string> {
    const script = join(import.meta.dirname, '..', '..', 'kit', 'mortal-worker.ts');
    const args = ['--import', 'tsx', script, this.redis.url, clusterUuid, String(SERVER), '500'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#t.defer(() => child.kill('SIGKILL'));
    const [words] = (await once(child.stdout, 'data')) as [Buffer];
    child.kill('SIGKILL');
    await once(child, 'exit');
    return words.toString().trim();
  }
}

const jobOf = (id: string, priority = 20): QueuedJob => ({ id, priority, payload: { id } });

async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await done())) await sleep(20);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );
}

describe('BullQueues', (test) => {
  const withServer = REDIS === undefined ? test.skip : test;

  withServer('jobs are handed out by priority, once each, and are gone when they are done', async (t) => {
    const world = await World.started(t);
    await world.queues.add(SERVER, [jobOf('a-1', 30), jobOf('b-1', 10), jobOf('c-1', 20), jobOf('d-1', 10)]);
    assert.equal(await world.queues.counts(SERVER), { waiting: 4, running: 0, parked: 0 });
    const listed = await world.queues.list(SERVER, 'waiting', 3);
    assert.equal(
      listed.map(({ id, priority }) => [id, priority]),
      [
        ['b-1', 10],
        ['d-1', 10],
        ['c-1', 20],
      ],
    );
    const done: unknown[] = [];
    world.work(async ({ payload }) => {
      done.push((payload as { id: string }).id);
      return 'done';
    }, 1);
    await until(() => done.length === 4);
    assert.equal(done, ['b-1', 'd-1', 'c-1', 'a-1']);
    await until(async () => (await world.queues.counts(SERVER)).running === 0);
    assert.equal(await world.queues.counts(SERVER), { waiting: 0, running: 0, parked: 0 });
  });

  withServer('what is running shows how far it is', async (t) => {
    const world = await World.started(t);
    await world.add('a-1');
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    t.defer(() => release());
    world.work(async (job) => {
      job.progress(42);
      await held;
      return 'done';
    });
    await until(async () => (await world.queues.list(SERVER, 'running', 10))[0]?.percent === 42);
    const [seen] = await world.queues.list(SERVER, 'running', 10);
    assert.is(seen!.id, 'a-1');
    assert.equal(await world.queues.list(serverId(4), 'running', 10), []);
  });

  withServer(
    'one that always fails is parked after some attempts, and others are not kept waiting',
    async (t) => {
      const world = await World.started(t);
      await world.queues.add(SERVER, [jobOf('poison-1', 1), jobOf('a-1'), jobOf('b-1')]);
      const done: string[] = [];
      let attempts = 0;
      world.work(async ({ id }) => {
        if (!id.startsWith('poison')) done.push(id);
        else {
          attempts++;
          throw new Error('planted');
        }
        return 'done';
      }, 1);
      await until(() => done.length === 2);
      assert.is(attempts, 1, 'it waits for its next attempt out of the way');
      await until(async () => (await world.queues.counts(SERVER)).parked === 1);
      assert.is(attempts, JOB_ATTEMPTS_MAX);
      const [parked] = await world.queues.list(SERVER, 'parked', 10);
      assert.equal([parked!.id, parked!.note, parked!.attempts], ['poison-1', 'planted', JOB_ATTEMPTS_MAX]);
      // The same id is ignored: that is why ids are never used again.
      await world.add('poison-1', 'poison-2');
      await until(() => attempts > JOB_ATTEMPTS_MAX);
      assert.is((await world.queues.counts(SERVER)).parked, 1);
    },
  );

  withServer('without Redis every call fails at once, and one that hangs is not waited for', async (t) => {
    const world = await World.open(t);
    const begun = performance.now();
    assert.is(await codeOf(world.queues.check()), 'UNAVAILABLE');
    assert.is(await codeOf(world.add('a-1')), 'UNAVAILABLE');
    assert.is(await codeOf(world.queues.counts(SERVER)), 'UNAVAILABLE');
    assert.ok(performance.now() - begun < QUEUE_CALL_MS_MAX);
    world.redis.start();
    await world.isUp();
    await world.add('a-1');
    world.redis.signal('SIGSTOP');
    assert.is(await codeOf(world.add('b-1')), 'UNAVAILABLE');
    world.redis.signal('SIGCONT');
    await world.isUp();
    await until(async () => (await world.queues.counts(SERVER)).waiting >= 1);
  });

  withServer('Redis goes and comes back empty: workers and queues go on', async (t) => {
    const world = await World.started(t);
    const done: string[] = [];
    world.work(async ({ id }) => {
      done.push(id);
      return 'done';
    });
    await world.add('a-1');
    await until(() => done.includes('a-1'));
    await world.redis.kill();
    await until(async () => (await codeOf(world.add('b-1'))) === 'UNAVAILABLE');
    await sleep(500);
    world.redis.start();
    await world.isUp();
    await until(async () => (await codeOf(world.add('c-1'))) === 'none');
    await until(() => done.includes('c-1'));
    await world.redis.flush();
    await world.add('d-1');
    await until(() => done.includes('d-1'));
  });

  // Where it spins, nothing in this process has its turn any more, and the file is ended from outside.
  withServer(
    'Redis goes while jobs wait: the worker does not spin, and goes on when it is back',
    async (t) => {
      const world = await World.started(t);
      const done = new Set<string>();
      world.work(async ({ id }) => {
        await sleep(20);
        done.add(id);
        return 'done';
      });
      const ids = (from: number) => Array.from({ length: 100 }, (_, i) => `${from + i}-1`);
      for (let round = 0; round < 3; round++) {
        const before = done.size;
        await world.add(...ids(1000 * round));
        await until(() => done.size > before + 5);
        await world.redis.kill();
        for (let i = 0; i < 10; i++) await sleep(50);
        assert.ok(done.size < before + 100, 'jobs were waiting');
        world.redis.start();
        await world.isUp();
        const after = `${1000 * round + 999}-1`;
        await until(async () => (await codeOf(world.add(after))) === 'none');
        await until(() => done.has(after));
      }
    },
  );

  withServer(
    'FLUSHALL while a job runs: it ends, what waited is gone, and an old id is as good as new',
    async (t) => {
      const world = await World.started(t);
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const begun: string[] = [];
      world.work(async ({ id }) => {
        begun.push(id);
        await held;
        return 'done';
      }, 1);
      await world.add('a-1', 'b-1');
      await until(() => begun.length === 1);
      await world.redis.flush();
      release();
      assert.equal(await world.queues.counts(SERVER), { waiting: 0, running: 0, parked: 0 });
      await world.add('b-1');
      await until(() => begun.length === 2);
    },
  );

  withServer(
    'a worker that dies loses its job to the next one; a job that kills two of them is parked',
    async (t) => {
      const world = await World.started(t);
      await world.add('a-1');
      for (let i = 0; i < 2; i++) assert.is(await world.dyingWorker(), 'begun a-1');
      const living = world.open(clusterUuid, 500);
      await until(async () => (await codeOf(living.check())) === 'none');
      const done: string[] = [];
      world.work(
        async ({ id }) => {
          done.push(id);
          return 'done';
        },
        1,
        living,
      );
      await until(async () => (await world.queues.counts(SERVER)).parked === 1);
      assert.match((await world.queues.list(SERVER, 'parked', 1))[0]!.note, /stalled/);
      await world.add('b-1');
      await until(() => done.length === 1);
      assert.equal(done, ['b-1']);
    },
  );

  withServer('a Redis that throws keys away is told apart', async (t) => {
    const world = await World.started(t, ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru']);
    const error = await world.queues.check().catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'CONFIG'));
    assert.match(error.message, /allkeys-lru.*config set maxmemory-policy noeviction/);
    await withRedis({ host: '127.0.0.1', port: world.redis.port }, (redis) =>
      redis.config('SET', 'maxmemory-policy', 'noeviction'),
    );
    assert.is(await codeOf(world.queues.check()), 'none');
  });

  withServer('two clusters in one Redis do not meet, and neither do two DataServers', async (t) => {
    const world = await World.started(t);
    const other = world.open('cd'.repeat(16));
    await until(async () => (await codeOf(other.check())) === 'none');
    await world.add('a-1');
    assert.is((await other.counts(SERVER)).waiting, 0);
    assert.is((await world.queues.counts(serverId(4))).waiting, 0);
    assert.is((await world.queues.counts(SERVER)).waiting, 1);
  });

  withServer('closing does not wait for a Redis that is away', async (t) => {
    const world = await World.started(t);
    world.work(async () => 'done');
    await world.add('a-1');
    await until(async () => (await world.queues.counts(SERVER)).waiting === 0);
    await world.redis.kill();
    await until(async () => (await codeOf(world.queues.check())) === 'UNAVAILABLE');
    const begun = performance.now();
    await world.queues.close();
    assert.ok(performance.now() - begun < 8000);
    assert.is(await codeOf(world.add('b-1')), 'CLOSED');
  });
}, 45_000);
