import { createHash, type Hash, hash } from 'node:crypto';
import { crcOfChunks, PayloadChecksum } from '../common/crc.ts';

/** What is computed over a payload once, here, and carried unchanged through every hop and every copy. */
export interface Fingerprint {
  readonly size: number;
  readonly sha1: Buffer;
  readonly dataCrc: number;
  readonly chunkCrcs: Uint32Array;
}

/**
 * Computes a {@link Fingerprint} while the payload arrives, so that a large one never holds the event loop at its end.
 * Small pictures arrive in one piece: those are hashed in one call, which costs half.
 */
export class Fingerprinter {
  #first: Buffer | undefined;
  #later: { readonly sha1: Hash; readonly checksum: PayloadChecksum } | undefined;

  update(piece: Buffer): void {
    if (this.#later === undefined) {
      if (this.#first === undefined) {
        this.#first = piece;
        return;
      }
      this.#later = { sha1: createHash('sha1'), checksum: new PayloadChecksum() };
      this.#add(this.#first);
    }
    this.#add(piece);
  }

  /** Called once, after the last piece. */
  finish(): Fingerprint {
    if (this.#later !== undefined) {
      const { sha1, checksum } = this.#later;
      return { size: checksum.size, sha1: sha1.digest(), ...checksum.finish() };
    }
    const only = this.#first ?? Buffer.alloc(0);
    return { size: only.length, sha1: hash('sha1', only, 'buffer'), ...crcOfChunks(only) };
  }

  #add(piece: Buffer): void {
    this.#later!.sha1.update(piece);
    this.#later!.checksum.update(piece);
  }
}

export function fingerprint(payload: readonly Buffer[]): Fingerprint {
  const whole = new Fingerprinter();
  for (const piece of payload) whole.update(piece);
  return whole.finish();
}
