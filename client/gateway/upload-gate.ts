import { TfsError } from '../../common/errors.ts';
import type { Millis } from '../../common/ids.ts';
import {
  UPLOAD_BYTES_IN_FLIGHT_GATEWAY_MAX,
  UPLOAD_BYTES_PER_SECOND_MIN,
  UPLOAD_IDLE_MS_MAX,
  UPLOAD_RATE_GRACE_MS,
} from '../../common/limits.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';

const SWEEP_MS = 250;

export interface UploadGateOptions {
  readonly clock: Clock;
  readonly bytesInFlightMax?: number;
  readonly idleMsMax?: number;
  readonly rateGraceMs?: number;
  readonly bytesPerSecondMin?: number;
}

/** One upload, from its first byte to the answer. */
export interface Upload {
  /** Counts bytes that were not reserved before. @throws TfsError OVERLOADED */
  arrived(bytes: number): void;
  /** All has arrived: it can no longer be slow. */
  complete(): void;
  /** Its memory is free again; called once. */
  release(): void;
}

interface Entry extends Upload {
  check(now: Millis): void;
}

/**
 * How much uploads may hold in memory at once, and how slow they may be: together the bound on what clients can make
 * this process keep. One timer watches them all.
 */
export class UploadGate {
  readonly #clock: Clock;
  readonly #bytesMax: number;
  readonly #idleMsMax: number;
  readonly #rateGraceMs: number;
  readonly #bytesPerSecondMin: number;
  readonly #receiving = new Set<Entry>();
  #timer: Timer | undefined;
  #bytes = 0;

  static open(options: UploadGateOptions): UploadGate {
    const gate = new UploadGate(options);
    gate.#timer = options.clock.every(SWEEP_MS, () => gate.#sweep());
    return gate;
  }

  private constructor(options: UploadGateOptions) {
    this.#clock = options.clock;
    this.#bytesMax = options.bytesInFlightMax ?? UPLOAD_BYTES_IN_FLIGHT_GATEWAY_MAX;
    this.#idleMsMax = options.idleMsMax ?? UPLOAD_IDLE_MS_MAX;
    this.#rateGraceMs = options.rateGraceMs ?? UPLOAD_RATE_GRACE_MS;
    this.#bytesPerSecondMin = options.bytesPerSecondMin ?? UPLOAD_BYTES_PER_SECOND_MIN;
  }

  get bytesInFlight(): number {
    return this.#bytes;
  }

  close(): void {
    this.#timer?.cancel();
  }

  /**
   * @param declared Content-Length, reserved at once; 0 when it is not known
   * @param onSlow called at most once, with the error to answer
   * @throws TfsError OVERLOADED when its bytes do not fit beside those of the others
   */
  begin(declared: number, onSlow: (error: TfsError) => void): Upload {
    let reserved = 0;
    let size = 0;
    const startedAt = this.#clock.monotonic();
    let heardAt = startedAt;
    const reserve = (bytes: number) => {
      if (this.#bytes + bytes > this.#bytesMax)
        throw new TfsError('OVERLOADED', `uploads already hold ${this.#bytes} bytes of memory`, {
          retryAfterMs: 1000,
        });
      this.#bytes += bytes;
      reserved += bytes;
    };
    reserve(declared);
    const entry: Entry = {
      arrived: (bytes) => {
        size += bytes;
        heardAt = this.#clock.monotonic();
        if (size > reserved) reserve(size - reserved);
      },
      complete: () => void this.#receiving.delete(entry),
      release: () => {
        this.#receiving.delete(entry);
        this.#bytes -= reserved;
        reserved = 0;
      },
      check: (now) => {
        const why = this.#slowness(now - heardAt, now - startedAt, size);
        if (why === undefined) return;
        this.#receiving.delete(entry);
        onSlow(new TfsError('BODY_TIMEOUT', `${why}: the upload was given up; send it again`));
      },
    };
    this.#receiving.add(entry);
    return entry;
  }

  #slowness(idleMs: number, ageMs: number, size: number): string | undefined {
    if (idleMs > this.#idleMsMax) return `nothing came for ${Math.round(idleMs / 1000)} s`;
    if (ageMs > this.#rateGraceMs && (size * 1000) / ageMs < this.#bytesPerSecondMin)
      return `${size} bytes came in ${Math.round(ageMs / 1000)} s`;
    return undefined;
  }

  #sweep(): void {
    const now = this.#clock.monotonic();
    for (const entry of this.#receiving) entry.check(now);
  }
}
