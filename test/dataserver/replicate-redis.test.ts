import { setTimeout as sleep } from 'node:timers/promises';
import { BullQueues } from '../../common/adapters/bull-queues.ts';
import { silentLog } from '../../common/log.ts';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { FilledCluster, until } from '../kit/filled-cluster.ts';
import { RedisOfTest } from '../kit/redis-of-test.ts';
import { describe } from '../kit/suite.ts';

describe('a disk that is lost for good, with a real queue', (test) => {
  const withRedis = findRedisServer(process.env) === undefined ? test.skip : test;
  withRedis(
    'a queue that is emptied again and again, killed, and started empty: all is copied in the end',
    async (t) => {
      const redis = await RedisOfTest.open(t);
      redis.start();
      const queues = BullQueues.open({ url: redis.url, clusterUuid: 'ab'.repeat(16), log: silentLog });
      t.defer(() => queues.close());
      // A block takes several seconds.
      const world = await FilledCluster.start(t, { queues, jobBytesPerSecond: 200_000 });
      const { desk, dispatcher } = world.cluster.nameserver.jobs;
      await world.cluster.stopServer(4);
      const short = () => world.copies([4]).filter((count) => count < 3).length;
      await until('copying has begun', () => desk.grants.size > 0);
      for (let i = 0; i < 3; i++) {
        await redis.flush();
        await sleep(300);
      }
      await redis.kill();
      await until('it is noticed', () => dispatcher!.trouble !== undefined);
      redis.start();
      await until('it is used again', () => dispatcher!.trouble === undefined);
      await until('every block has three copies', () => short() === 0, 45_000);
      for (const { block } of world.blocks) await world.alike(block);
      await world.readAll();
    },
  );
}, 90_000);
