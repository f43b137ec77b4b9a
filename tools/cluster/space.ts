import { mkdir, stat, statfs } from 'node:fs/promises';
import type { Config } from '../../common/config.ts';

/** Logs, PM2's files, the NameServer's checkpoint. */
export const HOME_FREE_BYTES_MIN = 64 * 1024 * 1024;

export interface FullDisk {
  /** Directories of the cluster on this file system. */
  readonly paths: readonly string[];
  readonly freeBytes: number;
  readonly neededBytes: number;
  /** Servers whose mounts are on it; none when only the home is. */
  readonly servers: readonly number[];
}

/**
 * File systems without room for one more block on each of their mounts (and a little for logs where the home is).
 * Several mounts may share one file system: their needs add up.
 *
 * @param mounts the mounts whose directories are there
 */
export async function fullDisks(config: Config, mounts: Config['mounts']): Promise<FullDisk[]> {
  const needs = [
    { path: config.home, bytes: HOME_FREE_BYTES_MIN, server: undefined },
    ...mounts.map((mount) => ({
      path: mount.path,
      bytes: config.dataserver.blockBytes,
      server: mount.id as number | undefined,
    })),
  ];
  const disks = new Map<number, { paths: string[]; needed: number; free: number; servers: number[] }>();
  for (const need of needs) {
    await mkdir(need.path, { recursive: true });
    const { dev } = await stat(need.path);
    const { bavail, bsize } = await statfs(need.path);
    const disk = disks.get(dev) ?? { paths: [], needed: 0, free: bavail * bsize, servers: [] };
    disk.paths.push(need.path);
    disk.needed += need.bytes;
    if (need.server !== undefined) disk.servers.push(need.server);
    disks.set(dev, disk);
  }
  return [...disks.values()]
    .filter((disk) => disk.free < disk.needed)
    .map(({ paths, needed, free, servers }) => ({ paths, freeBytes: free, neededBytes: needed, servers }));
}

export const mib = (bytes: number): string => `${Math.round(bytes / (1024 * 1024))} MiB`;
