import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { ClusterProbe } from '../kit/cluster-probe.ts';
import { ProcessCluster, tinyPng } from '../kit/process-cluster.ts';
import { withRedis } from '../kit/redis-server.ts';
import { describe } from '../kit/suite.ts';

const NOTICED_MS_MAX = 20_000;
const LOGGED_MS_MAX = 5_000;

/** What a process says is in its log a moment later than what it answers. */
async function logged(cluster: ProcessCluster, text: string): Promise<void> {
  for (const untilMs = performance.now() + LOGGED_MS_MAX; !cluster.log('ns0').includes(text); await sleep(50))
    if (performance.now() > untilMs) assert.unreachable(`never logged: ${text}`);
}

describe('a Redis that is set to throw keys away while the cluster runs', (test) => {
  const withServer = findRedisServer(process.env) === undefined ? test.skip : test;
  withServer(
    'is not used for jobs, which an alarm says; pictures are stored and read; and used again later',
    async (t) => {
      const cluster = await ProcessCluster.start({ redis: true });
      t.defer(() => cluster.destroy());
      const probe = await ClusterProbe.open(cluster);
      t.defer(() => probe.close());
      const policy = (value: string) =>
        withRedis(cluster.redisAddress, (redis) => redis.config('SET', 'maxmemory-policy', value));
      await probe.untilLed(NOTICED_MS_MAX, ({ jobs }) => jobs !== undefined && jobs.trouble === undefined);
      const { name } = await cluster.put(tinyPng(randomBytes(8)));

      await policy('allkeys-lru');
      const { map } = await probe.untilLed(NOTICED_MS_MAX, ({ jobs }) => jobs?.trouble !== undefined);
      assert.match(map.jobs!.trouble!, /allkeys-lru.*noeviction/);
      await logged(cluster, 'the job queue is not used');
      const alarms = cluster
        .log('ns0')
        .split('\n')
        .filter((line) => line.includes('the job queue is not used'));
      assert.is(alarms.length, 1, 'said once');
      assert.is(JSON.parse(alarms[0]!).level, 'error');
      assert.is((await cluster.get(name)).status, 200);
      assert.is((await cluster.put(tinyPng(randomBytes(8)))).status, 201);
      for (const one of cluster.names) assert.ok(cluster.running(one), `${one} goes on`);

      await policy('noeviction');
      await probe.untilLed(NOTICED_MS_MAX, ({ jobs }) => jobs !== undefined && jobs.trouble === undefined);
      await logged(cluster, 'the job queue is used again');
    },
  );
}, 100_000);
