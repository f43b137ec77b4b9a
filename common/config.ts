import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { zImages } from './config-images.ts';
import { zPurgeSection } from './config-purge.ts';
import { zTfsRest } from './config-tfs-rest.ts';
import { zUploads } from './config-uploads.ts';
import { TfsError } from './errors.ts';
import {
  BLOCK_BYTES_DEFAULT,
  BLOCK_BYTES_MAX,
  BLOCK_BYTES_MIN,
  COMPACT_BYTES_PER_SECOND_DEFAULT,
  COMPACT_BYTES_PER_SECOND_MAX,
  COMPACT_BYTES_PER_SECOND_MIN,
  COMPACT_GARBAGE_PERCENT_DEFAULT,
  DEAD_MS,
  DEAD_MS_MIN,
  INDEX_BUDGET_BYTES_DEFAULT,
  JOB_BYTES_PER_SECOND_DEFAULT,
  JOB_BYTES_PER_SECOND_MIN,
  JOBS_PER_SERVER_DEFAULT,
  OPEN_BLOCKS_DEFAULT,
  OPEN_FILES_DEFAULT,
  PICTURE_BYTES_MAX_DEFAULT,
  REPLICAS_MAX,
  SCRUB_BYTES_PER_SECOND_DEFAULT,
  SCRUB_BYTES_PER_SECOND_MIN,
  SCRUB_PASS_MS_DEFAULT,
  SERVERS_MAX,
  SPARE_BLOCKS_DEFAULT,
  UNDELETE_WINDOW_MS_DEFAULT,
} from './limits.ts';

/**
 * The one configuration file of a cluster, `config.json` in its home directory, read by every process and by the
 * tools. What may be left out has a default; a key nobody knows is an error that names it, because a setting that is
 * misspelt and ignored is found out on the worst day.
 */

const MIB = 1024 * 1024;
const port = z.number().int().min(1).max(65_535);
const host = z.string().min(1).max(255);
const path = z.string().min(1).max(4096);
const count = (min: number, max: number) => z.number().int().min(min).max(max);

const zCluster = z.strictObject({
  /** 16 bytes in hex, drawn once: on every disk of the cluster, so that a disk of another one is noticed. */
  uuid: z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits'),
  /** Second character of every name. */
  digit: count(1, 9).default(1),
  /** Copies of a picture, each in a failure domain of its own. */
  replicas: count(1, REPLICAS_MAX).default(3),
  /** Copies without which nothing is acknowledged. */
  minWrite: count(1, REPLICAS_MAX).default(2),
  /** A DataServer that was silent for this long is given up: its copies are made again on others. */
  deadMs: z.number().int().min(DEAD_MS_MIN).default(DEAD_MS),
});

const zNameserver = z.strictObject({
  id: count(0, 1),
  host: host.default('127.0.0.1'),
  port,
  adminPort: port,
  dir: path,
});

const zMount = z.strictObject({
  /** For the life of the mount; never given to another one. */
  id: count(1, 65_535),
  path,
  host: host.default('127.0.0.1'),
  port,
  adminPort: port,
  /** What fails together: a disk, a machine, a rack. Two copies are never put into one. */
  domain: z.string().min(1).max(64),
  /** Weight in placement; the size of the file system when absent. */
  capacityBytes: z.number().int().positive().optional(),
});

const zGateway = z.strictObject({
  host: host.default('127.0.0.1'),
  port,
  /** Worker i answers /healthz and /metrics for itself on `adminPort + i`, on the loopback address. */
  adminPort: port,
  workers: count(1, 64).default(2),
  maxPictureBytes: count(1, BLOCK_BYTES_MAX).default(PICTURE_BYTES_MAX_DEFAULT),
  /** Store anything, not only pictures. */
  anyType: z.boolean().default(false),
  /** Where clients reach the gateway, when that is not http://host:port. */
  publicUrl: z.url({ protocol: /^https?$/ }).optional(),
  /** Hot pictures kept in the memory of each worker. */
  hotBytes: z
    .number()
    .int()
    .min(0)
    .default(64 * MIB),
  /**
   * What a picture is answered with while no replica that is confirmed as current can be reached: `available` sends what
   * others have, though it may have been deleted or hidden a moment ago; `fresh` says 503.
   */
  reads: z.enum(['available', 'fresh']).default('available'),
});

const zRedis = z.strictObject({
  /** The operator's own Redis. Without it `npm start` runs a private one on `port` of the loopback address. */
  url: z.url({ protocol: /^rediss?$/ }).optional(),
  port: port.optional(),
});

