import { type JobKind, TASKS } from '../../common/jobs.ts';
import { JOB_ATTEMPTS_MAX, PARKED_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { tunable } from '../../common/tunables.ts';
import type { Place } from '../planner/work.ts';

export interface Failure extends Place {
  /** The last one of the task. */
  kind: JobKind;
  count: number;
  /** Monotonic. */
  atMs: number;
  reason: string;
}

/**
 * Work that failed, by block, server and task. What has failed several times is left alone for a while, and somebody
 * else tried: a job that cannot succeed must not come back again and again in the place of others.
 */
export class Failures {
  readonly #clock: Clock;
  /** The oldest first. */
  readonly #failures = new Map<string, Failure>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(place: Place, reason: string): Failure {
    const { kind, block, server } = place;
    const key = keyOf(place);
    const failure = this.#failures.get(key) ?? { kind, block, server, count: 0, atMs: 0, reason };
    Object.assign(failure, { kind, count: failure.count + 1, atMs: this.#clock.monotonic(), reason });
    this.#failures.delete(key);
    this.#failures.set(key, failure);
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > PARKED_MAX && oldest !== undefined) this.#failures.delete(oldest);
    return failure;
  }

  succeeded(place: Place): void {
    this.#failures.delete(keyOf(place));
  }

  isParked(place: Place): boolean {
    const failure = this.#failures.get(keyOf(place));
    return failure !== undefined && this.#isParked(failure);
  }

  /** What is left alone now. */
  get parked(): Failure[] {
    return [...this.#failures.values()].filter((failure) => this.#isParked(failure));
  }

  clear(): void {
    this.#failures.clear();
  }

  #isParked({ count, atMs }: Failure): boolean {
    return count >= JOB_ATTEMPTS_MAX && this.#clock.monotonic() - atMs < tunable.jobParkedMs;
  }
}

const keyOf = ({ kind, block, server }: Place): string => `${TASKS[kind]} ${block} ${server}`;
