import type { Clock } from '../../common/seams/clock.ts';
import type { ReadTimes } from './pace.ts';

/** So many say something about one in a hundred. */
const SAMPLES_MIN = 50;
const QUIET_SAMPLES = 512;
/** What the disk was like before that says little of what it is like now. */
const QUIET_AGE_MS_MAX = 300_000;
const BESIDE_SAMPLES = 256;
const BESIDE_AGE_MS_MAX = 10_000;

/** How long reads of pictures take on this disk, apart for those that met a scrub or a compaction and those that did not. */
export class ReadClock {
  readonly stats = { reads: 0 };
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #quiet = new Latest(QUIET_SAMPLES);
  readonly #beside = new Latest(BESIDE_SAMPLES);
  /** Of such work that is being done. */
  #pieces = 0;
  #pieceEndedAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** Monotonic, for {@link end}. */
  begin(): number {
    return this.#clock.monotonic();
  }

  end(begunAtMs: number): void {
    this.stats.reads++;
    const now = this.#clock.monotonic();
    const met = this.#pieces > 0 || this.#pieceEndedAtMs >= begunAtMs;
    (met ? this.#beside : this.#quiet).add(now - begunAtMs, now);
  }

  /** Does what reads may wait for, such as reading a piece for a scrub. */
  async piece<T>(work: () => Promise<T>): Promise<T> {
    this.#pieces++;
    try {
      return await work();
    } finally {
      this.#pieces--;
      this.#pieceEndedAtMs = this.#clock.monotonic();
    }
  }

  get times(): ReadTimes {
    const now = this.#clock.monotonic();
    return {
      quietMs: this.#quiet.p99(now - QUIET_AGE_MS_MAX),
      besideMs: this.#beside.p99(now - BESIDE_AGE_MS_MAX),
    };
  }
}

/** The latest durations, with when they were measured. */
class Latest {
  readonly #tookMs: Float64Array;
  readonly #atMs: Float64Array;
  #count = 0;

  constructor(samples: number) {
    this.#tookMs = new Float64Array(samples);
    this.#atMs = new Float64Array(samples).fill(Number.NEGATIVE_INFINITY);
  }

  add(tookMs: number, atMs: number): void {
    const at = this.#count++ % this.#tookMs.length;
    this.#tookMs[at] = tookMs;
    this.#atMs[at] = atMs;
  }

  /** Of those that are not older. @returns undefined where they are too few */
  p99(sinceMs: number): number | undefined {
    const recent = this.#tookMs.filter((_, i) => this.#atMs[i]! >= sinceMs);
    if (recent.length < SAMPLES_MIN) return undefined;
    return recent.sort()[Math.ceil(recent.length * 0.99) - 1];
  }
}
