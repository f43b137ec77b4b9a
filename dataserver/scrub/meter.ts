const WINDOW_MS = 10_000;
const STEP_MS = 1_000;

/** Bytes a second over the last seconds. */
export class Meter {
  /** Of a second each, oldest first. */
  #steps: { readonly atMs: number; bytes: number }[] = [];

  add(bytes: number, nowMs: number): void {
    const last = this.#steps.at(-1);
    if (last !== undefined && nowMs - last.atMs < STEP_MS) last.bytes += bytes;
    else this.#steps.push({ atMs: nowMs, bytes });
    this.#forget(nowMs);
  }

  rate(nowMs: number): number {
    this.#forget(nowMs);
    const [first] = this.#steps;
    if (first === undefined) return 0;
    const bytes = this.#steps.reduce((sum, step) => sum + step.bytes, 0);
    return (bytes * 1000) / Math.max(STEP_MS, nowMs - first.atMs);
  }

  #forget(nowMs: number): void {
    while (this.#steps.length > 0 && nowMs - this.#steps[0]!.atMs > WINDOW_MS) this.#steps.shift();
  }
}
