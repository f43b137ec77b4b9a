import type { BlockId, ServerId } from '../../common/ids.ts';
import { JOB_ATTEMPTS_MAX, JOB_PARKED_MS, PARKED_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';

export interface Failure {
  readonly block: BlockId;
  readonly server: ServerId;
  count: number;
  /** Monotonic. */
  atMs: number;
  reason: string;
}

/**
 * Work that failed, by block and server. What has failed several times is left alone for a while, and somebody else
 * tried: a job that cannot succeed must not come back again and again in the place of others.
 */
export class Failures {
  readonly #clock: Clock;
  /** The oldest first. */
  readonly #failures = new Map<string, Failure>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(block: BlockId, server: ServerId, reason: string): Failure {
    const key = keyOf(block, server);
    const failure = this.#failures.get(key) ?? { block, server, count: 0, atMs: 0, reason };
    Object.assign(failure, { count: failure.count + 1, atMs: this.#clock.monotonic(), reason });
    this.#failures.delete(key);
    this.#failures.set(key, failure);
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > PARKED_MAX && oldest !== undefined) this.#failures.delete(oldest);
    return failure;
  }

  succeeded(block: BlockId, server: ServerId): void {
    this.#failures.delete(keyOf(block, server));
  }

  isParked(block: BlockId, server: ServerId): boolean {
    const failure = this.#failures.get(keyOf(block, server));
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
    return count >= JOB_ATTEMPTS_MAX && this.#clock.monotonic() - atMs < JOB_PARKED_MS;
  }
}

const keyOf = (block: BlockId, server: ServerId): string => `${block} ${server}`;
