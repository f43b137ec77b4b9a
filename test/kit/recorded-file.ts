import { assert, TfsError } from '../../common/errors.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { type Inode, SECTOR_BYTES } from './recorded-inode.ts';
import type { RecordingDisk } from './recording-disk.ts';

/** An open file of a {@link RecordingDisk}. */
export class RecordedFile implements DiskFile {
  readonly #disk: RecordingDisk;
  readonly #inode: Inode;
  readonly #path: string;
  readonly #writable: boolean;
  #closed = false;
  #inFlight = 0;
  #idle: (() => void) | undefined;

  constructor(disk: RecordingDisk, inode: Inode, path: string, writable: boolean) {
    this.#disk = disk;
    this.#inode = inode;
    this.#path = path;
    this.#writable = writable;
  }

  read(target: Buffer, position: number): Promise<number> {
    return this.#atOnce(() => {
      this.#disk.begin('read', `read ${this.#path}`);
      const { content, unreadable } = this.#inode;
      if (
        unreadable !== undefined &&
        position < unreadable.end &&
        position + target.length > unreadable.start
      )
        throw new TfsError('IO', `read ${this.#path}: EIO (planned)`);
      return position >= content.length ? 0 : content.copy(target, 0, position, position + target.length);
    });
  }

  write(buffers: readonly Buffer[], position: number): Promise<void> {
    assert(this.#writable, `${this.#path} was opened for writing`);
    return this.#run(() => this.#write(buffers, position));
  }

  writeDurable(buffers: readonly Buffer[], position: number): Promise<void> {
    assert(this.#writable, `${this.#path} was opened for writing`);
    return this.#run(async () => {
      await this.#write(buffers, position);
      await this.#datasync();
    });
  }

  datasync(): Promise<void> {
    return this.#run(() => this.#datasync());
  }

  truncate(size: number): Promise<void> {
    assert(this.#writable, `${this.#path} was opened for writing`);
    return this.#run(async () => {
      this.#disk.begin('write', `truncate ${this.#path}`);
      this.#inode.truncate(size);
      await this.#disk.step();
    });
  }

  size(): Promise<number> {
    return this.#atOnce(() => {
      this.#disk.begin('read', `stat ${this.#path}`);
      return this.#inode.content.length;
    });
  }

  async close(): Promise<void> {
    assert(!this.#closed, `${this.#path} is closed once`);
    this.#closed = true;
    if (this.#inFlight === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }

  async #write(buffers: readonly Buffer[], position: number): Promise<void> {
    const data = buffers.length === 1 ? Buffer.from(buffers[0]!) : Buffer.concat(buffers);
    this.#disk.calls.write++;
    const growth = Math.max(0, position + data.length - this.#inode.content.length);
    const full = growth > 0 && this.#disk.usedBytes + growth > this.#disk.capacityBytes;
    const error =
      this.#disk.due('write', `write ${this.#path}`) ??
      (full ? new TfsError('DISK_FULL', `write ${this.#path}: no space`) : undefined);
    if (error !== undefined) {
      // A prefix: what a short write leaves behind before the next one says why.
      const stored = full
        ? 0
        : Math.floor((this.#disk.tearing() * data.length) / SECTOR_BYTES) * SECTOR_BYTES;
      if (stored > 0) this.#inode.write(data.subarray(0, stored), position);
      await this.#disk.step();
      throw error;
    }
    this.#inode.write(data, position);
    await this.#disk.step();
  }

  async #datasync(): Promise<void> {
    this.#disk.calls.sync++;
    const error = this.#disk.due('sync', `fdatasync ${this.#path}`);
    if (error === undefined && this.#disk.ignoresSync?.(this.#path)) return this.#disk.step();
    if (error === undefined) this.#inode.settle();
    else this.#inode.forget();
    await this.#disk.step();
    if (error !== undefined) throw error;
  }

  /** What waits for nothing. */
  #atOnce<T>(operation: () => T): Promise<T> {
    assert(!this.#closed, `${this.#path} is used before it is closed`);
    try {
      return Promise.resolve(operation());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #run<T>(operation: () => Promise<T>): Promise<T> {
    assert(!this.#closed, `${this.#path} is used before it is closed`);
    this.#inFlight++;
    try {
      return await operation();
    } finally {
      if (--this.#inFlight === 0) this.#idle?.();
    }
  }
}
