import { join } from 'node:path';
import { type Config, homeFromEnv, readConfigSync } from '../../common/config.ts';
import { EXIT_REFUSED, KILL_AFTER_MS } from '../../common/limits.ts';
import { redisUrl } from '../../common/redis-address.ts';
import { logsDir, PACKAGE_ROOT, redisDir } from './home.ts';
import { findRedisServer, redisConfPath } from './redis.ts';

/** One entry of `apps` in `ecosystem.config.js`, in PM2's words. */
export interface App {
  readonly name: string;
  readonly script: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly [option: string]: unknown;
}

type Env = Readonly<Record<string, string | undefined>>;

/** What `ecosystem.config.js` exports: the processes of the cluster whose home is TFS_HOME. */
export function ecosystem(env: Env): App[] {
  const config = readConfigSync(homeFromEnv(env));
  return appsOf(config, env);
}

/** Every process of a configuration, the ones that others need first. */
export function appsOf(config: Config, env: Env): App[] {
  const apps: App[] = [];
  if (redisUrl(config, env) === undefined) apps.push(redis(config, env));
  for (const ns of config.nameservers)
    apps.push(
      server(config, `nameserver-${ns.id}`, 'nameserver/main.js', {
        ...shared(config, env),
        TFS_NAMESERVER: String(ns.id),
      }),
    );
  for (const mount of config.mounts)
    apps.push(
      server(config, `dataserver-${mount.id}`, 'dataserver/main.js', {
        ...shared(config, env),
        TFS_SERVER: String(mount.id),
        // One thread may sit in the fdatasync of each open block while others read; must be set before Node starts.
        UV_THREADPOOL_SIZE: '8',
      }),
    );
  apps.push({
    ...server(config, 'gateway', 'client/gateway/main.js', shared(config, env)),
    exec_mode: 'cluster',
    instances: config.gateway.workers,
  });
  return apps;
}

/**
 * PM2 counts exits younger than `min_uptime`, but only within `min_uptime × max_restarts` of the start; at
 * `max_restarts` of them it gives the process up, and with a delay set it even shows it as "waiting restart" for
 * ever. A count that is never reached makes it try again for as long as it takes, at a steady pace: a server that
 * cannot come up now must be there as soon as it can. A growing delay would keep it away for up to 15 s after a
 * fault is mended. What a restart cannot help ends with {@link EXIT_REFUSED} and stays stopped.
 */
const RESTARTS = { restart_delay: 200, max_restarts: 1_000_000_000, stop_exit_codes: [EXIT_REFUSED] };

function server(config: Config, name: string, script: string, env: Record<string, string>): App {
  const log = join(logsDir(config.home), `${name}.log`);
  return {
    name,
    script: join(PACKAGE_ROOT, 'dist', script),
    cwd: config.home,
    exec_mode: 'fork',
    wait_ready: true,
    listen_timeout: 15_000,
    kill_timeout: KILL_AFTER_MS,
    ...RESTARTS,
    out_file: log,
    error_file: log,
    merge_logs: true,
    // PM2's in-process agent, and its look for a version control system on every start.
    pmx: false,
    vizion: false,
    env,
  };
}

function redis(config: Config, env: Env): App {
  const log = join(logsDir(config.home), 'redis.log');
  return {
    name: 'redis',
    script: findRedisServer(env) ?? 'redis-server',
    args: [redisConfPath(config.home)],
    interpreter: 'none',
    cwd: redisDir(config.home),
    exec_mode: 'fork',
    kill_timeout: 5_000,
    ...RESTARTS,
    out_file: log,
    error_file: log,
    merge_logs: true,
    pmx: false,
    vizion: false,
    env: {},
  };
}

function shared(config: Config, env: Env): Record<string, string> {
  const url = env['REDIS_URL'];
  return { TFS_HOME: config.home, NODE_ENV: 'production', ...(url ? { REDIS_URL: url } : {}) };
}
