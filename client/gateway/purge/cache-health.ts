import type { Clock } from '../../../common/seams/clock.ts';

/** Since when purges of one cache fail, as one worker sees it. */
export class CacheHealth {
  readonly #clock: Clock;
  #failingSinceMs: number | undefined;
  #why = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Also when nothing is outstanding any more: another worker has done it. */
  succeeded(): void {
    this.#failingSinceMs = undefined;
    this.#why = '';
  }

  failed(why: string): void {
    this.#failingSinceMs ??= this.#clock.monotonic();
    this.#why = why;
  }

  /** 0 while nothing fails. */
  get failingMs(): number {
    return this.#failingSinceMs === undefined ? 0 : this.#clock.monotonic() - this.#failingSinceMs;
  }

  /** Of the last failure; empty for none. */
  get why(): string {
    return this.#why;
  }
}
