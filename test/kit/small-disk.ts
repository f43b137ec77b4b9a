import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { TestContext } from './suite.ts';

const exec = promisify(execFile);

/**
 * Mounts a file system of its own on an existing directory, until the test is over.
 *
 * @param size of `mount`, as in `8m`
 * @returns false, with the reason printed, where this machine or user may not
 */
export async function mountSmallDisk(t: TestContext, path: string, size: string): Promise<boolean> {
  try {
    await exec('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tfs-test', path]);
  } catch (error) {
    process.stdout.write(
      `SKIPPED a disk of its own: cannot mount one here (${(error as Error).message.trim()})\n`,
    );
    return false;
  }
  // Gone already where the test took it away.
  t.defer(() => exec('umount', ['-l', path]).catch(() => undefined));
  return true;
}

/** Away under a running process, which keeps its open files: what a pulled disk or `umount -l` looks like. */
export const unmount = (path: string): Promise<unknown> => exec('umount', ['-l', path]);

export const remount = (path: string, how: 'ro' | 'rw'): Promise<unknown> =>
  exec('mount', ['-o', `remount,${how}`, path]);
