import type { TfsError } from '../../common/errors.ts';
import type { Disk, DiskFile, OpenMode } from '../../common/seams/disk.ts';

type Kind = 'read' | 'write' | 'sync' | 'name';

/** A real disk that can be told to fail, to hang or to be slow. */
export class FaultyDisk implements Disk {
  readonly #inner: Disk;
  /** Files whose path matches fail their next syncs with this. */
  failing: { readonly path: RegExp; readonly error: TfsError } | undefined;
  /** Everything that changes something fails with this, as on a file system that was remounted read-only. */
  unwritable: TfsError | undefined;
  /** What every access takes longer. */
  delayMs = 0;
  /** Waited for before, and again behind, everything that changes something: it is done, and nobody knows it yet. */
  pause: (() => Promise<void>) | undefined;
  /** Pretends that something else is there: another disk under the same path, or none. */
  pretended: ((path: string, identity: string | undefined) => string | undefined) | undefined;
  /** Held until released. */
  #gate: Promise<void> | undefined;
  #holdsReads = false;
  #open: (() => void) | undefined;

  constructor(inner: Disk) {
    this.#inner = inner;
  }

  /** Nothing becomes durable any more, or, with `reads`, nothing at all comes back. */
  hang({ reads = false }: { reads?: boolean } = {}): void {
    this.#holdsReads = reads;
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  release(): void {
    this.#open?.();
    this.#gate = undefined;
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await this.#pass(mode === 'read' || mode === 'write' ? 'read' : 'name', path, () =>
      this.#inner.open(path, mode),
    );
    return {
      read: (target, position) => this.#pass('read', path, () => file.read(target, position)),
      write: (buffers, position) => this.#pass('write', path, () => file.write(buffers, position)),
      writeDurable: (buffers, position) =>
        this.#pass('sync', path, () => file.writeDurable(buffers, position)),
      datasync: () => this.#pass('sync', path, () => file.datasync()),
      truncate: (size) => this.#pass('write', path, () => file.truncate(size)),
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  readFile(path: string): Promise<Buffer> {
    return this.#pass('read', path, () => this.#inner.readFile(path));
  }
  rename(from: string, to: string): Promise<void> {
    return this.#pass('name', from, () => this.#inner.rename(from, to));
  }
  link(from: string, to: string): Promise<void> {
    return this.#pass('name', to, () => this.#inner.link(from, to));
  }
  unlink(path: string): Promise<void> {
    return this.#pass('name', path, () => this.#inner.unlink(path));
  }
  mkdir(path: string): Promise<void> {
    return this.#pass('name', path, () => this.#inner.mkdir(path));
  }
  list(directory: string): Promise<string[]> {
    return this.#inner.list(directory);
  }
  usage(directory: string): ReturnType<Disk['usage']> {
    return this.#inner.usage(directory);
  }
  stat(path: string): ReturnType<Disk['stat']> {
    return this.#inner.stat(path);
  }
  async identity(path: string): Promise<string | undefined> {
    const identity = await this.#inner.identity(path);
    return this.pretended === undefined ? identity : this.pretended(path, identity);
  }
  syncDirectory(directory: string): Promise<void> {
    return this.#pass('name', directory, () => this.#inner.syncDirectory(directory));
  }
  space(): ReturnType<Disk['space']> {
    return this.#inner.space();
  }

  async #pass<T>(kind: Kind, path: string, work: () => Promise<T>): Promise<T> {
    if (kind === 'sync' || this.#holdsReads) await this.#gate;
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    if (kind !== 'read' && this.unwritable !== undefined) throw this.unwritable;
    if (kind === 'sync' && this.failing?.path.test(path)) throw this.failing.error;
    if (this.pause === undefined || kind === 'read') return work();
    await this.pause();
    const result = await work();
    await this.pause();
    return result;
  }
}