const zDataserver = z.strictObject({
  blockBytes: count(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX).default(BLOCK_BYTES_DEFAULT),
  openBlocks: count(1, 64).default(OPEN_BLOCKS_DEFAULT),
  spareBlocks: count(0, 1024).default(SPARE_BLOCKS_DEFAULT),
  indexBytes: z.number().int().min(MIB).default(INDEX_BUDGET_BYTES_DEFAULT),
  openFiles: count(16, 1_000_000).default(OPEN_FILES_DEFAULT),
  undeleteWindowMs: z.number().int().min(0).default(UNDELETE_WINDOW_MS_DEFAULT),
  /** Every replica is read through once in this, to find what has rotted; 0: only when somebody asks for it. */
  scrubPassMs: z.number().int().min(0).default(SCRUB_PASS_MS_DEFAULT),
  /** And no faster than this, however little time is left for it. */
  scrubBytesPerSecond: z
    .number()
    .int()
    .min(SCRUB_BYTES_PER_SECOND_MIN)
    .default(SCRUB_BYTES_PER_SECOND_DEFAULT),
});

const zJobs = z.strictObject({
  /** Jobs, such as making copies, at a time on each DataServer. */
  concurrency: count(1, 64).default(JOBS_PER_SERVER_DEFAULT),
  /** What all jobs of one DataServer may move. */
  bytesPerSecond: z.number().int().min(JOB_BYTES_PER_SECOND_MIN).default(JOB_BYTES_PER_SECOND_DEFAULT),
  /** What those of all DataServers may move together; no bound when absent. */
  clusterBytesPerSecond: z.number().int().min(JOB_BYTES_PER_SECOND_MIN).optional(),
});

const zCompaction = z.strictObject({
  /** A sealed block is rewritten when so much of it may go. */
  garbagePercent: count(1, 90).default(COMPACT_GARBAGE_PERCENT_DEFAULT),
  /** What the rewriting of one block may write on each of its DataServers. */
  bytesPerSecond: count(COMPACT_BYTES_PER_SECOND_MIN, COMPACT_BYTES_PER_SECOND_MAX).default(
    COMPACT_BYTES_PER_SECOND_DEFAULT,
  ),
});

const zShape = z.strictObject({
  cluster: zCluster,
  nameservers: z.array(zNameserver).min(1).max(2),
  mounts: z.array(zMount).min(1).max(SERVERS_MAX),
  gateway: zGateway,
  redis: zRedis,
  dataserver: zDataserver.default(() => zDataserver.parse({})),
  jobs: zJobs.default(() => zJobs.parse({})),
  compaction: zCompaction.default(() => zCompaction.parse({})),
  uploads: zUploads.default(() => zUploads.parse({})),
  tfsRest: zTfsRest.default(() => zTfsRest.parse({})),
  images: zImages.default(() => zImages.parse({})),
  purge: zPurgeSection.default(() => zPurgeSection.parse({})),
  log: z
    .strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') })
    .default({ level: 'info' }),
});
const zConfig = zShape.superRefine(checkTogether);

/** As written in the file: paths may be relative to the home directory. */
export type ConfigInput = z.input<typeof zConfig>;
/** Checked, defaults filled in, every path absolute. */
export interface Config extends z.output<typeof zConfig> {
  /** The directory that holds the file and, unless it says otherwise, all state. */
  readonly home: string;
}
export type MountConfig = Config['mounts'][number];
export type NameserverConfig = Config['nameservers'][number];
export type GatewayConfig = Config['gateway'];

export const HOME_DEFAULT = '.tfs';
export const configPath = (home: string): string => join(home, 'config.json');

/** Absolute; from the environment variable TFS_HOME, else `.tfs` where the command is run. */
export function homeFromEnv(env: Readonly<Record<string, string | undefined>>): string {
  return resolve(env['TFS_HOME'] || HOME_DEFAULT);
}

/** @throws TfsError CONFIG that names the file, the key and what to write instead */
export async function loadConfig(home: string): Promise<Config> {
  return readConfigSync(home);
}

