import { spawn } from 'node:child_process';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TfsError } from '../../common/errors.ts';
import { PACKAGE_ROOT, pm2Home } from './home.ts';
import { isRunning } from './leftovers.ts';

/** One process as PM2 sees it. */
export interface Pm2Process {
  readonly name: string;
  /** PM2's number for it. */
  readonly pmId: number;
  /** 0 while it does not run. */
  readonly pid: number;
  /** PM2's word: online, launching, stopping, stopped, errored, waiting restart. */
  readonly status: string;
  /** Of its last run. */
  readonly exitCode: number | undefined;
  readonly restarts: number;
  readonly startedAtMs: number;
  /** Number of the worker in cluster mode, else 0. */
  readonly instance: number;
}

/** The process manager of one cluster, driven through its command line. */
export interface Pm2 {
  readonly directory: string;
  /** Whether its daemon runs. Everything else here would start one. */
  alive(): Promise<boolean>;
  /** Empty when the daemon does not run. */
  list(): Promise<Pm2Process[]>;
  /** Starts the apps of `ecosystem.config.js`, or only the one of that name. */
  start(only?: string): Promise<void>;
  /** Replaces the processes of one app, taking what the configuration says now. */
  reload(name: string): Promise<void>;
  stop(names: readonly string[]): Promise<void>;
  /** Ends all processes and the daemon. */
  kill(): Promise<void>;
}

const zList = z.array(
  z.object({
    name: z.string(),
    pm_id: z.number(),
    pid: z.number().nullish(),
    pm2_env: z.object({
      status: z.string(),
      exit_code: z.number().nullish(),
      restart_time: z.number().nullish(),
      pm_uptime: z.number().nullish(),
      NODE_APP_INSTANCE: z.coerce.number().nullish(),
    }),
  }),
);

/** What processes inherit: nothing of the shell that happened to start them but what they need to run. */
const INHERITED = [
  'PATH',
  'HOME',
  'USER',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'REDIS_URL',
  'NODE_EXTRA_CA_CERTS',
];

export function pm2Of(home: string, env: Readonly<Record<string, string | undefined>>): Pm2 {
  const directory = pm2Home(home);
  const config = join(PACKAGE_ROOT, 'ecosystem.config.js');
  const command = (args: readonly string[]): Promise<string> => {
    const inherited = INHERITED.flatMap((key) => (env[key] === undefined ? [] : [[key, env[key]]]));
    return pm2Command(args, {
      ...Object.fromEntries(inherited),
      PM2_HOME: directory,
      PM2_DISABLE_VERSION_CHECK: '1',
      // Gateway workers accept by themselves from one shared socket. With the default, PM2's daemon accepts for them
      // and passes connections on; those on their way to a worker that is killed then hang until the client gives up.
      NODE_CLUSTER_SCHED_POLICY: 'none',
      TFS_HOME: home,
    });
  };
  const alive = () => answers(join(directory, 'rpc.sock'));
  return {
    directory,
    alive,
    list: async () => ((await alive()) ? parseList(await command(['-s', 'jlist'])) : []),
    start: async (only) => {
      await ownDirectory(directory);
      await command(['-s', 'start', config, ...(only === undefined ? [] : ['--only', only])]);
    },
    reload: async (name) => {
      await command(['-s', 'startOrReload', config, '--only', name, '--update-env']);
    },
    stop: async (names) => {
      if (names.length > 0) await command(['-s', 'stop', ...names]);
    },
    kill: async () => {
      if (!(await alive())) return;
      const pid = Number(await readFile(join(directory, 'pm2.pid'), 'utf8'));
      await command(['-s', 'kill']);
      await gone(pid);
    },
  };
}

const GONE_MS_MAX = 5_000;

/** The daemon answers that it ends before it does. */
async function gone(pid: number): Promise<void> {
  const deadline = performance.now() + GONE_MS_MAX;
  while (isRunning(pid) && performance.now() < deadline) await sleep(50);
}

/** A short directory for sockets may lie where everybody can make directories. */
async function ownDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const { uid, mode } = await stat(path);
  if (uid === process.getuid?.() && (mode & 0o022) === 0) return;
  throw new TfsError(
    'REFUSED',
    `${path} is not this user's alone: remove it, or give TFS_HOME a shorter path`,
  );
}

function pm2Command(args: readonly string[], env: Record<string, string | undefined>): Promise<string> {
  return new Promise((resolve, reject) => {
    const pm2 = join(PACKAGE_ROOT, 'node_modules', 'pm2', 'bin', 'pm2');
    const child = spawn(process.execPath, [pm2, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      err += data.toString();
    });
    child.on('error', reject);
    // Its daemon, if this started it, writes to files of its own and does not hold these pipes.
    child.on('close', (code) => {
      if (code === 0) return resolve(out);
      const said = `${err}${out}`.trim();
      reject(new TfsError('UNAVAILABLE', `"pm2 ${args.join(' ')}" failed with ${code}: ${said}`));
    });
  });
}

function parseList(text: string): Pm2Process[] {
  return zList.parse(JSON.parse(text)).map(({ name, pm_id, pid, pm2_env }) => ({
    name,
    pmId: pm_id,
    pid: pid ?? 0,
    status: pm2_env.status,
    exitCode: pm2_env.exit_code ?? undefined,
    restarts: pm2_env.restart_time ?? 0,
    startedAtMs: pm2_env.pm_uptime ?? 0,
    instance: pm2_env.NODE_APP_INSTANCE ?? 0,
  }));
}

/** Whether somebody listens on a Unix socket: a file that a killed daemon left behind does not count. */
function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once('connect', () => {
      connection.destroy();
      resolve(true);
    });
    connection.once('error', () => resolve(false));
  });
}
