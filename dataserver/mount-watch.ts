import { TfsError } from '../common/errors.ts';
import type { Incarnation } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import type { Disk } from '../common/seams/disk.ts';
import { MOUNT_FILE, readIncarnation } from './mount.ts';

/**
 * Whether the directory is still the disk that this process opened. A disk may be unmounted under a running process, or
 * another one mounted over it: what is written then goes to the wrong file system, and what is read comes from it.
 */
export class MountWatch {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #incarnation: Incarnation;
  readonly #identity: string;

  private constructor(parts: { disk: Disk; path: string; incarnation: Incarnation; identity: string }) {
    this.#disk = parts.disk;
    this.#path = parts.path;
    this.#incarnation = parts.incarnation;
    this.#identity = parts.identity;
  }

  /** @throws TfsError REFUSED when the mount has gone since it was opened */
  static async open(disk: Disk, path: string, incarnation: Incarnation): Promise<MountWatch> {
    const identity = await disk.identity(MOUNT_FILE);
    if (identity === undefined)
      throw new TfsError('REFUSED', `${path}: ${MOUNT_FILE} is gone: is it mounted?`);
    return new MountWatch({ disk, path, incarnation, identity });
  }

  /**
   * @returns READ_ONLY when the disk is not there any more: nothing may be written from then on; REFUSED when another
   *   process has begun to serve it: this one must end. Neither is ever taken back.
   * @throws TfsError IO when it cannot be said now
   */
  async look(): Promise<TfsError | undefined> {
    const identity = await this.#disk.identity(MOUNT_FILE);
    if (identity !== this.#identity) {
      mark('mount-gone');
      const what =
        identity === undefined
          ? `is not mounted any more (${MOUNT_FILE} is gone)`
          : `is not the disk any more that was there (${MOUNT_FILE} is another file)`;
      return new TfsError('READ_ONLY', `${this.#path} ${what}: mount the disk of this DataServer there`);
    }
    const incarnation = await readIncarnation(this.#disk);
    if (incarnation === this.#incarnation) return undefined;
    mark('mount-taken');
    return new TfsError(
      'REFUSED',
      `${this.#path} is served by another process (incarnation ${incarnation}, this one is ${this.#incarnation}): ` +
        'two on one disk would destroy it, so this one ends',
    );
  }
}
