import type { TfsError } from '../../common/errors.ts';
import { SECTOR_BYTES } from '../kit/recorded-inode.ts';
import type { SimMedium } from './disk.ts';
import type { SimInode } from './disk-inode.ts';
import type { SimFileSystem } from './disk-names.ts';

/** How many of the writes are in the page cache at once, and not only when the caller hears of it. */
const AT_ONCE_SHARE = 0.75;
/** How many of those that nobody lives to hear of, and that are not there yet, were begun. */
const BEGUN_SHARE = 2 / 3;

interface Parts {
  readonly medium: SimMedium;
  readonly files: SimFileSystem;
  readonly inode: SimInode;
  /** Wall clock. */
  readonly now: number;
  readonly buffers: readonly Buffer[];
  readonly position: number;
}

/** One write: in the page cache when it is asked for or when it is answered; of one nobody lives to hear of a prefix. */
export class Writing {
  readonly #parts: Parts;
  readonly #length: number;
  /** Whether the page cache has it, or has said that it will not. */
  isStored = false;
  #refused: TfsError | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    let length = 0;
    for (const buffer of parts.buffers) length += buffer.length;
    this.#length = length;
    if (parts.medium.random.float() < AT_ONCE_SHARE) this.#store();
  }

  get range(): { readonly position: number; readonly end: number } {
    const { position } = this.#parts;
    return { position, end: position + this.#length };
  }

  /** @throws TfsError IO, READ_ONLY, DISK_FULL */
  complete(): void {
    if (!this.isStored) this.#store();
    if (this.#refused !== undefined) throw this.#refused;
  }

  orphaned(): void {
    if (!this.isStored && this.#parts.medium.random.float() < BEGUN_SHARE) this.#put([this.#prefix()]);
  }

  #store(): void {
    this.isStored = true;
    const { medium, files, inode, position, buffers } = this.#parts;
    const { path } = inode;
    const growth = inode.links > 0 ? position + this.#length - inode.size : 0;
    this.#refused =
      medium.faults.refusal('write', 'write', path) ??
      (growth > 0 && files.usedBytes + growth > medium.capacityBytes ? medium.faults.full(path) : undefined);
    if (this.#refused === undefined) this.#put(buffers);
    // What a short write leaves behind before the next one says why.
    else if (this.#refused.code === 'IO') this.#put([this.#prefix()]);
  }

  #put(buffers: readonly Buffer[]): void {
    const { files, inode, position, now } = this.#parts;
    files.resize(inode, () => inode.write(buffers, position, files.next()));
    inode.mtimeMs = now;
  }

  /** Of whole sectors. */
  #prefix(): Buffer {
    const sectors = Math.floor(this.#length / SECTOR_BYTES) + 1;
    const kept = this.#parts.medium.random.below(sectors + 1) * SECTOR_BYTES;
    return Buffer.concat(this.#parts.buffers).subarray(0, kept);
  }
}
