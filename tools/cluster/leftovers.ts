import { readFileSync } from 'node:fs';
import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KILL_AFTER_MS } from '../../common/limits.ts';

export interface Leftover {
  readonly pid: number;
  /** PM2's name for it, from its pid file. */
  readonly name: string;
}

/**
 * Processes of this cluster that still run although their PM2 is gone: after a `kill -9` of PM2 they live on with
 * nobody to restart them, and hold their ports and mounts. Recognised by the pid files of that PM2 and, because
 * process numbers are used again, by their working directory, which is the cluster's home.
 */
export async function findLeftovers(home: string, pm2Directory: string): Promise<Leftover[]> {
  const directory = join(pm2Directory, 'pids');
  const found: Leftover[] = [];
  for (const file of await filesOf(directory)) {
    const pid = Number(await readFile(join(directory, file), 'utf8'));
    if (Number.isInteger(pid) && pid > 1 && (await worksBelow(pid, home)))
      found.push({ pid, name: file.replace(/-\d+\.pid$/, '') });
  }
  return found;
}

/** Asks them to stop, waits as long as a server may take, then ends them. */
export async function endLeftovers(leftovers: readonly Leftover[], home: string): Promise<void> {
  for (const { pid } of leftovers) signal(pid, 'SIGINT');
  const deadline = Date.now() + KILL_AFTER_MS;
  let living = [...leftovers];
  while (living.length > 0 && Date.now() < deadline) {
    await sleep(100);
    const still = await Promise.all(living.map(({ pid }) => worksBelow(pid, home)));
    living = living.filter((_, i) => still[i]);
  }
  for (const { pid } of living) signal(pid, 'SIGKILL');
}

/** What a killed PM2 leaves in its directory and a new one would trip over. */
export async function clearStaleSockets(pm2Directory: string): Promise<void> {
  for (const name of ['rpc.sock', 'pub.sock', 'interactor.sock', 'pm2.pid'])
    await rm(join(pm2Directory, name), { force: true });
  await rm(join(pm2Directory, 'pids'), { recursive: true, force: true });
}

async function filesOf(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((file) => file.endsWith('.pid'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function worksBelow(pid: number, home: string): Promise<boolean> {
  try {
    const cwd = await readlink(`/proc/${pid}/cwd`);
    return cwd === home || cwd.startsWith(`${home}/`);
  } catch {
    // Ended, somebody else's, or a system without /proc: then its port being taken is what the operator is told.
    return false;
  }
}

/** Whether there is such a process; one that has ended and that nobody has asked about yet is none. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  if (process.platform !== 'linux') return true;
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    // It ended between the two questions.
    return false;
  }
}

function signal(pid: number, name: 'SIGINT' | 'SIGKILL'): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
