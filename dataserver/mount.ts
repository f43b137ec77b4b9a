import { mkdir, readdir, stat } from 'node:fs/promises';
import { z } from 'zod';
import { NodeDisk } from '../common/adapters/node-disk.ts';
import { isTfsError, TfsError } from '../common/errors.ts';
import { type Incarnation, incarnationOf, type ServerId, serverId } from '../common/ids.ts';
import type { Disk } from '../common/seams/disk.ts';
import { releaseReserve } from './block/ops-reserve.ts';
import { readDurable, writeDurable } from './durable-file.ts';

/** Says whose disk this is; its presence is what makes a directory a mount. Written last by {@link formatMount}. */
export const MOUNT_FILE = 'mount.tfs';
const INCARNATION_FILE = 'incarnation.tfs';
const WRITABLE_FILE = 'writable.tmp';
export const MOUNT_DIRECTORIES = ['blocks', 'spare', 'surplus', 'trash', 'kv'] as const;
/** What a freshly made file system may hold already. */
const IGNORED = new Set(['lost+found']);

const zMount = z.object({
  format: z.literal(1),
  clusterUuid: z.string().regex(/^[0-9a-f]{32}$/),
  server: z
    .number()
    .int()
    .transform((n) => serverId(n)),
  formattedAt: z.string(),
});
export type MountIdentity = z.infer<typeof zMount>;

const zIncarnationFile = z.object({ incarnation: z.number().int() });

export interface MountOwner {
  readonly path: string;
  /** 32 hex digits. */
  readonly clusterUuid: string;
  readonly server: ServerId;
}

/**
 * Makes an empty directory a mount of this cluster. Refuses a directory that holds anything, so that a wrong path
 * or somebody's data is never taken over.
 */
export async function formatMount({ path, clusterUuid, server }: MountOwner): Promise<MountIdentity> {
  await mkdir(path, { recursive: true });
  const found = (await readdir(path)).filter((name) => !IGNORED.has(name));
  if (found.length > 0) {
    const known = found.includes(MOUNT_FILE) ? ' (it is formatted already)' : '';
    throw refused(
      `${path} is not empty${known}: it holds ${found.slice(0, 3).join(', ')}${found.length > 3 ? ', …' : ''}. ` +
        'Give an empty directory, or empty this one yourself if nothing in it is needed.',
    );
  }
  return formatDisk(await NodeDisk.open(path), { path, clusterUuid, server, formattedAt: new Date() });
}

/** Makes an empty disk a mount of this cluster; that it is empty is for the caller to know. */
export async function formatDisk(
  disk: Disk,
  { clusterUuid, server, formattedAt }: MountOwner & { readonly formattedAt: Date },
): Promise<MountIdentity> {
  for (const directory of MOUNT_DIRECTORIES) await disk.mkdir(directory);
  await disk.syncDirectory('');
  const identity: MountIdentity = { format: 1, clusterUuid, server, formattedAt: formattedAt.toISOString() };
  await writeDurable(disk, MOUNT_FILE, identity);
  return identity;
}

/** @returns who the directory belongs to, or undefined when it is not a formatted mount */
export async function readMount(path: string): Promise<MountIdentity | undefined> {
  const stats = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
    throw new TfsError('IO', `${path}: cannot be read (${cause.code ?? String(cause)})`, { cause });
  });
  return stats?.isDirectory() === true ? readIdentity(await NodeDisk.open(path), path) : undefined;
}

/**
 * @param path of the disk, for messages
 * @returns who the disk belongs to, or undefined when it is not formatted
 */
async function readIdentity(disk: Disk, path: string): Promise<MountIdentity | undefined> {
  const size = await disk.stat(MOUNT_FILE).then((stats) => stats?.size);
  if (size === 0)
    throw refused(`${path}/${MOUNT_FILE} is empty: the disk lost it. Restore the mount or replace it.`);
  const stored = await readDurable(disk, MOUNT_FILE);
  if (stored === undefined) return undefined;
  const parsed = zMount.safeParse(stored);
  if (!parsed.success) throw refused(`${path}/${MOUNT_FILE} is of a format this version does not know`);
  return parsed.data;
}

