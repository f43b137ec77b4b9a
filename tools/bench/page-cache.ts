import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Asks the system to forget what it has cached of the files below `directory`. @returns whether it could be asked */
export function dropCached(directory: string): boolean {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  // dd tells the kernel POSIX_FADV_DONTNEED for the whole file; only clean pages go, hence the sync first.
  if (spawnSync('sync', ['-f', directory]).status !== 0) return false;
  return files.every(
    (file) => spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']).status === 0,
  );
}
