import { TfsError } from '../../common/errors.ts';
import type { Kv, KvOperation, KvRange } from '../../common/seams/kv.ts';
import { type MemoryKv, MemoryKvMedium } from '../kit/memory-kv.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { SimMedium } from './disk.ts';
import type { DiskUser } from './disk-seam.ts';

/** Milliseconds: the least, and what is drawn on top. */
const LATENCY = { read: [0.02, 0.3], write: [0.02, 0.2], sync: [0.5, 4.5] } as const;
/** How many entries a cursor brings at a time. */
const ENTRIES_A_STEP = 100;

/** What outlives the processes of one {@link Kv}; in memory, with everything that is left open drawn from its seed. */
export class SimKvMedium {
  readonly random: SeededRandom;
  /** Whose hanging and slowness it shares. */
  readonly disk: SimMedium | undefined;
  #inner = new MemoryKvMedium();
  /** Whose disk is mounted here. */
  #mounted: SimKvMedium = this;

  constructor(options: { readonly seed: number; readonly disk?: SimMedium }) {
    this.random = new SeededRandom(options.seed);
    this.disk = options.disk;
  }

  /** @throws TfsError CONFLICT while another process has it open; one that was killed has not */
  open(user: DiskUser): Promise<Kv> {
    return new Promise((resolve, reject) => {
      if (!user.isAlive) return;
      const open = (): void => {
        if (this.disk?.faults.isHanging('read') === true) {
          this.disk.faults.hold(() => user.at(0, 'kv open', open));
          return;
        }
        const inner = this.#mounted.#inner;
        inner.open().then((kv) => {
          resolve(new SimKv(this, inner, kv, user));
        }, reject);
      };
      user.at(this.latencyMs('sync'), 'kv open', open);
    });
  }

  /** The next write fails with this, and every one until it is opened again. */
  set failWrites(error: TfsError | undefined) {
    this.#inner.failWrites = error;
  }

  /** After the process was killed: the newest batches that were not synced are gone, as many as drawn. */
  powerCut(random: SeededRandom = this.random): void {
    this.#inner.crash(random.below(this.#inner.unsynced + 1));
  }

  /** What is durable now. */
  snapshot(): MemoryKvMedium {
    return this.#inner.snapshot();
  }

  /** It holds again what it held then, or nothing. No process has it open. */
  restore(snapshot: MemoryKvMedium = new MemoryKvMedium()): void {
    this.#inner = snapshot.snapshot();
  }

  wipe(): void {
    this.restore();
  }

  /** As of the disks on which they are: each stays that disk's. No process has either open. */
  swap(other: SimKvMedium): void {
    [this.#mounted, other.#mounted] = [other.#mounted, this.#mounted];
  }

  // What follows is for the store.

  latencyMs(kind: keyof typeof LATENCY): number {
    const [least, more] = LATENCY[kind];
    return (least + more * this.random.float() ** 2) * (this.disk?.faults.slowness ?? 1);
  }
}

interface Step {
  readonly run: () => void;
  /** What it changes, when nobody is left to hear of it. */
  readonly orphaned: (() => Promise<unknown>) | undefined;
}

/** One opened store: calls are done in the order in which they were made, an event each. */
class SimKv implements Kv {
  readonly #medium: SimKvMedium;
  readonly #kv: MemoryKv;
  readonly #user: DiskUser;
  readonly #queue: Step[] = [];
  #isClosed = false;
  #closing: Promise<void> | undefined;

  constructor(medium: SimKvMedium, inner: MemoryKvMedium, kv: MemoryKv, user: DiskUser) {
    this.#medium = medium;
    this.#kv = kv;
    this.#user = user;
    user.onKilled.push(() => {
      if (this.#isClosed && this.#queue.length === 0) return;
      const writes = this.#queue.flatMap(({ orphaned }) => orphaned ?? []);
      // What was on its way when the process died got as far as it got; what it failed by is nobody's concern.
      for (const write of writes.slice(0, medium.random.below(writes.length + 1)))
        write().catch(() => undefined);
      inner.killed();
      this.#queue.length = 0;
    });
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    const own = Buffer.from(key);
    return this.#call('read', 'kv get', () => this.#kv.get(own));
  }

  getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    const own = keys.map((key) => Buffer.from(key));
    return this.#call('read', 'kv get', () => this.#kv.getMany(own));
  }

  batch(operations: readonly KvOperation[], options: { readonly sync?: boolean } = {}): Promise<void> {
    const own = operations.map(
      (operation): KvOperation =>
        operation.type === 'put'
          ? { type: 'put', key: Buffer.from(operation.key), value: Buffer.from(operation.value) }
          : { type: 'del', key: Buffer.from(operation.key) },
    );
    return this.#call(options.sync ? 'sync' : 'write', 'kv batch', () => this.#kv.batch(own, options));
  }

  clear(range: KvRange): Promise<void> {
    return this.#call('write', 'kv clear', () => this.#kv.clear(range));
  }

  entries(range: KvRange): AsyncIterable<readonly [key: Buffer, value: Buffer]> {
    const cursor = this.#isClosed ? undefined : this.#kv.entries(range)[Symbol.asyncIterator]();
    return { [Symbol.asyncIterator]: () => this.#walk(cursor) };
  }

  close(): Promise<void> {
    this.#closing ??= this.#call('read', 'kv close', () => this.#kv.close());
    this.#isClosed = true;
    return this.#closing;
  }

  async *#walk(
    cursor: AsyncIterator<readonly [key: Buffer, value: Buffer]> | undefined,
  ): AsyncGenerator<readonly [key: Buffer, value: Buffer], void> {
    for (;;) {
      const step = await this.#call('read', 'kv entries', async () => {
        const found: (readonly [Buffer, Buffer])[] = [];
        while (found.length < ENTRIES_A_STEP) {
          const next = await cursor!.next();
          if (next.done === true) break;
          found.push(next.value);
        }
        return found;
      });
      for (const entry of step) {
        this.#requireOpen();
        yield entry;
      }
      if (step.length < ENTRIES_A_STEP) return;
    }
  }

  async #call<T>(kind: keyof typeof LATENCY, what: string, work: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    return new Promise((resolve, reject) => {
      if (!this.#user.isAlive) return;
      const orphaned = kind === 'read' ? undefined : work;
      this.#queue.push({ run: () => void work().then(resolve, reject), orphaned });
      this.#later(kind, what, this.#medium.latencyMs(kind));
    });
  }

  /** The next of the queue, whichever this one's was: times may tie. */
  #later(kind: keyof typeof LATENCY, what: string, delayMs: number): void {
    const faults = this.#medium.disk?.faults;
    this.#user.at(delayMs, what, () => {
      if (faults?.isHanging(kind) === true) faults.hold(() => this.#later(kind, what, 0));
      else this.#queue.shift()!.run();
    });
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new TfsError('CLOSED', 'the store is closed');
  }
}
