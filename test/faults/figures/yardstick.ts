import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ProcessCluster, ProcessName } from '../../kit/process-cluster.ts';
import { forget } from './stored.ts';

const MIB = 1 << 20;
/** What the kernel counts processor time in, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/**
 * How long plain programs take to write as many bytes, with one fdatasync at the end, into the mounts of these servers, all
 * of them side by side. They write what is in block files of the same mount.
 *
 * @param isCopied whether these have to be read from the disk; otherwise the page cache has them
 * @returns seconds
 */
export async function diskSeconds(
  cluster: ProcessCluster,
  {
    servers,
    bytes,
    isCopied,
  }: { readonly servers: readonly number[]; readonly bytes: number; readonly isCopied: boolean },
): Promise<number> {
  const mib = Math.ceil(bytes / servers.length / MIB);
  const side = (to: string) =>
    Promise.all(servers.map((server) => copyBlocks(cluster.mountPath(server), mib, to)));
  if (isCopied) forget(cluster, servers);
  else await side('/dev/null');
  const startedAt = performance.now();
  await side('yardstick.tmp');
  const took = (performance.now() - startedAt) / 1000;
  for (const server of servers) rmSync(join(cluster.mountPath(server), 'yardstick.tmp'), { force: true });
  return took;
}

/** @param to relative to the mount */
async function copyBlocks(mount: string, mib: number, to: string): Promise<void> {
  const blocks = join(mount, 'blocks');
  const sources = readdirSync(blocks)
    .filter((name) => name.endsWith('.blk'))
    .map((name) => join(blocks, name));
  const sync = to === '/dev/null' ? '' : 'conv=fdatasync';
  const script = `to=$1; mib=$2; shift 2; cat "$@" | dd of="$to" bs=1M count="$mib" iflag=fullblock ${sync} status=none`;
  const args = ['-c', script, 'sh', resolve(mount, to), String(mib), ...sources];
  const child = spawn('sh', args, { stdio: 'ignore' });
  const code = await new Promise<number | null>((done, reject) => {
    child.once('error', reject);
    child.once('close', done);
  });
  if (code !== 0) throw new Error(`copying ${mib} MiB of ${blocks} to ${to} ended with ${code}`);
}

/** Processor time that these have used since they began, together. */
export function cpuSeconds(cluster: ProcessCluster, names: readonly ProcessName[]): number {
  const ticks = names.map((name) => {
    // Behind the name of the program, which may contain anything.
    const fields = readFileSync(`/proc/${cluster.pid(name)}/stat`, 'utf8')
      .split(') ')[1]!
      .split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS_PER_SECOND;
}
