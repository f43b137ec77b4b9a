import { isTfsError } from '../../common/errors.ts';
import { SPARE_FILL_BYTES_PER_SECOND_BUSY } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { STORE_DIRECTORIES } from './api.ts';
import type { StoreContext } from './context.ts';

const STEP_BYTES = 1 << 20;
/** Appends this recent make the disk count as busy. */
const BUSY_MS = 1_000;
const BUSY_STEP_MS = (STEP_BYTES * 1000) / SPARE_FILL_BYTES_PER_SECOND_BUSY;

/**
 * Block files filled with zeros ahead of time: writing and syncing into space that is allocated is two to three times
 * faster than growing a file. Filling them takes most of what a disk can write, so while appends run it is slow.
 */
export class Spares {
  readonly #context: StoreContext;
  /** Paths of complete spares by their size. */
  readonly #ready = new Map<string, number>();
  #next = 0;
  #preparing: Promise<void> | undefined;

  private constructor(context: StoreContext) {
    this.#context = context;
  }

  static async open(context: StoreContext): Promise<Spares> {
    const spares = new Spares(context);
    for (const name of await context.disk.list(STORE_DIRECTORIES.spare)) {
      const path = inSpare(name);
      const number = /^(\d{1,9})\.(spare|tmp)$/.exec(name);
      if (number === null) continue;
      spares.#next = Math.max(spares.#next, Number(number[1]) + 1);
      if (number[2] === 'tmp') await context.discard(path);
      else spares.#ready.set(path, (await context.disk.stat(path))?.size ?? 0);
    }
    return spares;
  }

  get count(): number {
    return this.#ready.size;
  }

  get bytes(): number {
    let bytes = 0;
    for (const size of this.#ready.values()) bytes += size;
    return bytes;
  }

  /** @returns the path of a spare of that size, which is the caller's now */
  take(blockBytes: number): string | undefined {
    for (const [path, size] of this.#ready) {
      if (size !== blockBytes) continue;
      this.#ready.delete(path);
      return path;
    }
    return undefined;
  }

  /** One at a time; a call while another runs joins it. A full disk ends it quietly. */
  prepare(count: number, blockBytes: number): Promise<void> {
    this.#preparing ??= this.#prepare(count, blockBytes).finally(() => {
      this.#preparing = undefined;
    });
    return this.#preparing;
  }

  async close(): Promise<void> {
    await this.#preparing?.catch(() => undefined);
  }

  async #prepare(count: number, blockBytes: number): Promise<void> {
    const context = this.#context;
    for (const [path, size] of [...this.#ready]) {
      if (size === blockBytes) continue;
      this.#ready.delete(path);
      await context.discard(path);
    }
    while (this.#ready.size < count && this.#mayRun) {
      // Another block's worth stays free: what is kept in reserve must not be what makes the disk full.
      if ((await context.disk.space()).freeBytes < 2 * blockBytes) return;
      const number = this.#next++;
      const temporary = inSpare(`${number}.tmp`);
      const path = inSpare(`${number}.spare`);
      try {
        if (!(await this.#fill(temporary, blockBytes, count))) {
          await context.discard(temporary);
          return;
        }
        await context.disk.rename(temporary, path);
        await context.disk.syncDirectory(STORE_DIRECTORIES.spare);
      } catch (error) {
        await context.discard(temporary);
        if (!isTfsError(error, 'DISK_FULL')) throw context.failed(error, 'preparing a spare');
        context.log.warn({ blockBytes }, 'no space for a spare block');
        return;
      }
      this.#ready.set(path, blockBytes);
    }
  }

  /** @returns false when it was stopped half way */
  async #fill(path: string, blockBytes: number, wanted: number): Promise<boolean> {
    const { clock } = this.#context;
    const zeros = Buffer.alloc(Math.min(STEP_BYTES, blockBytes));
    const file: DiskFile = await this.#context.disk.open(path, 'create');
    try {
      for (let at = 0; at < blockBytes; at += zeros.length) {
        if (!this.#mayRun) return false;
        const step = at + zeros.length <= blockBytes ? zeros : zeros.subarray(0, blockBytes - at);
        await file.write([step], at);
        // A little at a time: one sync of it all would hold up every append behind it.
        await file.datasync();
        // Filling takes from the appends more than it gives back later: while they run, only a low pool is filled.
        while (this.#isBusy && this.#ready.size * 4 > wanted && this.#mayRun) await clock.sleep(BUSY_MS / 4);
        if (this.#isBusy) await clock.sleep(BUSY_STEP_MS);
      }
      return true;
    } finally {
      await file.close();
    }
  }

  get #isBusy(): boolean {
    return this.#context.clock.monotonic() - this.#context.appendedAtMs < BUSY_MS;
  }

  get #mayRun(): boolean {
    return !this.#context.closed && this.#context.failure === undefined;
  }
}

const inSpare = (name: string): string => `${STORE_DIRECTORIES.spare}/${name}`;
