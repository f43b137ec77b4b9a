import { JOB_RATE_MS } from '../../common/limits.ts';

/** How fast a sum has grown lately. */
export class RateMeter {
  /** Oldest first; the first one is as old as the window, or older. */
  readonly #samples: { readonly atMs: number; readonly sum: number }[] = [];

  note(atMs: number, sum: number): void {
    const last = this.#samples.at(-1);
    // A second apart is close enough, and bounds how many there are.
    if (last !== undefined && atMs - last.atMs < 1000) return;
    this.#samples.push({ atMs, sum });
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= atMs - JOB_RATE_MS) this.#samples.shift();
  }

  clear(): void {
    this.#samples.length = 0;
  }

  get perSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return ((last.sum - first.sum) * 1000) / (last.atMs - first.atMs);
  }
}
