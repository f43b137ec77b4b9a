import type { Millis } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';

/**
 * What time it is. How long a deleted picture may be undeleted is the only thing here that hangs on wall clocks, which are
 * wrong at times: a machine that starts in 1970 would date deletions so that their time is over at once. So the leader
 * says what time it has, in every answer, and what is dated here is never dated earlier than that. Before it has said so
 * once, nothing is dated here that hangs on it.
 */
export class ClusterTime {
  readonly #clock: Clock;
  /** What the leader said, and how much it was ahead of the monotonic clock of this process then. */
  #leadMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param wallMs what the leader said just now; ms since 1970 */
  hear(wallMs: number): void {
    this.#leadMs = wallMs - this.#clock.monotonic();
  }

  /** Whether a leader has said what time it is, in this life of the process. */
  get isKnown(): boolean {
    return this.#leadMs !== undefined;
  }

  /** The later one of this machine's time and the leader's, ms since 1970. */
  now(): Millis {
    const own = this.#clock.now();
    return this.#leadMs === undefined
      ? own
      : (Math.max(own, this.#leadMs + this.#clock.monotonic()) as Millis);
  }
}
