import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { RedisLockStore } from '../../../common/adapters/redis-lock-store.ts';
import { isTfsError } from '../../../common/errors.ts';
import { LOCK_CALL_MS_MAX } from '../../../common/limits.ts';
import { findRedisServer } from '../../../tools/cluster/redis.ts';
import { lockStoreContract } from '../../contract/lock-store.ts';
import { RedisOfTest } from '../../kit/redis-of-test.ts';
import { withRedis } from '../../kit/redis-server.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const REDIS = findRedisServer(process.env);
const clusterUuid = 'ab'.repeat(16);

class World {
  readonly store: RedisLockStore;
  readonly redis: RedisOfTest;

  private constructor(t: TestContext, redis: RedisOfTest) {
    this.redis = redis;
    this.store = RedisLockStore.open({ url: redis.url, clusterUuid });
    t.defer(() => this.store.close());
  }

  static async open(t: TestContext): Promise<World> {
    return new World(t, await RedisOfTest.open(t));
  }

  static async started(t: TestContext): Promise<World> {
    const world = await World.open(t);
    world.redis.start();
    await world.answers();
    return world;
  }

  take(owner: string): Promise<{ granted: boolean }> {
    return this.store.take({ owner, ttlMs: 10_000, epoch: 1 });
  }

  /** Waits until the store has connected. */
  async answers(): Promise<void> {
    for (;;) {
      try {
        await this.store.take({ owner: 'probe', ttlMs: 1, epoch: 0 });
        await sleep(5);
        return;
      } catch (error) {
        if (!isTfsError(error, 'UNAVAILABLE')) throw error;
        await sleep(20);
      }
    }
  }

  async isUnavailable(): Promise<boolean> {
    return this.take('a').then(
      () => false,
      (error: unknown) => isTfsError(error, 'UNAVAILABLE'),
    );
  }

  get client(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.redis.port };
  }
}

describe('RedisLockStore', (test) => {
  const withServer = REDIS === undefined ? test.skip : test;

  lockStoreContract(Object.assign(withServer, { skip: test.skip }) as typeof test, async (t) => {
    const world = await World.started(t);
    return { store: world.store, pass: (ms) => sleep(ms), goDown: () => world.redis.kill() };
  });

  withServer('a Redis that is not there yet is found when it comes, and after it went', async (t) => {
    const world = await World.open(t);
    assert.ok(await world.isUnavailable());
    world.redis.start();
    await world.answers();
    assert.ok((await world.take('a')).granted);
    await world.redis.kill();
    assert.ok(await world.isUnavailable());
    world.redis.start();
    await world.answers();
    assert.ok((await world.take('b')).granted, 'it remembers nothing');
  });

  withServer(
    'a Redis that hangs delays nothing, piles nothing up, and is used again when it wakes',
    async (t) => {
      const world = await World.started(t);
      world.redis.signal('SIGSTOP');
      for (let i = 0; i < 3; i++) {
        const begun = performance.now();
        assert.ok(await world.isUnavailable());
        // Far from what a default of the library would wait.
        assert.ok(performance.now() - begun < LOCK_CALL_MS_MAX * 8);
      }
      world.redis.signal('SIGCONT');
      await world.answers();
      assert.ok((await world.take('a')).granted);
    },
  );

  withServer('a lock without an end, and an epoch that is none, are overwritten', async (t) => {
    const world = await World.started(t);
    await withRedis(world.client, async (redis) => {
      await redis.set(`tfs:{${clusterUuid}}:leader`, 'somebody');
      await redis.set(`tfs:{${clusterUuid}}:epoch`, 'no number');
    });
    const answer = await world.store.take({ owner: 'a', ttlMs: 10_000, epoch: 3 });
    assert.equal(answer, { granted: true, epoch: 3 });
  });

  withServer('two clusters in one Redis do not meet', async (t) => {
    const world = await World.started(t);
    const { url } = world.redis;
    const other = RedisLockStore.open({ url, clusterUuid: 'cd'.repeat(16) });
    t.defer(() => other.close());
    assert.ok((await world.take('a')).granted);
    for (;;) {
      try {
        const answer = await other.take({ owner: 'b', ttlMs: 10_000, epoch: 0 });
        assert.equal(answer, { granted: true, epoch: 0 });
        return;
      } catch (error) {
        if (!isTfsError(error, 'UNAVAILABLE')) throw error;
        await sleep(20);
      }
    }
  });
}, 30_000);
