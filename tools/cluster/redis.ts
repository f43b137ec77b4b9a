import { accessSync, constants } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { Redis } from 'ioredis';
import { evictionPolicyIn } from '../../common/adapters/redis-policy.ts';
import type { Config } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { ensureRedisPassword } from '../../common/secrets.ts';
import { redisDir, replaceFile } from './home.ts';

type Env = Readonly<Record<string, string | undefined>>;

const PING_MS_MAX = 3_000;
/** Where distributions put a server that an ordinary user's PATH does not reach. */
const MORE_DIRECTORIES = ['/usr/bin', '/usr/local/bin', '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/bin'];

export const redisConfPath = (home: string): string => join(redisDir(home), 'redis.conf');

/** @returns the path of redis-server, from REDIS_SERVER if that is given; undefined when it is not installed */
export function findRedisServer(env: Env): string | undefined {
  const given = env['REDIS_SERVER'];
  if (given) return isExecutable(given) ? given : undefined;
  const directories = [...(env['PATH'] ?? '').split(delimiter).filter(Boolean), ...MORE_DIRECTORIES];
  return directories.map((directory) => join(directory, 'redis-server')).find(isExecutable);
}

/**
 * Writes the private server's configuration: reachable from this machine alone and with a password, because other
 * users share the machine; nothing on disk, because nothing in it is the only copy of anything; never evicting. It
 * has a port rather than a socket file so that a second server on the same place fails instead of taking it over.
 */
export async function preparePrivateRedis(config: Config): Promise<void> {
  await mkdir(redisDir(config.home), { recursive: true, mode: 0o700 });
  const lines = [
    'bind 127.0.0.1',
    `port ${config.redis.port}`,
    'protected-mode yes',
    `requirepass ${await ensureRedisPassword(config.home)}`,
    'daemonize no',
    `dir ${JSON.stringify(redisDir(config.home))}`,
    'save ""',
    'appendonly no',
    'maxmemory 256mb',
    'maxmemory-policy noeviction',
  ];
  await replaceFile(redisConfPath(config.home), `${lines.join('\n')}\n`);
}

/** Without the user and password, for people to see. */
export function withoutPassword(url: string): string {
  const parsed = new URL(url);
  parsed.username = '';
  parsed.password = '';
  return parsed.href.replace(/\/$/, '');
}

/** @throws TfsError UNAVAILABLE when nothing there answers PING in time */
export async function pingRedis(url: string): Promise<void> {
  await withRedis(url, (redis) => redis.ping());
}

/**
 * Refuses a Redis that cannot be reached, and one that evicts: when its memory fills up it would silently drop queued
 * work and the leader's lock.
 *
 * @throws TfsError UNAVAILABLE or CONFIG, with the remedy
 */
export async function checkOwnRedis(url: string): Promise<void> {
  const policy = await evictionPolicyOf(url);
  if (policy === 'noeviction') return;
  throw new TfsError(
    'CONFIG',
    `the Redis at ${withoutPassword(url)} has maxmemory-policy ${policy ?? 'unknown'}: when its memory is full it ` +
      'throws away keys, which here are queued repairs and the lock that tells who leads. Set it to noeviction: ' +
      `redis-cli -u ${withoutPassword(url)} config set maxmemory-policy noeviction (and in its redis.conf)`,
  );
}

/**
 * @returns what it does when its memory is full, in its own words; undefined when it does not tell
 * @throws TfsError UNAVAILABLE
 */
export function evictionPolicyOf(url: string): Promise<string | undefined> {
  return withRedis(url, async (redis) => {
    await redis.ping();
    return evictionPolicyIn(await redis.info('memory'));
  });
}

async function withRedis<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: PING_MS_MAX,
    commandTimeout: PING_MS_MAX,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  let lastError: Error | undefined;
  redis.on('error', (error: Error) => {
    lastError = error;
  });
  try {
    await redis.connect();
    return await use(redis);
  } catch (cause) {
    const why = (lastError ?? (cause as Error)).message;
    throw new TfsError(
      'UNAVAILABLE',
      `no Redis answers at ${withoutPassword(url)} (${why}): start it, or correct REDIS_URL or redis.url in config.json`,
      { cause },
    );
  } finally {
    redis.disconnect();
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Not there or not ours to run: the next directory may have it.
    return false;
  }
}
