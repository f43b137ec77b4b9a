import { request } from 'undici';
import type { Config } from '../../common/config.ts';
import { formatHostPort, type HostPort } from '../../common/ids.ts';
import { EXIT_REFUSED } from '../../common/limits.ts';
import { redisAddress, redisUrl } from '../../common/redis-address.ts';
import { type Status, zStatus } from '../../common/wire/control.ts';
import type { Pm2Process } from './pm2.ts';
import { pingRedis, withoutPassword } from './redis.ts';

/** One line of `tfs status`. */
export interface ProcessRow {
  readonly kind: 'redis' | 'nameserver' | 'dataserver' | 'gateway';
  readonly id: string;
  /** null when it does not run, or not here. */
  readonly pid: number | null;
  /** Where it serves: host:port, or the URL of a Redis that is not ours. */
  readonly address: string;
  /** Directory of a DataServer. */
  readonly mount: string | null;
  /** Of a NameServer: who leads. */
  readonly role: 'primary' | 'standby' | null;
  /**
   * What the process says of itself, `up` when all is well; where it does not answer: `starting`, `restarting` (it ended and is tried again),
   * `refused` (it will not start until somebody acts: see its log), `silent` (it runs and does not answer), `stopped`.
   */
  readonly state: string;
  /** Serves as it should. */
  readonly healthy: boolean;
  /** By the process manager, since `npm start`. */
  readonly restarts: number;
  /** Since its last start; null when it does not run, or not under the process manager. */
  readonly ageMs: number | null;
  /** What it says of itself besides; null when it does not answer. */
  readonly details: NonNullable<Status['details']> | null;
}

type Env = Readonly<Record<string, string | undefined>>;

const ASK_MS_MAX = 1_500;
/** A process younger than this that does not answer is starting. */
const STARTING_MS_MAX = 15_000;

/** Every process of the configuration, running or not, asked on its admin port and looked up in PM2's list. */
export async function listProcesses(
  config: Config,
  pm2: readonly Pm2Process[],
  env: Env,
): Promise<ProcessRow[]> {
  const named = (name: string) => pm2.find((candidate) => candidate.name === name);
  return Promise.all([
    redisRow(config, named('redis'), env),
    ...config.nameservers.map(async (ns) => {
      const managed = named(`nameserver-${ns.id}`);
      const said = await askStatus({ host: ns.host, port: ns.adminPort });
      const row = {
        kind: 'nameserver' as const,
        id: String(ns.id),
        address: formatHostPort(ns),
        mount: null,
      };
      return { ...row, ...observed(said, managed), role: said?.status.role ?? null };
    }),
    ...config.mounts.map(async (mount) => {
      const managed = named(`dataserver-${mount.id}`);
      const said = await askStatus({ host: mount.host, port: mount.adminPort });
      const row = { kind: 'dataserver' as const, id: String(mount.id), address: formatHostPort(mount) };
      return { ...row, mount: mount.path, role: null, ...observed(said, managed) };
    }),
    ...Array.from({ length: config.gateway.workers }, async (_, i) => {
      const managed = pm2.find((candidate) => candidate.name === 'gateway' && candidate.instance === i);
      const said = await askStatus({ host: '127.0.0.1', port: config.gateway.adminPort + i });
      const row = { kind: 'gateway' as const, id: String(i), address: formatHostPort(config.gateway) };
      return { ...row, mount: null, role: null, ...observed(said, managed) };
    }),
  ]);
}

function observed(
  said: Answer | undefined,
  managed: Pm2Process | undefined,
): Pick<ProcessRow, 'pid' | 'state' | 'healthy' | 'restarts' | 'ageMs' | 'details'> {
  const own = { restarts: managed?.restarts ?? 0, ageMs: ageOf(managed) };
  if (said === undefined)
    return {
      pid: managed?.pid || null,
      state: stateWithoutAnswer(managed),
      healthy: false,
      details: null,
      ...own,
    };
  const { pid, state, details = {} } = said.status;
  return { pid, state: said.ok ? 'up' : state, healthy: said.ok, details, ...own };
}

const ageOf = (managed: Pm2Process | undefined): number | null =>
  managed === undefined || managed.pid === 0 ? null : Math.max(0, Date.now() - managed.startedAtMs);

function stateWithoutAnswer(managed: Pm2Process | undefined): string {
  if (managed === undefined) return 'stopped';
  // PM2 calls a process that it will not restart "waiting restart" too.
  if (managed.pid === 0 && managed.exitCode === EXIT_REFUSED) return 'refused';
  if (managed.status === 'waiting restart') return 'restarting';
  if (managed.status === 'online' || managed.status === 'launching') {
    if (Date.now() - managed.startedAtMs > STARTING_MS_MAX) return 'silent';
    return managed.restarts > 0 ? 'restarting' : 'starting';
  }
  return managed.status;
}

async function redisRow(config: Config, managed: Pm2Process | undefined, env: Env): Promise<ProcessRow> {
  const url = await redisAddress(config, env);
  const own = redisUrl(config, env) !== undefined;
  const up = await pingRedis(url).then(
    () => true,
    () => false,
  );
  return {
    kind: 'redis',
    id: '0',
    pid: managed?.pid || null,
    address: own ? withoutPassword(url) : `127.0.0.1:${config.redis.port}`,
    mount: null,
    role: null,
    state: up ? 'up' : own ? 'unreachable' : stateWithoutAnswer(managed),
    healthy: up,
    restarts: managed?.restarts ?? 0,
    ageMs: ageOf(managed),
    details: null,
  };
}

interface Answer {
  readonly ok: boolean;
  readonly status: Status;
}

/** @returns undefined when nothing there answers with a status in time */
async function askStatus(admin: HostPort): Promise<Answer | undefined> {
  try {
    const reply = await request(`http://${formatHostPort(admin)}/healthz`, {
      signal: AbortSignal.timeout(ASK_MS_MAX),
    });
    const parsed = zStatus.safeParse(await reply.body.json());
    return parsed.success ? { ok: reply.statusCode === 200, status: parsed.data } : undefined;
  } catch {
    // Refused, hung or not one of ours: the caller looks at PM2's list instead.
    return undefined;
  }
}
