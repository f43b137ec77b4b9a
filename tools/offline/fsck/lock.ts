import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Whether a DataServer serves the mount now: it holds a lock on kv/LOCK, which the kernel lists. Asking for the lock
 * itself would write to the mount. Where the kernel does not tell, the answer is no.
 */
export async function isServed(mountPath: string): Promise<boolean> {
  try {
    const { ino } = await stat(join(mountPath, 'kv', 'LOCK'));
    const locks = await readFile('/proc/locks', 'utf8');
    // "1: POSIX  ADVISORY  WRITE 4242 fd:00:262146 0 EOF"; a line of a process that waits for the lock has "->".
    return locks.split('\n').some((line) => !line.includes('->') && line.includes(`:${ino} `));
  } catch {
    // No lock file, or no such list on this system.
    return false;
  }
}
