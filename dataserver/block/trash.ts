import { isTfsError, toTfsError } from '../../common/errors.ts';
import { TRASH_FREE_PERCENT_MIN } from '../../common/limits.ts';
import { STORE_DIRECTORIES } from './api.ts';
import { inBlocks, type StoreContext } from './context.ts';

interface Kept {
  readonly path: string;
  /** Wall clock. */
  readonly atMs: number;
  readonly bytes: number;
}

/**
 * Files that were replaced because they were damaged, kept for a while for a person who may want to look: each under
 * its own name and the time, `trash/<name>.<milliseconds since 1970>`. Nothing ever reads them back.
 */
export class Trash {
  readonly #context: StoreContext;
  readonly #keepMs: number;
  /** Oldest first. */
  #kept: Kept[] = [];

  private constructor(context: StoreContext, keepMs: number) {
    this.#context = context;
    this.#keepMs = keepMs;
  }

  static async open(context: StoreContext, keepMs: number): Promise<Trash> {
    const trash = new Trash(context, keepMs);
    for (const name of await context.disk.list(STORE_DIRECTORIES.trash)) {
      const time = /\.(\d{1,15})$/.exec(name)?.[1];
      if (time === undefined) continue;
      const path = inTrash(name);
      const bytes = (await context.disk.stat(path))?.size ?? 0;
      trash.#kept.push({ path, atMs: Number(time), bytes });
    }
    trash.#kept.sort((a, b) => a.atMs - b.atMs);
    return trash;
  }

  get files(): number {
    return this.#kept.length;
  }

  get bytes(): number {
    return this.#kept.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * Gives a file of `blocks/` a second name here, durably: whatever takes its first name, it stays for the grace time.
   *
   * @throws TfsError NOT_FOUND when there is no such file; IO where the file system has no second names
   */
  async keep(name: string): Promise<void> {
    const { disk, clock } = this.#context;
    for (let atMs: number = clock.now(); ; atMs++) {
      const path = inTrash(`${name}.${atMs}`);
      try {
        await disk.link(inBlocks(name), path);
      } catch (error) {
        if (isTfsError(error, 'CONFLICT')) continue;
        throw error;
      }
      this.#kept.push({ path, atMs, bytes: (await disk.stat(path))?.size ?? 0 });
      await disk.syncDirectory(STORE_DIRECTORIES.trash);
      return;
    }
  }

  /** Removes what has been kept long enough, and the oldest while the disk is nearly full. To be called now and then. */
  async purge(): Promise<void> {
    const { clock } = this.#context;
    while (this.#kept.length > 0 && this.#context.failure === undefined) {
      const isOld = clock.now() - this.#kept[0]!.atMs >= this.#keepMs;
      if (!isOld && !(await this.#isNearlyFull())) return;
      await this.release();
    }
  }

  /** Removes all of it, however young. @returns how many files there were */
  async clear(): Promise<number> {
    let count = 0;
    while (await this.release()) count++;
    return count;
  }

  /** Removes the oldest file. @returns whether there was one */
  async release(): Promise<boolean> {
    const oldest = this.#kept.shift();
    if (oldest === undefined) return false;
    await this.#context.discard(oldest.path);
    return true;
  }

  async #isNearlyFull(): Promise<boolean> {
    try {
      const { totalBytes, freeBytes } = await this.#context.disk.space();
      return freeBytes * 100 < totalBytes * TRASH_FREE_PERCENT_MIN;
    } catch (error) {
      this.#context.log.warn({ err: toTfsError(error) }, 'the free space of the disk is unknown');
      return false;
    }
  }
}

const inTrash = (name: string): string => `${STORE_DIRECTORIES.trash}/${name}`;
