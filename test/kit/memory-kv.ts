import { assert, TfsError } from '../../common/errors.ts';
import type { Kv, KvOperation, KvRange } from '../../common/seams/kv.ts';

type Content = Map<string, Buffer>;

/**
 * A medium on which one {@link Kv} after the other is opened: it outlives them, as a directory does. Every call
 * completes in a microtask, in order.
 */
export class MemoryKvMedium {
  /** What a crash keeps, then each later batch. */
  #durable: Content = new Map();
  #unsynced: (readonly KvOperation[])[] = [];
  #open: MemoryKv | undefined;
  /** The next write, and every one until it is opened again, fails with this. */
  failWrites: TfsError | undefined;
  /** Batches since the medium was made. */
  writes = 0;
  syncedWrites = 0;

  async open(): Promise<MemoryKv> {
    if (this.#open !== undefined) throw new TfsError('CONFLICT', 'this store is open already');
    this.#open = new MemoryKv(this, this.#current());
    return this.#open;
  }

  /** Batches that a power loss may take. */
  get unsynced(): number {
    return this.#unsynced.length;
  }

  /** The process that had it open is gone; what it wrote is with the kernel. */
  killed(): void {
    this.#open?.kill();
    this.#open = undefined;
  }

  /** Power loss: the newest batches that were not synced are gone, all but `keepUnsynced` of them. */
  crash(keepUnsynced = 0): void {
    this.killed();
    this.#unsynced.length = Math.min(keepUnsynced, this.#unsynced.length);
    this.#settle();
  }

  /** What is durable, on a medium of its own. */
  snapshot(): MemoryKvMedium {
    const copy = new MemoryKvMedium();
    copy.#durable = new Map(this.#durable);
    return copy;
  }

  wipe(): void {
    assert(this.#open === undefined, 'a store is wiped while nobody has it open');
    this.#durable = new Map();
    this.#unsynced = [];
  }

  released(): void {
    this.#open = undefined;
  }

  wrote(operations: readonly KvOperation[], sync: boolean): void {
    this.writes++;
    this.#unsynced.push(operations);
    if (!sync) return;
    this.syncedWrites++;
    this.#settle();
  }

  #settle(): void {
    for (const operations of this.#unsynced) apply(this.#durable, operations);
    this.#unsynced = [];
  }

  #current(): Content {
    const content = new Map(this.#durable);
    for (const operations of this.#unsynced) apply(content, operations);
    return content;
  }
}

export class MemoryKv implements Kv {
  readonly #medium: MemoryKvMedium;
  readonly #content: Content;
  #closed = false;
  #failure: TfsError | undefined;

  constructor(medium: MemoryKvMedium, content: Content) {
    this.#medium = medium;
    this.#content = content;
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    text(key);
    this.#requireOpen();
    const value = this.#content.get(text(key));
    return value && Buffer.from(value);
  }

  async getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    this.#requireOpen();
    return keys.map((key) => {
      const value = this.#content.get(text(key));
      return value && Buffer.from(value);
    });
  }

  async batch(operations: readonly KvOperation[], options: { readonly sync?: boolean } = {}): Promise<void> {
    const copies = operations.map((operation): KvOperation => {
      text(operation.key);
      return operation.type === 'put'
        ? { type: 'put', key: Buffer.from(operation.key), value: Buffer.from(operation.value) }
        : { type: 'del', key: Buffer.from(operation.key) };
    });
    this.#requireWritable();
    if (copies.length === 0) return;
    apply(this.#content, copies);
    this.#medium.wrote(copies, options.sync ?? false);
  }

  async clear(range: KvRange): Promise<void> {
    this.#requireWritable();
    const doomed = this.#select(range).map(([key]): KvOperation => ({ type: 'del', key }));
    if (doomed.length > 0) await this.batch(doomed);
  }

  entries(range: KvRange): AsyncIterable<readonly [key: Buffer, value: Buffer]> {
    const selected = this.#closed ? [] : this.#select(range);
    const requireOpen = () => this.#requireOpen();
    return {
      async *[Symbol.asyncIterator]() {
        requireOpen();
        for (const entry of selected) {
          requireOpen();
          yield entry;
        }
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#medium.released();
  }

  kill(): void {
    this.#closed = true;
  }

  #select(range: KvRange): [Buffer, Buffer][] {
    const gte = range.gte?.toString('latin1') ?? '';
    const lt = range.lt?.toString('latin1');
    return [...this.#content]
      .filter(([key]) => key >= gte && (lt === undefined || key < lt))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [Buffer.from(key, 'latin1'), Buffer.from(value)]);
  }

  #requireWritable(): void {
    this.#requireOpen();
    this.#failure ??= this.#medium.failWrites;
    if (this.#failure !== undefined)
      throw new TfsError(this.#failure.code, 'a write failed', { cause: this.#failure });
  }

  #requireOpen(): void {
    if (this.#closed) throw new TfsError('CLOSED', 'the store is closed');
  }
}

/** One character a byte: strings then sort as the bytes do. */
function text(key: Buffer): string {
  assert(key.length > 0, 'a key has at least one byte');
  return key.toString('latin1');
}

function apply(content: Content, operations: readonly KvOperation[]): void {
  for (const operation of operations) {
    const key = text(operation.key);
    if (operation.type === 'put') content.set(key, operation.value);
    else content.delete(key);
  }
}
