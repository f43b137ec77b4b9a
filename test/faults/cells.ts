import { rmSync } from 'node:fs';
import { withRedis } from '../kit/redis-server.ts';
import type { Cell, Mend } from './cell.ts';
import { damagedFiles, fullDisk } from './disks.ts';
import { partitions } from './partitions.ts';
import type { Part, Scene } from './scene.ts';
import { work } from './work.ts';

const PARTS: readonly Part[] = ['leader', 'standby', 'primary', 'secondary', 'gateway', 'redis'];
/** A killed process is back after its supervisor's pause and its start. */
const KILLED_MS = 3_000;

/** The supervisor brings it back. */
const killed = (part: Part): Cell => ({
  name: `kill -9 ${part}`,
  brokenMs: KILLED_MS,
  writesGoOn: true,
  breakIt: async (scene) => {
    scene.cluster.signal(await scene.find(part), 'SIGKILL');
    return () => scene.cluster.untilReady();
  },
});

/** It holds its sockets and its files, and does not know that time passes. */
const stopped = (part: Part, secondsLong: number): Cell => ({
  name: `SIGSTOP ${secondsLong} s ${part}`,
  brokenMs: secondsLong * 1000,
  writesGoOn: true,
  breakIt: async (scene) => {
    const name = await scene.find(part);
    scene.cluster.signal(name, 'SIGSTOP');
    return async () => scene.cluster.signal(name, 'SIGCONT');
  },
});

const flushall: Cell = {
  name: 'Redis FLUSHALL',
  brokenMs: 3_000,
  writesGoOn: true,
  breakIt: async ({ cluster }) => {
    await withRedis(cluster.redisAddress, (redis) => redis.flushall());
    return nothing;
  },
};

const redisDown: Cell = {
  name: 'Redis down for 20 s',
  brokenMs: 20_000,
  writesGoOn: true,
  breakIt: async ({ cluster }) => {
    await cluster.stopOne('redis', 'SIGKILL');
    return () => cluster.startOne('redis');
  },
};

export const allKilled: Cell = {
  name: 'kill -9 everything at once',
  brokenMs: KILLED_MS,
  writesGoOn: false,
  breakIt: async ({ cluster }) => {
    for (const name of cluster.names) if (cluster.running(name)) cluster.signal(name, 'SIGKILL');
    return () => cluster.untilReady();
  },
};

/** Only the DataServers know anything any more. */
const wiped: Cell = {
  name: 'both NameServers and Redis wiped',
  brokenMs: 1_000,
  writesGoOn: false,
  breakIt: async ({ cluster }) => {
    const gone = cluster.names.filter((name) => name.startsWith('ns') || name === 'redis');
    await Promise.all(gone.map((name) => cluster.stopOne(name, 'SIGKILL')));
    for (const { dir } of cluster.config.nameservers) rmSync(dir, { recursive: true, force: true });
    return async () => {
      await Promise.all(gone.map((name) => cluster.startOne(name)));
    };
  },
};

async function nothing(): ReturnType<Mend> {}

export const CELLS: readonly Cell[] = [
  ...PARTS.map(killed),
  ...PARTS.map((part) => stopped(part, 5)),
  ...PARTS.map((part) => stopped(part, 60)),
  ...partitions,
  flushall,
  redisDown,
  fullDisk,
  ...damagedFiles,
  allKilled,
  wiped,
  ...work,
];

/** A few of them, which find most of what the others would. */
export const SMOKE: readonly Cell[] = [
  killed('leader'),
  stopped('primary', 5),
  ...partitions.slice(0, 1),
  flushall,
  allKilled,
];

/** @returns why the cell cannot run in this scene */
export function refusal(cell: Cell, scene: Scene): string | undefined {
  return cell.needs === 'namespaces' ? scene.namespacesRefused : undefined;
}
