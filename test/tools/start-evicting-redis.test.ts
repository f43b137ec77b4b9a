import * as assert from 'uvu/assert';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { ManagedCluster } from '../kit/managed-cluster.ts';
import { RedisOfTest } from '../kit/redis-of-test.ts';
import { describe } from '../kit/suite.ts';

describe('npm start with a Redis of the operator', (test) => {
  const withServer = findRedisServer(process.env) === undefined ? test.skip : test;
  withServer(
    'a Redis that throws keys away is refused, with the reason and the remedy, and nothing is started',
    async (t) => {
      const redis = await RedisOfTest.open(t);
      redis.start(['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru']);
      await redis.untilUp();
      const cluster = await ManagedCluster.create(t, { REDIS_URL: redis.url });
      cluster.configure();
      const refused = await cluster.tool('start');
      assert.is(refused.code, 1);
      assert.match(refused.stderr, 'maxmemory-policy allkeys-lru');
      assert.match(refused.stderr, 'throws away keys');
      assert.match(refused.stderr, `redis-cli -u ${redis.url} config set maxmemory-policy noeviction`);
      assert.ok((await cluster.status()).processes.every(({ pid }) => pid === null));
    },
  );
}, 100_000);
