import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The checkout, or wherever the package is installed: tools run from `dist/tools/`, tests from `tools/`. */
export const PACKAGE_ROOT = packageRoot(import.meta.dirname);

/** Where things are in a cluster's home directory. */
export const logsDir = (home: string): string => join(home, 'logs');
export const redisDir = (home: string): string => join(home, 'redis');
/** Which mounts this cluster has ever formatted. */
export const recordPath = (home: string): string => join(home, 'cluster.json');

/** PM2 hangs when the path of its sockets, `<dir>/interactor.sock`, does not fit a Unix socket address. */
const PM2_HOME_CHARS_MAX = 90;

/** PM2's own directory: one of its own for every cluster, so that it never meets another PM2 of the same user. */
export function pm2Home(home: string): string {
  const inHome = join(home, 'pm2');
  if (inHome.length <= PM2_HOME_CHARS_MAX) return inHome;
  const short = createHash('sha256').update(home).digest('hex').slice(0, 12);
  return join(tmpdir(), `tfs-pm2-${process.getuid?.() ?? 0}-${short}`);
}

/** Writes a small file so that after a crash it is the old one or the new one. */
export async function replaceFile(path: string, text: string, mode = 0o600): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w', mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** @returns undefined when there is no such file */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function packageRoot(from: string): string {
  const parts = from.split('/');
  const tools = parts.lastIndexOf('tools');
  const above = parts.slice(0, tools);
  if (above.at(-1) === 'dist') above.pop();
  return above.join('/');
}
