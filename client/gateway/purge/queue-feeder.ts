import { PURGE_QUEUED_AGAIN_MS, PURGES_AT_A_LOOK_MAX } from '../../../common/limits.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import type { OutstandingPurges, Purge } from './outstanding.ts';
import type { PurgeQueue } from './purge-queue.ts';

/** Keeps what is outstanding in the queue, whatever the queue forgets, and takes out what others have done. */
export class QueueFeeder {
  readonly #queue: PurgeQueue;
  readonly #outstanding: OutstandingPurges;
  readonly #clock: Clock;
  #era = '';

  constructor(queue: PurgeQueue, outstanding: OutstandingPurges, clock: Clock) {
    this.#queue = queue;
    this.#outstanding = outstanding;
    this.#clock = clock;
  }

  /** Some of it; to be called again. @throws TfsError UNAVAILABLE when the queue does not answer */
  async feed(caches: Iterable<string>): Promise<void> {
    const era = await this.#queue.era();
    if (era !== this.#era) this.#outstanding.queueIsGone();
    this.#era = era;
    await this.#forgetDone(this.#outstanding.nextToCheck(PURGES_AT_A_LOOK_MAX));
    for (const cache of caches) await this.#queueSome(cache);
  }

  /** Those first that have waited longest, as many as the queue has room for. */
  async #queueSome(cache: string): Promise<void> {
    const beforeMs = this.#clock.monotonic() - PURGE_QUEUED_AGAIN_MS;
    if (this.#outstanding.toBeQueued(cache, beforeMs, 1).length === 0) return;
    const room = Math.min(await this.#queue.room(cache), PURGES_AT_A_LOOK_MAX);
    // Another worker may have done some, and what is done and added once more is sent once more.
    await this.#forgetDone(this.#outstanding.toBeQueued(cache, beforeMs, room));
    const purges = this.#outstanding.toBeQueued(cache, beforeMs, room);
    await this.#queue.add(cache, purges);
    for (const purge of purges) purge.queuedAtMs = this.#clock.monotonic();
  }

  async #forgetDone(purges: readonly Purge[]): Promise<void> {
    for (const id of await this.#queue.doneOf(purges)) this.#outstanding.done(id);
  }
}
