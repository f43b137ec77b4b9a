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

/**
 * How much uploads may hold in memory at once, and how slow they may be: together the bound on what clients can make
 * this process keep. One timer watches them all.
 */
export class UploadGate {
  readonly clock: Clock;
  readonly #bytesMax: number;
  readonly #pace: Pace;
  readonly #receiving = new Set<Receiving>();
  #timer: Timer | undefined;
  #bytes = 0;

  static open(options: UploadGateOptions): UploadGate {
    const gate = new UploadGate(options);
    gate.#timer = options.clock.every(SWEEP_MS, () => gate.#sweep());
    return gate;
  }

  private constructor(options: UploadGateOptions) {
    this.clock = options.clock;
    this.#bytesMax = options.bytesInFlightMax ?? UPLOAD_BYTES_IN_FLIGHT_GATEWAY_MAX;
    this.#pace = {
      idleMsMax: options.idleMsMax ?? UPLOAD_IDLE_MS_MAX,
      rateGraceMs: options.rateGraceMs ?? UPLOAD_RATE_GRACE_MS,
      bytesPerSecondMin: options.bytesPerSecondMin ?? UPLOAD_BYTES_PER_SECOND_MIN,
    };
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
    this.reserve(declared);
    const upload = new Receiving(this, declared, onSlow);
    this.#receiving.add(upload);
    return upload;
  }

  reserve(bytes: number): void {
    if (this.#bytes + bytes > this.#bytesMax)
      throw new TfsError('OVERLOADED', `uploads already hold ${this.#bytes} bytes of memory`, {
        retryAfterMs: 1000,
      });
    this.#bytes += bytes;
  }

  free(bytes: number): void {
    this.#bytes -= bytes;
  }

  forget(upload: Receiving): void {
    this.#receiving.delete(upload);
  }

  #sweep(): void {
    const now = this.clock.monotonic();
    for (const upload of this.#receiving) upload.check(now, this.#pace);
  }
}

interface Pace {
  readonly idleMsMax: number;
  readonly rateGraceMs: number;
  readonly bytesPerSecondMin: number;
}

class Receiving implements Upload {
  readonly #gate: UploadGate;
  readonly #onSlow: (error: TfsError) => void;
  readonly #startedAt: Millis;
  #heardAt: Millis;
  #reserved: number;
  #size = 0;

  constructor(gate: UploadGate, reserved: number, onSlow: (error: TfsError) => void) {
    this.#gate = gate;
    this.#reserved = reserved;
    this.#onSlow = onSlow;
    this.#startedAt = gate.clock.monotonic();
    this.#heardAt = this.#startedAt;
  }

  arrived(bytes: number): void {
    this.#size += bytes;
    this.#heardAt = this.#gate.clock.monotonic();
    const more = this.#size - this.#reserved;
    if (more <= 0) return;
    this.#gate.reserve(more);
    this.#reserved += more;
  }

  complete(): void {
    this.#gate.forget(this);
  }

  release(): void {
    this.#gate.forget(this);
    this.#gate.free(this.#reserved);
    this.#reserved = 0;
  }

  check(now: Millis, pace: Pace): void {
    const why = this.#slowness(now - this.#heardAt, now - this.#startedAt, pace);
    if (why === undefined) return;
    this.#gate.forget(this);
    this.#onSlow(new TfsError('BODY_TIMEOUT', `${why}: the upload was given up; send it again`));
  }

  #slowness(idleMs: number, ageMs: number, pace: Pace): string | undefined {
    if (idleMs > pace.idleMsMax) return `nothing came for ${Math.round(idleMs / 1000)} s`;
    if (ageMs > pace.rateGraceMs && (this.#size * 1000) / ageMs < pace.bytesPerSecondMin)
      return `${this.#size} bytes came in ${Math.round(ageMs / 1000)} s`;
    return undefined;
  }
}