/** As {@link loadConfig}, for the file that PM2 loads without waiting. */
export function readConfigSync(home: string): Config {
  const file = configPath(resolve(home));
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const what = missing
      ? `there is no ${file}: run "npm start" once to make it, or point TFS_HOME at the cluster's directory`
      : `cannot read ${file}: ${(cause as Error).message}`;
    throw new TfsError('CONFIG', what, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TfsError('CONFIG', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  return parseConfig(value, resolve(home), file);
}

/** @param home absolute; what relative paths are relative to @param file for messages */
export function parseConfig(value: unknown, home: string, file = configPath(home)): Config {
  const parsed = zConfig.safeParse(value);
  if (!parsed.success) {
    const lines = parsed.error.issues.map((issue) => `  ${describeIssue(issue)}`);
    throw new TfsError('CONFIG', `${file}:\n${lines.join('\n')}`);
  }
  const config = parsed.data;
  return {
    ...config,
    home,
    nameservers: config.nameservers.map((ns) => ({ ...ns, dir: resolve(home, ns.dir) })),
    mounts: config.mounts.map((mount) => ({ ...mount, path: resolve(home, mount.path) })),
    images: { ...config.images, diskDir: resolve(home, config.images.diskDir) },
  };
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const at = issue.path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  const where = at.replace(/^\./, '');
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `unknown key "${where ? `${where}.` : ''}${key}"`).join(', ');
  return `${where || 'the file'}: ${issue.message}`;
}

/** What no single value shows: things that must differ, and sums that must fit. */
function checkTogether(config: z.output<typeof zShape>, ctx: z.core.$RefinementCtx): void {
  const complain = (at: (string | number)[], message: string) =>
    ctx.addIssue({ code: 'custom', path: at, message, input: config });
  const { cluster, mounts, nameservers, gateway, redis, dataserver } = config;
  if (cluster.minWrite > cluster.replicas)
    complain(
      ['cluster', 'minWrite'],
      `${cluster.minWrite} is more than cluster.replicas ${cluster.replicas}`,
    );
  const domains = new Set(mounts.map((mount) => mount.domain)).size;
  if (domains < cluster.minWrite)
    complain(
      ['cluster', 'minWrite'],
      `${cluster.minWrite} copies need as many failure domains, and mounts[].domain has only ${domains}: ` +
        'add mounts, or lower cluster.minWrite',
    );
  unique(mounts, 'mounts', 'id', complain);
  unique(mounts, 'mounts', 'path', complain);
  unique(nameservers, 'nameservers', 'id', complain);
  // A record, its header and checksum table must fit beside a superblock; twice, so that blocks fill sensibly.
  if (gateway.maxPictureBytes * 2 > dataserver.blockBytes)
    complain(
      ['gateway', 'maxPictureBytes'],
      `${gateway.maxPictureBytes} is more than half of dataserver.blockBytes ${dataserver.blockBytes}`,
    );
  if (redis.url === undefined && redis.port === undefined)
    complain(['redis'], 'give "url" (your own Redis) or "port" (for the private one that "npm start" runs)');
  const taken = new Map<string, string>();
  for (const use of portsOf(config)) {
    const other = taken.get(`${use.host}:${use.port}`);
    if (other !== undefined) complain([], `port ${use.port} is given to both ${other} and ${use.what}`);
    taken.set(`${use.host}:${use.port}`, use.what);
  }
}

function unique<K extends string>(
  items: readonly Record<K, unknown>[],
  list: string,
  key: K,
  complain: (at: (string | number)[], message: string) => void,
): void {
  const seen = new Map<unknown, number>();
  items.forEach((item, i) => {
    const first = seen.get(item[key]);
    if (first !== undefined)
      complain([list, i, key], `${String(item[key])} is also ${list}[${first}].${key}`);
    seen.set(item[key], i);
  });
}

export interface PortUse {
  readonly host: string;
  readonly port: number;
  /** The setting it comes from. */
  readonly what: string;
}

/** Every port the processes of this configuration listen on, with the setting to change when it is taken. */
export function portsOf(config: Omit<Config, 'home'>): PortUse[] {
  const uses: PortUse[] = [{ host: config.gateway.host, port: config.gateway.port, what: 'gateway.port' }];
  for (let i = 0; i < config.gateway.workers; i++)
    uses.push({
      host: '127.0.0.1',
      port: config.gateway.adminPort + i,
      what: i === 0 ? 'gateway.adminPort' : `gateway.adminPort + ${i} (worker ${i})`,
    });
  config.nameservers.forEach((ns, i) => {
    uses.push({ host: ns.host, port: ns.port, what: `nameservers[${i}].port` });
    uses.push({ host: ns.host, port: ns.adminPort, what: `nameservers[${i}].adminPort` });
  });
  config.mounts.forEach((mount, i) => {
    uses.push({ host: mount.host, port: mount.port, what: `mounts[${i}].port` });
    uses.push({ host: mount.host, port: mount.adminPort, what: `mounts[${i}].adminPort` });
  });
  if (config.redis.url === undefined && config.redis.port !== undefined)
    uses.push({ host: '127.0.0.1', port: config.redis.port, what: 'redis.port' });
  return uses;
}

export const BASE_PORT_DEFAULT = 7500;

export interface DefaultConfigOptions {
  /** 32 hex digits. */
  readonly uuid: string;
  readonly mounts?: number;
  /** The gateway's; all others follow it within 100. */
  readonly basePort?: number;
  readonly redisUrl?: string;
}

/** One machine: two NameServers, three mounts as directories in the home, a gateway. */
export function defaultConfig(options: DefaultConfigOptions): ConfigInput {
  const base = options.basePort ?? BASE_PORT_DEFAULT;
  const mounts = options.mounts ?? 3;
  return {
    cluster: { uuid: options.uuid, digit: 1, replicas: 3, minWrite: Math.min(2, mounts) },
    nameservers: [
      { id: 0, host: '127.0.0.1', port: base + 10, adminPort: base + 11, dir: 'ns0' },
      { id: 1, host: '127.0.0.1', port: base + 12, adminPort: base + 13, dir: 'ns1' },
    ],
    mounts: Array.from({ length: mounts }, (_, i) => ({
      id: i + 1,
      path: `mounts/m${i + 1}`,
      host: '127.0.0.1',
      port: base + 22 + 2 * i,
      adminPort: base + 23 + 2 * i,
      domain: `d${i + 1}`,
    })),
    gateway: { host: '127.0.0.1', port: base, adminPort: base + 1, workers: 2 },
    redis: options.redisUrl === undefined ? { port: base + 9 } : { url: options.redisUrl },
  };
}
