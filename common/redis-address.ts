import type { Config } from './config.ts';
import { ensureRedisPassword } from './secrets.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** The operator's own Redis, from the environment or else the configuration; undefined means the private one. */
export const redisUrl = (config: Config, env: Env): string | undefined =>
  env['REDIS_URL'] || config.redis.url;

/** @returns the URL to reach the cluster's Redis, with the password of the private one */
export async function redisAddress(config: Config, env: Env): Promise<string> {
  const url = redisUrl(config, env);
  if (url !== undefined) return url;
  return `redis://:${await ensureRedisPassword(config.home)}@127.0.0.1:${config.redis.port}`;
}
