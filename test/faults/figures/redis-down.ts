import { setTimeout as sleep } from 'node:timers/promises';
import { withRedis } from '../../kit/redis-server.ts';
import { seconds } from '../cell.ts';
import { type Figure, verdict, withScene } from './report.ts';

const REST_MS = 3_000;
const WRITABLE_MS_MAX = 60_000;

/** Redis away for a long time, back empty, emptied once more; then a cold start of everything else without it. */
export const redisDownFigure: Figure = (options) =>
  withScene(options, async (scene) => {
    const { cluster } = scene;
    const load = scene.startLoad();
    await sleep(REST_MS);
    const fromMs = performance.now();
    await cluster.stopOne('redis', 'SIGKILL');
    await sleep(options.seconds * 1000);
    await cluster.startOne('redis');
    await sleep(REST_MS);
    await withRedis(cluster.redisAddress, (redis) => redis.flushall());
    await sleep(REST_MS);
    const healedMs = performance.now();
    await sleep(REST_MS);
    await load.stop();
    const { text, wrong } = await verdict(scene, load, [{ fromMs, healedMs }]);

    await cluster.killAll();
    const startedAt = performance.now();
    await Promise.all(cluster.names.filter((name) => name !== 'redis').map((name) => cluster.startOne(name)));
    const readyMs = performance.now() - startedAt;
    await cluster.writable(WRITABLE_MS_MAX);
    const writableMs = performance.now() - startedAt;
    return {
      line:
        `Redis away for ${options.seconds} s, back empty, FLUSHALL: ${text}; cold start without Redis: ` +
        `writable after ${seconds(writableMs)} (processes ready after ${seconds(readyMs)})`,
      wrong,
    };
  });
