import { mkdir, rename, rm } from 'node:fs/promises';
import leveldown from 'leveldown';
import { assert, isTfsError, TfsError } from '../errors.ts';
import { KV_CACHE_BYTES_DEFAULT } from '../limits.ts';
import type { Kv, KvOperation, KvRange } from '../seams/kv.ts';

export interface LeveldownOptions {
  /** Made if it is not there. LevelDB's LOCK file in it keeps a second process out; the system drops it on a kill. */
  readonly directory: string;
  readonly cacheBytes?: number;
}

const WRITE_BUFFER_BYTES = 8 * 1024 * 1024;

type State = 'open' | 'closing' | 'closed';

/**
 * {@link Kv} on LevelDB. The raw binding crashes the process when it is used before open or after close, and LevelDB
 * reports a missing key, a full disk and a lock that is held only in the text of a message: all of that ends here.
 */
export class LeveldownKv implements Kv {
  readonly #db: leveldown.LevelDown;
  readonly #directory: string;
  #state: State = 'open';
  #closing: Promise<void> | undefined;
  /** LevelDB refuses every write after one that failed, even when the disk has room again. */
  #writeFailure: TfsError | undefined;

  private constructor(db: leveldown.LevelDown, directory: string) {
    this.#db = db;
    this.#directory = directory;
  }

  /** @throws TfsError CONFLICT when another process has it open; CORRUPT when its files do not fit; IO, DISK_FULL */
  static async open(options: LeveldownOptions): Promise<LeveldownKv> {
    const { directory } = options;
    try {
      await mkdir(directory, { recursive: true });
    } catch (cause) {
      throw translate(cause, directory);
    }
    const db = leveldown(directory);
    const settings = {
      createIfMissing: true,
      compression: false,
      cacheSize: options.cacheBytes ?? KV_CACHE_BYTES_DEFAULT,
      writeBufferSize: WRITE_BUFFER_BYTES,
    };
    await new Promise<void>((resolve, reject) => {
      db.open(settings, (error) => (error ? reject(translate(error, directory)) : resolve()));
    });
    return new LeveldownKv(db, directory);
  }

  /**
   * As {@link open}, for a store whose content can be made again: one that does not open for damage is moved aside to
   * `<directory>.broken` (an older one there goes) and an empty one takes its place.
   *
   * @returns `broken`: why the old one was given up, undefined when it was not
   */
  static async openRebuildable(
    options: LeveldownOptions,
  ): Promise<{ kv: LeveldownKv; broken: string | undefined }> {
    try {
      return { kv: await LeveldownKv.open(options), broken: undefined };
    } catch (error) {
      if (!isTfsError(error, 'CORRUPT')) throw error;
      const aside = `${options.directory}.broken`;
      await rm(aside, { recursive: true, force: true });
      await rename(options.directory, aside);
      return { kv: await LeveldownKv.open(options), broken: error.message };
    }
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    checkKey(key);
    this.#requireOpen();
    return new Promise((resolve, reject) => {
      this.#db.get(key, {}, (error, value) => {
        if (!error) resolve(value);
        else if (error.message.startsWith('NotFound')) resolve(undefined);
        else reject(translate(error, this.#directory));
      });
    });
  }

  async getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    for (const key of keys) checkKey(key);
    this.#requireOpen();
    return this.#call((done) => this.#db.getMany(keys as Buffer[], {}, done));
  }

  async batch(operations: readonly KvOperation[], options: { readonly sync?: boolean } = {}): Promise<void> {
    for (const operation of operations) checkKey(operation.key);
    this.#requireWritable();
    if (operations.length === 0) return;
    await this.#write((done) => this.#db.batch(operations, { sync: options.sync ?? false }, done));
  }

  async clear(range: KvRange): Promise<void> {
    this.#requireWritable();
    await this.#write((done) => this.#db.clear({ ...range }, done));
  }

  entries(range: KvRange): AsyncIterable<readonly [key: Buffer, value: Buffer]> {
    // Made now, not at the first step: the snapshot is as of this call.
    const cursor = this.#state === 'open' ? this.#db.iterator({ ...range }) : undefined;
    return { [Symbol.asyncIterator]: () => this.#walk(cursor) };
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve, reject) => {
      // Operations given to LevelDB before this line complete; none is given to it after.
      this.#state = 'closing';
      this.#db.close((error) => {
        this.#state = 'closed';
        if (error) reject(translate(error, this.#directory));
        else resolve();
      });
    });
    return this.#closing;
  }

  async *#walk(
    cursor: leveldown.Iterator | undefined,
  ): AsyncGenerator<readonly [key: Buffer, value: Buffer], void> {
    this.#requireOpen();
    assert(cursor !== undefined, 'an open store made its cursor');
    try {
      while (true) {
        this.#requireOpen();
        const entry = await this.#step(cursor);
        if (entry === undefined) return;
        yield entry;
      }
    } finally {
      // Closing the store ends its cursors; ending one again is the caller's right and harmless, but not a call to make.
      if (this.#state === 'open')
        await new Promise<void>((resolve) => {
          cursor.end(() => resolve());
        });
    }
  }

  #step(cursor: leveldown.Iterator): Promise<readonly [Buffer, Buffer] | undefined> {
    return new Promise((resolve, reject) => {
      cursor.next((error, key, value) => {
        if (error) reject(this.#state === 'open' ? translate(error, this.#directory) : this.#closed());
        else if (key === undefined || value === undefined) resolve(undefined);
        else resolve([key, value]);
      });
    });
  }

  async #write(start: (done: leveldown.Callback) => void): Promise<void> {
    try {
      await this.#call<void>(start);
    } catch (error) {
      const failure = error as TfsError;
      this.#writeFailure ??= failure;
      throw failure;
    }
  }

  #call<T>(start: (done: leveldown.Callback<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      start((error, value) => (error ? reject(translate(error, this.#directory)) : resolve(value)));
    });
  }

  #requireWritable(): void {
    this.#requireOpen();
    const failure = this.#writeFailure;
    if (failure !== undefined)
      throw new TfsError(failure.code, `${this.#directory} takes no writes since one failed`, {
        cause: failure,
      });
  }

  #requireOpen(): void {
    if (this.#state !== 'open') throw this.#closed();
  }

  #closed(): TfsError {
    return new TfsError('CLOSED', `${this.#directory} is closed`);
  }
}

function checkKey(key: Buffer): void {
  assert(key.length > 0, 'a key has at least one byte');
}

/** LevelDB tells its errors apart only in words. */
function translate(error: unknown, directory: string): TfsError {
  const message = error instanceof Error ? error.message : String(error);
  if (/LOCK: /.test(message))
    return new TfsError('CONFLICT', `${directory} is in use by another process: ${message}`, {
      cause: error,
    });
  if (/No space left|ENOSPC/.test(message))
    return new TfsError('DISK_FULL', `no room for ${directory}: ${message}`, { cause: error });
  if (/Corruption|(MANIFEST-|CURRENT|\.ldb|\.sst|\.log).*No such file/.test(message))
    return new TfsError('CORRUPT', `${directory} is damaged: ${message}`, { cause: error });
  return new TfsError('IO', `${directory}: ${message}`, { cause: error });
}
