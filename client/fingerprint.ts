import { createHash } from 'node:crypto';
import { PayloadChecksum } from '../common/crc.ts';

/** What is computed over a payload once, here, and carried unchanged through every hop and every copy. */
export interface Fingerprint {
  readonly size: number;
  readonly sha1: Buffer;
  readonly dataCrc: number;
  readonly chunkCrcs: Uint32Array;
}

/** Computes a {@link Fingerprint} while the payload arrives, so that a large one never holds the event loop at its end. */
export class Fingerprinter {
  readonly #sha1 = createHash('sha1');
  readonly #checksum = new PayloadChecksum();

  get size(): number {
    return this.#checksum.size;
  }

  update(piece: Buffer): void {
    this.#sha1.update(piece);
    this.#checksum.update(piece);
  }

  /** Called once, after the last piece. */
  finish(): Fingerprint {
    return { size: this.#checksum.size, sha1: this.#sha1.digest(), ...this.#checksum.finish() };
  }
}

export function fingerprint(payload: readonly Buffer[]): Fingerprint {
  const whole = new Fingerprinter();
  for (const piece of payload) whole.update(piece);
  return whole.finish();
}
