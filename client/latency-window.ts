/** Answers between two looks at their order. */
const SORT_EVERY = 64;
/** Fewer say nothing about one in twenty. */
const SAMPLES_MIN = 20;

/** The latest latencies of one kind of question, and how long all but one in twenty of them took. */
export class LatencyWindow {
  readonly #ring: Float64Array;
  readonly #sorted: Float64Array;
  #count = 0;
  #p95Ms: number | undefined;
  #sortAt = SAMPLES_MIN;

  constructor(samples = 256) {
    this.#ring = new Float64Array(samples);
    this.#sorted = new Float64Array(samples);
  }

  /** 95 of 100 answers came within that; undefined before there are enough. It may be {@link SORT_EVERY} answers old. */
  get p95Ms(): number | undefined {
    return this.#p95Ms;
  }

  add(latencyMs: number): void {
    this.#ring[this.#count++ % this.#ring.length] = latencyMs;
    if (this.#count < this.#sortAt) return;
    this.#sortAt = this.#count + SORT_EVERY;
    const held = Math.min(this.#count, this.#ring.length);
    const sorted = this.#sorted.subarray(0, held);
    sorted.set(this.#ring.subarray(0, held));
    sorted.sort();
    this.#p95Ms = sorted[Math.min(held - 1, Math.floor(held * 0.95))]!;
  }
}
