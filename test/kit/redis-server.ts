import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { HostPort } from '../../common/ids.ts';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import type { ProcessSpec } from './supervised-process.ts';

/** A Redis of a test's own, which keeps nothing on disk. */
export function redisSpec(address: HostPort, directory: string, logPath: string): ProcessSpec {
  const program = findRedisServer(process.env);
  if (program === undefined) throw new Error('redis-server is not installed: run "node tools/setup.mjs"');
  mkdirSync(directory, { recursive: true });
  const settings = {
    bind: address.host,
    port: String(address.port),
    'protected-mode': 'no',
    dir: directory,
    save: '',
    appendonly: 'no',
    'maxmemory-policy': 'noeviction',
  };
  return {
    name: 'redis',
    program,
    args: Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]),
    cwd: directory,
    env: { PATH: process.env['PATH'] },
    logPath,
    isReady: (giveUp) => answersPing(address, giveUp),
  };
}

/** Resolves when it does, or when nobody waits any more. */
export async function answersPing(address: HostPort, giveUp: AbortSignal): Promise<void> {
  while (!giveUp.aborted) {
    try {
      await withRedis(address, (redis) => redis.ping());
      return;
    } catch {
      // Not listening yet; whoever waits has a bound.
      await sleep(20);
    }
  }
}

export async function withRedis<T>({ host, port }: HostPort, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis({
    host,
    port,
    lazyConnect: true,
    connectTimeout: 2_000,
    commandTimeout: 2_000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  // The rejected command tells the same.
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}
