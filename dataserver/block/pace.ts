import type { Clock } from '../../common/seams/clock.ts';

/** Shorter pauses than this are put together: a timer is not that exact. */
const SLEEP_MS_MIN = 5;

/** Keeps a long work to a number of bytes a second, over its whole time. */
export class Pace {
  readonly #clock: Clock;
  readonly #msPerByte: number;
  readonly #startedMs: number;
  #dueMs = 0;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#msPerByte = 1000 / Math.max(1, bytesPerSecond);
    this.#startedMs = clock.monotonic();
  }

  /** @returns what to wait for before going on, if anything */
  spend(bytes: number): Promise<void> | undefined {
    this.#dueMs += bytes * this.#msPerByte;
    const aheadMs = this.#dueMs - (this.#clock.monotonic() - this.#startedMs);
    return aheadMs < SLEEP_MS_MIN ? undefined : this.#clock.sleep(aheadMs);
  }
}
