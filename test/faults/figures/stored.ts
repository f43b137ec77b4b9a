import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { type ConfigInput, defaultConfig } from '../../../common/config.ts';
import { dropCached } from '../../../tools/bench/page-cache.ts';
import { ProcessCluster, type ProcessClusterOptions } from '../../kit/process-cluster.ts';
import { ensureBuilt, runTfs } from '../../kit/run-tfs.ts';
import { type Acked, UploadLoad } from '../../kit/upload-load.ts';

export const MB = 1e6;
/** Of a picture. */
export const PICTURE_BYTES_MAX = 256 << 10;

export interface StoredOptions extends Omit<ProcessClusterOptions, 'config' | 'namespaces'> {
  readonly cluster?: Partial<ConfigInput['cluster']>;
  readonly config: Omit<Partial<ConfigInput>, 'cluster' | 'gateway'>;
  readonly keep: boolean;
}

/** Opens a cluster for a figure in which reads reach the disks, and takes it down whatever becomes of the figure. */
export async function withCluster<T>(
  { cluster: rules, config, keep, ...options }: StoredOptions,
  use: (cluster: ProcessCluster) => Promise<T>,
): Promise<T> {
  await ensureBuilt();
  const base = defaultConfig({ uuid: randomBytes(16).toString('hex') });
  const cluster = await ProcessCluster.start({
    ...options,
    config: {
      ...config,
      cluster: { ...base.cluster, ...rules },
      // Its ports are the cluster's own.
      gateway: { maxPictureBytes: PICTURE_BYTES_MAX, hotBytes: 0 } as ConfigInput['gateway'],
    },
  });
  try {
    return await use(cluster);
  } catch (error) {
    console.log(keep ? cluster.home : cluster.logs());
    throw error;
  } finally {
    if (keep) await cluster.killAll();
    else await cluster.destroy();
  }
}

/** Uploads pictures of up to {@link PICTURE_BYTES_MAX} bytes until there are so many bytes of them. */
export async function fill(cluster: ProcessCluster, bytes: number): Promise<Acked[]> {
  const load = new UploadLoad(cluster, 8, PICTURE_BYTES_MAX - 1024);
  load.deleting = false;
  while (bytesOf(load.acked) < bytes) await sleep(100);
  await load.stop();
  return load.acked;
}

/** Has every block sealed that holds a picture: a DataServer that stops has that done first, while the others are there. */
export async function sealAll(cluster: ProcessCluster): Promise<void> {
  for (const { id } of cluster.config.mounts) {
    await cluster.stopOne(`ds${id}`, 'SIGTERM');
    await cluster.startOne(`ds${id}`);
  }
  await cluster.writable(60_000);
}

export const bytesOf = (pictures: readonly Acked[]): number =>
  pictures.reduce((sum, picture) => sum + (picture.deleted ? 0 : picture.bytes), 0);

/** Has the page cache forget what is on the disks of these servers, so that reads are reads. */
export function forget(
  cluster: ProcessCluster,
  servers: readonly number[] = cluster.config.mounts.map(({ id }) => id),
): void {
  for (const server of servers) dropCached(cluster.mountPath(server));
}

/** The command line of that cluster. @returns the last JSON document it prints */
export async function tfs(cluster: ProcessCluster, ...args: string[]): Promise<Record<string, unknown>> {
  const end = await runTfs([...args, '--json'], { env: { TFS_HOME: cluster.home } });
  const last = end.json.at(-1);
  if (last === undefined) throw new Error(`tfs ${args.join(' ')}: ${end.stderr}\n${cluster.logs()}`);
  return last;
}

/** Sum of a metric over its labels. */
export async function metricOf(
  { host, adminPort }: { readonly host: string; readonly adminPort: number },
  name: string,
): Promise<number> {
  // A connection of its own: the server closes one that was not used for a while.
  const reply = await request(`http://${host}:${adminPort}/metrics`, { reset: true });
  const text = await reply.body.text();
  let sum = 0;
  for (const [, value] of text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, 'gm')))
    sum += Number(value);
  return sum;
}

/** Of all DataServers, or of these. */
export async function metricOfAll(
  cluster: ProcessCluster,
  name: string,
  servers?: readonly number[],
): Promise<number> {
  const mounts = cluster.config.mounts.filter(({ id }) => servers?.includes(id) ?? true);
  const values = await Promise.all(mounts.map((mount) => metricOf(mount, name)));
  return values.reduce((sum, value) => sum + value, 0);
}

/** Resolves when it is so. @throws Error when it is not so within that time */
export async function until(
  what: string,
  isSo: () => Promise<boolean> | boolean,
  withinMs: number,
  lookMs = 200,
): Promise<void> {
  const deadlineAt = performance.now() + withinMs;
  while (!(await isSo())) {
    if (performance.now() > deadlineAt) throw new Error(`waited ${withinMs} ms in vain until ${what}`);
    await sleep(lookMs);
  }
}

/** So many at a time, in order. */
export async function inParallel<T>(
  count: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: count }, worker));
}
