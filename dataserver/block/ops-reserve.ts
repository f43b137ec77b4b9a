import { isTfsError } from '../../common/errors.ts';
import type { Disk, DiskFile } from '../../common/seams/disk.ts';
import { inBlocks, type StoreContext } from './context.ts';

const PATH = inBlocks('ops.reserve');
/** Given back at a time: enough for a thousand ops. */
const STEP_BYTES = 64 * 1024;

/**
 * Gives the space back for a start on a full disk, before there is a store: without it there would be none.
 *
 * @returns whether there was some
 * @throws TfsError IO, READ_ONLY
 */
export async function releaseReserve(disk: Disk): Promise<boolean> {
  const size = (await disk.stat(PATH))?.size ?? 0;
  if (size === 0) return false;
  const file = await disk.open(PATH, 'write');
  try {
    await file.truncate(Math.max(0, size - STEP_BYTES));
    await file.datasync();
  } finally {
    await file.close();
  }
  return true;
}

/** Space kept for the ops logs, so that a full disk can still delete. */
export class OpsReserve {
  readonly #context: StoreContext;
  readonly #full: number;
  #bytes = 0;

  private constructor(context: StoreContext, bytes: number) {
    this.#context = context;
    this.#full = bytes;
  }

  static async open(context: StoreContext, bytes: number): Promise<OpsReserve> {
    const reserve = new OpsReserve(context, bytes);
    const stats = await context.disk.stat(PATH);
    reserve.#bytes = stats?.size ?? 0;
    await reserve.refill();
    return reserve;
  }

  /** Takes the space back, where there is some again. */
  async refill(): Promise<void> {
    if (this.#bytes >= this.#full || this.#context.failure !== undefined) return;
    const { freeBytes } = await this.#context.disk.space();
    if (freeBytes < 4 * this.#full) return;
    await this.#change(async (file) => {
      await file.write([Buffer.alloc(this.#full - this.#bytes)], this.#bytes);
      // Written, not only claimed by a size: a sparse file reserves nothing.
      await file.datasync();
      this.#bytes = this.#full;
    });
  }

  /** @returns whether there was some space left to give */
  async release(): Promise<boolean> {
    if (this.#bytes === 0) return false;
    const before = this.#bytes;
    const left = Math.max(0, before - STEP_BYTES);
    await this.#change(async (file) => {
      await file.truncate(left);
      // File systems hand freed space out again only once the change is committed.
      await file.datasync();
      this.#bytes = left;
    });
    return this.#bytes < before;
  }

  /** A failure ends the store's writing; here it only means that there is nothing to give. */
  async #change(work: (file: DiskFile) => Promise<void>): Promise<void> {
    const { disk, log } = this.#context;
    try {
      const exists = (await disk.stat(PATH)) !== undefined;
      const file = await disk.open(PATH, exists ? 'write' : 'create');
      try {
        await work(file);
      } finally {
        await file.close();
      }
    } catch (error) {
      if (isTfsError(error, 'DISK_FULL')) log.warn({ path: PATH }, 'no space to reserve for deletions');
      else this.#context.failed(error, 'ops reserve');
    }
  }
}
