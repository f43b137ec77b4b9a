import type { TfsError } from '../../common/errors.ts';
import type { Disk, DiskFile, OpenMode } from '../../common/seams/disk.ts';

/** A real disk that can be told to fail or to hang when something is made durable. */
export class FaultyDisk implements Disk {
  readonly #inner: Disk;
  /** Files whose path matches fail their next syncs with this. */
  failing: { readonly path: RegExp; readonly error: TfsError } | undefined;
  /** Held until released. */
  #gate: Promise<void> | undefined;
  #open: (() => void) | undefined;

  constructor(inner: Disk) {
    this.#inner = inner;
  }

  hang(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  release(): void {
    this.#open?.();
    this.#gate = undefined;
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await this.#inner.open(path, mode);
    const guard = async <T>(work: () => Promise<T>): Promise<T> => {
      await this.#gate;
      if (this.failing?.path.test(path)) throw this.failing.error;
      return work();
    };
    return {
      read: (target, position) => file.read(target, position),
      write: (buffers, position) => file.write(buffers, position),
      writeDurable: (buffers, position) => guard(() => file.writeDurable(buffers, position)),
      datasync: () => guard(() => file.datasync()),
      truncate: (size) => file.truncate(size),
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  readFile(path: string): Promise<Buffer> {
    return this.#inner.readFile(path);
  }
  rename(from: string, to: string): Promise<void> {
    return this.#inner.rename(from, to);
  }
  link(from: string, to: string): Promise<void> {
    return this.#inner.link(from, to);
  }
  unlink(path: string): Promise<void> {
    return this.#inner.unlink(path);
  }
  mkdir(path: string): Promise<void> {
    return this.#inner.mkdir(path);
  }
  list(directory: string): Promise<string[]> {
    return this.#inner.list(directory);
  }
  stat(path: string): ReturnType<Disk['stat']> {
    return this.#inner.stat(path);
  }
  syncDirectory(directory: string): Promise<void> {
    return this.#inner.syncDirectory(directory);
  }
  space(): ReturnType<Disk['space']> {
    return this.#inner.space();
  }
}
