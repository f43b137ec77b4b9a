import { randomBytes } from 'node:crypto';
import { mkdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Config,
  configPath,
  defaultConfig,
  loadConfig,
  parseConfig,
  portsOf,
} from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { formatHostPort } from '../../common/ids.ts';
import { ensureImageKeys } from '../../common/image-keys.ts';
import { redisUrl } from '../../common/redis-address.ts';
import { ensureClusterKey, ensureGatewayRole, ensureToken } from '../../common/secrets.ts';
import { readTokens } from '../../common/tokens-file.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { appsOf } from './ecosystem.ts';
import { logsDir, readIfThere, replaceFile } from './home.ts';
import { adoptMount, surveyMounts } from './mounts.ts';
import { takenPorts } from './ports.ts';
import { checkOwnRedis, findRedisServer, preparePrivateRedis } from './redis.ts';
import { fullDisks, mib } from './space.ts';

type Env = Readonly<Record<string, string | undefined>>;
export type Say = (line: string) => void;

export interface FirstStart {
  readonly basePort?: number | undefined;
  readonly mounts?: number | undefined;
}

/**
 * Reads the configuration and checks its ports. At the first start it makes one, with a REDIS_URL that is given kept in
 * it, and writes it only when its ports are free, so that another `--port` can still be chosen.
 */
export async function ensureConfig(home: string, env: Env, first: FirstStart, say: Say): Promise<Config> {
  const file = configPath(home);
  const chosen = first.basePort !== undefined || first.mounts !== undefined;
  if ((await readIfThere(file)) !== undefined) {
    if (chosen)
      throw new TfsError(
        'CONFIG',
        `${file} is there already, so --port and --mounts change nothing: edit that file, or choose another TFS_HOME`,
      );
    const config = await loadConfig(home);
    await checkPorts(config, `change the setting in ${file}`);
    return config;
  }
  const input = defaultConfig({
    uuid: randomBytes(16).toString('hex'),
    ...(first.basePort === undefined ? {} : { basePort: first.basePort }),
    ...(first.mounts === undefined ? {} : { mounts: first.mounts }),
    ...(env['REDIS_URL'] ? { redisUrl: env['REDIS_URL'] } : {}),
  });
  const config = parseConfig(input, home, file);
  await checkPorts(config, 'choose other ports: npm start -- --port 8500');
  await mkdir(home, { recursive: true, mode: 0o700 });
  await replaceFile(file, `${JSON.stringify(input, null, 2)}\n`);
  say(`first start: wrote ${file}`);
  return config;
}

/** Everything that must be right before a process is started; each failure says what to do. */
export async function prepare(config: Config, env: Env, say: Say, allowFull: boolean): Promise<void> {
  await prepareSecrets(config);
  await prepareRedis(config, env);
  const survey = await surveyMounts(config);
  const domains = new Set([...survey.fresh, ...survey.known].map((mount) => mount.domain)).size;
  for (const mount of survey.missing)
    say(
      `MISSING: ${mount.path} of DataServer ${mount.id} was formatted for this cluster and is now empty or gone. ` +
        'Mount its disk. If it is lost for good, a new disk is a new DataServer: give it an "id" in config.json ' +
        'that was never used.',
    );
  if (survey.missing.length > 0 && domains < config.cluster.minWrite)
    throw new TfsError(
      'REFUSED',
      `only ${domains} of ${config.cluster.minWrite} failure domains that a write needs have their disk (see above)`,
    );
  await checkSpace(config, [...survey.fresh, ...survey.known], allowFull);
  for (const mount of survey.fresh) {
    await adoptMount(config, mount);
    say(`formatted ${mount.path} for DataServer ${mount.id}`);
  }
  await mkdir(logsDir(config.home), { recursive: true });
}

/** As long as processes that were killed just before `npm start` may take to let go of them on a busy machine. */
const PORT_PATIENCE_MS = 5_000;

/** @throws TfsError CONFLICT with every port that is taken and the setting that chose it */
async function checkPorts(config: Config, remedy: string): Promise<void> {
  const taken = await takenPorts(portsOf(config), PORT_PATIENCE_MS);
  if (taken.length === 0) return;
  const lines = taken.map((use) => `  ${formatHostPort(use)} (${use.what}): ${use.why}`);
  throw new TfsError(
    'CONFLICT',
    `${taken.length === 1 ? 'a port is' : 'ports are'} not free:\n${lines.join('\n')}\n` +
      `See who has it with "ss -ltnp 'sport = :${taken[0]?.port}'" and stop that, or ${remedy}`,
  );
}

async function prepareSecrets(config: Config): Promise<void> {
  const keyring = Keyring.ofSecret(await ensureClusterKey(config.home));
  await ensureGatewayRole(config.home, () => keyring.exportRole('gateway'));
  await ensureToken(config.home);
  // What a gateway would refuse to start with is told here.
  await readTokens(config);
  await ensureImageKeys(config.home);
}

async function prepareRedis(config: Config, env: Env): Promise<void> {
  const url = redisUrl(config, env);
  if (url !== undefined) return checkOwnRedis(url);
  if (findRedisServer(env) === undefined)
    throw new TfsError(
      'REFUSED',
      'redis-server is not installed: "node tools/setup.mjs" installs it or says how; if it is somewhere unusual, give ' +
        'its path in REDIS_SERVER; or set REDIS_URL to a Redis of yours (redis://host:6379)',
    );
  await preparePrivateRedis(config);
}

async function checkSpace(config: Config, mounts: Config['mounts'], allowFull: boolean): Promise<void> {
  const full = await fullDisks(config, mounts);
  if (full.length === 0 || allowFull) return;
  const lines = full.map(
    ({ paths, freeBytes, neededBytes }) =>
      `  ${paths.join(', ')}: ${mib(freeBytes)} free, ${mib(neededBytes)} needed for one new block on each mount`,
  );
  throw new TfsError(
    'DISK_FULL',
    `the disk is full:\n${lines.join('\n')}\n` +
      'Free some space, move the mounts to a larger disk (mounts[].path in config.json), or lower ' +
      'dataserver.blockBytes before the first start. To read and delete what is stored anyway: npm start -- --allow-full',
  );
}

const LOG_BYTES_MAX = 64 * 1024 * 1024;

/** Keeps one older file of each process's log. Only while nothing runs, or PM2 would write on into the older one. */
export async function rotateLogs(config: Config, env: Env): Promise<void> {
  for (const { name } of appsOf(config, env)) {
    const file = join(logsDir(config.home), `${name}.log`);
    const size = await stat(file).then(
      (s) => s.size,
      () => 0,
    );
    if (size > LOG_BYTES_MAX) await rename(file, `${file}.1`);
  }
}
