import { assert } from '../../common/errors.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import type { SimMedium } from './disk.ts';
import type { SimInode, SyncPoint } from './disk-inode.ts';
import type { SimFileSystem } from './disk-names.ts';
import type { CallKind, SimDisk } from './disk-seam.ts';
import { Writing } from './disk-writing.ts';

/** An open file of a {@link SimMedium}. */
export class SimFile implements DiskFile {
  readonly #disk: SimDisk;
  readonly #medium: SimMedium;
  readonly #files: SimFileSystem;
  readonly #inode: SimInode;
  readonly #isWritable: boolean;
  #isClosed = false;
  #inFlight = 0;
  #idle: (() => void) | undefined;
  readonly #ended = (): void => {
    if (--this.#inFlight === 0) this.#idle?.();
  };

  constructor(parts: {
    readonly disk: SimDisk;
    readonly medium: SimMedium;
    readonly files: SimFileSystem;
    readonly inode: SimInode;
    readonly isWritable: boolean;
  }) {
    this.#disk = parts.disk;
    this.#medium = parts.medium;
    this.#files = parts.files;
    this.#inode = parts.inode;
    this.#isWritable = parts.isWritable;
  }

  read(target: Buffer, position: number): Promise<number> {
    return this.#call('read', `disk pread ${this.#path}`, () => {
      this.#medium.refuse('read', 'read', this.#path);
      this.#medium.refuseSectors(this.#inode, this.#path, position, position + target.length);
      return this.#inode.read(target, position);
    });
  }

  write(buffers: readonly Buffer[], position: number): Promise<void> {
    if (this.#disk.isOver) return never();
    const writing = this.#begin(buffers, position);
    return this.#call(
      'write',
      `disk write ${this.#path}`,
      () => writing.complete(),
      () => writing.orphaned(),
    );
  }

  writeDurable(buffers: readonly Buffer[], position: number): Promise<void> {
    if (this.#disk.isOver) return never();
    const writing = this.#begin(buffers, position);
    const inode = this.#inode;
    const { sequence } = this.#files;
    const early = writing.isStored ? inode.beginSync(sequence, writing.range) : undefined;
    return this.#call(
      'sync',
      `disk dwrite ${this.#path}`,
      () => {
        try {
          writing.complete();
        } catch (error) {
          if (early !== undefined) inode.endSync();
          throw error;
        }
        this.#sync(early ?? inode.beginSync(this.#files.sequence, writing.range));
      },
      () => {
        writing.orphaned();
        if (early !== undefined) inode.endSync();
        inode.settleSome(early ?? inode.everything(this.#files.sequence), this.#medium.random);
        this.#files.tellDurable(inode);
      },
    );
  }

  datasync(): Promise<void> {
    if (this.#disk.isOver) return never();
    this.#check();
    const inode = this.#inode;
    const point = inode.beginSync(this.#files.sequence);
    return this.#call(
      'sync',
      `disk datasync ${this.#path}`,
      () => this.#sync(point),
      () => {
        inode.endSync();
        inode.settleSome(point, this.#medium.random);
        this.#files.tellDurable(inode);
      },
    );
  }

  truncate(size: number): Promise<void> {
    if (this.#disk.isOver) return never();
    assert(this.#isWritable, `${this.#path} was opened for writing`);
    this.#check();
    const refused = this.#medium.faults.refusal('write', 'truncate', this.#path);
    if (refused === undefined)
      this.#files.resize(this.#inode, () => this.#inode.truncate(size, this.#files.next()));
    this.#inode.mtimeMs = this.#disk.now;
    return this.#call('write', `disk truncate ${this.#path}`, () => {
      if (refused !== undefined) throw refused;
    });
  }

  size(): Promise<number> {
    return this.#call('read', `disk fstat ${this.#path}`, () => this.#inode.size);
  }

  async close(): Promise<void> {
    assert(!this.#isClosed, `${this.#path} is closed once`);
    this.#isClosed = true;
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#disk.call('read', `disk close ${this.#path}`, () => undefined);
  }

  #begin(buffers: readonly Buffer[], position: number): Writing {
    assert(this.#isWritable, `${this.#path} was opened for writing`);
    this.#check();
    const { now } = this.#disk;
    const [medium, files, inode] = [this.#medium, this.#files, this.#inode];
    return new Writing({ medium, files, inode, now, buffers, position });
  }

  #sync(point: SyncPoint): void {
    const inode = this.#inode;
    inode.endSync();
    const refused = this.#medium.faults.refusal('sync', 'fdatasync', this.#path);
    if (refused !== undefined) {
      inode.forget(point);
      throw refused;
    }
    this.#medium.faults.settle(this.#files, inode, point);
    this.#files.tellDurable(inode);
  }

  /** The name that it has now: faults are planned for files, and a file is made under another name than it gets. */
  get #path(): string {
    return this.#inode.path;
  }

  #check(): void {
    assert(!this.#isClosed, `${this.#path} is used before it is closed`);
  }

  #call<T>(kind: CallKind, what: string, effect: () => T, orphaned?: () => void): Promise<T> {
    this.#check();
    this.#inFlight++;
    return this.#disk.call(kind, what, effect, orphaned, this.#ended);
  }
}

const never = (): Promise<never> => new Promise(() => undefined);
