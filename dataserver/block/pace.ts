import type { Clock } from '../../common/seams/clock.ts';

/** Shorter pauses than this are put together: a timer is not that exact. */
const SLEEP_MS_MIN = 5;
/** What others wait for shows a little later. */
const LOOK_MS = 250;
const SLOWER = 0.5;
/** Little by little, so that it finds the rate that nobody notices. */
const FASTER = 1.1;

/** Who else uses the disk, and how slow a work is to become for them at the most. */
export interface Yielding {
  /** Whether others wait because of the work. */
  readonly isInTheWay: () => boolean;
  readonly leastBytesPerSecond: number;
  /** To begin with: what the last such work was found to be allowed. The most where there was none. */
  readonly firstBytesPerSecond?: number | undefined;
}

/** Keeps a long work to a number of bytes a second, over its whole time, and to fewer while others wait because of it. */
export class Pace {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #yielding: Yielding | undefined;
  #bytesPerSecond: number;
  #lookedMs: number;
  readonly #startedMs: number;
  #dueMs = 0;

  constructor(clock: Clock, bytesPerSecond: number, yielding?: Yielding) {
    this.#clock = clock;
    this.#most = Math.max(1, bytesPerSecond);
    this.#yielding = yielding;
    this.#bytesPerSecond = Math.min(this.#most, yielding?.firstBytesPerSecond ?? this.#most);
    this.#startedMs = clock.monotonic();
    this.#lookedMs = this.#startedMs;
  }

  /** At the moment. */
  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  /** @returns what to wait for before going on, if anything */
  spend(bytes: number): Promise<void> | undefined {
    const now = this.#clock.monotonic();
    this.#look(now);
    this.#dueMs += (bytes * 1000) / this.#bytesPerSecond;
    const aheadMs = this.#dueMs - (now - this.#startedMs);
    return aheadMs < SLEEP_MS_MIN ? undefined : this.#clock.sleep(aheadMs);
  }

  #look(now: number): void {
    if (this.#yielding === undefined || now - this.#lookedMs < LOOK_MS) return;
    this.#lookedMs = now;
    const { isInTheWay, leastBytesPerSecond } = this.#yielding;
    const wanted = this.#bytesPerSecond * (isInTheWay() ? SLOWER : FASTER);
    this.#bytesPerSecond = Math.min(this.#most, Math.max(leastBytesPerSecond, wanted));
    // What it is behind of a faster rate is not made up for.
    this.#dueMs = Math.max(this.#dueMs, now - this.#startedMs);
  }
}
