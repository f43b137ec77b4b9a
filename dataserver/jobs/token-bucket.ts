import type { Clock } from '../../common/seams/clock.ts';

/** What may be had at once after a pause. */
const BURST_MS = 250;

/**
 * Bytes per second, for several users together. What was taken may be owed: whoever took it waits until it is paid, and
 * who comes next waits longer. So each waits after its piece, whose size it knows only then.
 */
export class TokenBucket {
  readonly #clock: Clock;
  #bytesPerSecond: number;
  /** Below 0 it is owed. */
  #bytes = 0;
  #atMs: number;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#atMs = clock.monotonic();
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  set bytesPerSecond(value: number) {
    this.#refill();
    this.#bytesPerSecond = value;
  }

  /** Resolves when so many more bytes may have been moved. */
  async take(bytes: number): Promise<void> {
    this.#refill();
    this.#bytes -= bytes;
    if (this.#bytes < 0) await this.#clock.sleep(Math.ceil((-this.#bytes * 1000) / this.#bytesPerSecond));
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    const most = (this.#bytesPerSecond * BURST_MS) / 1000;
    this.#bytes = Math.min(most, this.#bytes + ((now - this.#atMs) * this.#bytesPerSecond) / 1000);
    this.#atMs = now;
  }
}