/**
 * Opens the mount of a DataServer that is about to start.
 *
 * @throws TfsError REFUSED, which ends the process with exit code 78: the directory is missing, not formatted, not
 *   mounted or mounted read-only, belongs to another cluster, or is another DataServer's disk
 */
export async function openMount(owner: MountOwner): Promise<{ disk: Disk }> {
  const { path, server } = owner;
  const isDirectory = await stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );
  if (!isDirectory) throw refused(`${path} does not exist. Is the disk of DataServer ${server} mounted?`);
  const disk = await NodeDisk.open(path);
  await takeDisk(disk, owner);
  return { disk };
}

/**
 * Makes sure of the disk of a DataServer that is about to start.
 *
 * @throws TfsError REFUSED: it is not formatted, read-only, of another cluster, or another DataServer's
 */
export async function takeDisk(disk: Disk, { path, clusterUuid, server }: MountOwner): Promise<void> {
  const identity = await readIdentity(disk, path);
  if (identity === undefined) {
    throw refused(
      `${path} is not a formatted mount. If the disk of DataServer ${server} is not mounted, mount it; ` +
        `for a new, empty disk run: tfs format ${path}`,
    );
  }
  if (identity.clusterUuid !== clusterUuid) {
    throw refused(`${path} belongs to cluster ${identity.clusterUuid}, this is cluster ${clusterUuid}`);
  }
  if (identity.server !== server) {
    throw refused(`${path} is the disk of DataServer ${identity.server}, not of DataServer ${server}`);
  }
  // Derived data may have been removed by hand; what holds pictures may not.
  await disk.mkdir('kv');
  await disk.mkdir('spare');
  await disk.mkdir('surplus');
  await disk.mkdir('trash');
  await checkWritable(disk, path);
}

/** Without a new incarnation on the disk a process could not even be told from its predecessor. */
async function checkWritable(disk: Disk, path: string): Promise<void> {
  try {
    const file = await disk.open(WRITABLE_FILE, 'create');
    await file.close();
    await disk.unlink(WRITABLE_FILE);
  } catch (error) {
    if (!isTfsError(error, 'READ_ONLY')) throw error;
    throw refused(
      `${path} is mounted read-only, perhaps because the disk failed: look at the kernel log, check the disk, ` +
        'remount it for writing and start this DataServer again',
      error,
    );
  }
}

/** @returns 0 before the first start @throws TfsError CORRUPT, IO */
export async function readIncarnation(disk: Disk): Promise<number> {
  const stored = (await readDurable(disk, INCARNATION_FILE)) ?? { incarnation: 0 };
  return zIncarnationFile.parse(stored).incarnation;
}

/**
 * Grows the mount's incarnation by one, durably, before anybody hears of it. On a full disk it takes of the space that is
 * kept for deletions: a DataServer that could not start would not even be read from.
 *
 * @throws TfsError REFUSED where the last one cannot be told; DISK_FULL, IO, READ_ONLY
 */
export async function nextIncarnation(disk: Disk): Promise<Incarnation> {
  let last: number;
  try {
    last = await readIncarnation(disk);
  } catch (error) {
    if (!isTfsError(error, 'CORRUPT')) throw error;
    throw refused(
      `${INCARNATION_FILE} is damaged, so this disk cannot prove how recent it is. Replace the disk, or empty it and format it again; its blocks are re-copied.`,
      error,
    );
  }
  const next = incarnationOf(last + 1);
  try {
    await writeDurable(disk, INCARNATION_FILE, { incarnation: next });
  } catch (error) {
    if (!isTfsError(error, 'DISK_FULL') || !(await releaseReserve(disk))) throw error;
    await writeDurable(disk, INCARNATION_FILE, { incarnation: next });
  }
  return next;
}

const refused = (message: string, cause?: unknown): TfsError => new TfsError('REFUSED', message, { cause });
