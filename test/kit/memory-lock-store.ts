import { TfsError } from '../../common/errors.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { LockAnswer, LockAsk, LockStore } from '../../common/seams/lock-store.ts';

/** A lock store in memory, on the test's clock, with the faults of a real one at hand. */
export class MemoryLockStore implements LockStore {
  readonly #clock: Pick<Clock, 'monotonic'>;
  #holder: { owner: string; untilMs: number } | undefined;
  #epoch = 0;
  /** Nobody gets an answer. */
  isDown = false;
  /** Everyone who asks gets the lock. */
  grantsAll = false;
  /** Grants so far. */
  grants = 0;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  get holder(): string | undefined {
    return this.#holder !== undefined && this.#holder.untilMs > this.#clock.monotonic()
      ? this.#holder.owner
      : undefined;
  }

  get epoch(): number {
    return this.#epoch;
  }

  async take({ owner, ttlMs, epoch }: LockAsk): Promise<LockAnswer> {
    this.#requireUp();
    this.#epoch = Math.max(this.#epoch, epoch);
    const holder = this.holder;
    const granted = this.grantsAll || holder === undefined || holder === owner;
    if (granted) {
      this.grants++;
      this.#holder = { owner, untilMs: this.#clock.monotonic() + ttlMs };
    }
    return { granted, epoch: this.#epoch };
  }

  async release(owner: string): Promise<void> {
    this.#requireUp();
    if (this.#holder?.owner === owner) this.#holder = undefined;
  }

  /** Loses everything, as a server without a disk that starts again. */
  forget(): void {
    this.#holder = undefined;
    this.#epoch = 0;
  }

  /** Goes back to an older state. */
  rollBack(epoch: number): void {
    this.#epoch = epoch;
  }

  async close(): Promise<void> {}

  #requireUp(): void {
    if (this.isDown) throw new TfsError('UNAVAILABLE', 'the lock store is down');
  }
}
