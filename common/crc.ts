/**
 * CRC-32 as zlib computes it (polynomial 0xedb88320, reflected, final XOR): the checksum of every format here.
 * A seed is the CRC of what came before, so checksums chain: crc32(b, crc32(a)) is the CRC of a followed by b.
 */

import { crc32 as zlibCrc32 } from 'node:zlib';
import { CHUNK_BYTES } from './limits.ts';
import { chunkCount } from './wire/messages.ts';

export const crc32 = (data: Uint8Array, seed = 0): number => zlibCrc32(data, seed);

export function crc32Of(buffers: readonly Uint8Array[], seed = 0): number {
  let crc = seed;
  for (const buffer of buffers) crc = zlibCrc32(buffer, crc);
  return crc;
}

/** What travels with a payload through every hop: computed once by the gateway, never again by anyone who sends. */
export interface PayloadCrcs {
  readonly dataCrc: number;
  /** One for every {@link CHUNK_BYTES} of a payload larger than one chunk, else empty. */
  readonly chunkCrcs: Uint32Array;
}

const NO_CHUNKS = new Uint32Array(0);

export function crcOfChunks(payload: Uint8Array): PayloadCrcs {
  const chunks = chunkCount(payload.length);
  if (chunks === 0) return { dataCrc: zlibCrc32(payload), chunkCrcs: NO_CHUNKS };
  const chunkCrcs = new Uint32Array(chunks);
  for (let i = 0; i < chunks; i++)
    chunkCrcs[i] = zlibCrc32(payload.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES));
  return { dataCrc: zlibCrc32(payload), chunkCrcs };
}

/** {@link crcOfChunks} for a payload that arrives in pieces of any size. */
export class PayloadChecksum {
  #dataCrc = 0;
  #chunkCrc = 0;
  #inChunk = 0;
  #size = 0;
  readonly #chunks: number[] = [];

  get size(): number {
    return this.#size;
  }

  update(piece: Uint8Array): void {
    this.#dataCrc = zlibCrc32(piece, this.#dataCrc);
    this.#size += piece.length;
    let at = 0;
    while (at < piece.length) {
      const take = Math.min(piece.length - at, CHUNK_BYTES - this.#inChunk);
      this.#chunkCrc = zlibCrc32(piece.subarray(at, at + take), this.#chunkCrc);
      this.#inChunk += take;
      at += take;
      if (this.#inChunk === CHUNK_BYTES) this.#endChunk();
    }
  }

  /** Of everything so far; more pieces may follow. */
  finish(): PayloadCrcs {
    if (this.#size <= CHUNK_BYTES) return { dataCrc: this.#dataCrc, chunkCrcs: NO_CHUNKS };
    const open = this.#inChunk > 0 ? [this.#chunkCrc] : [];
    return { dataCrc: this.#dataCrc, chunkCrcs: Uint32Array.from([...this.#chunks, ...open]) };
  }

  #endChunk(): void {
    this.#chunks.push(this.#chunkCrc);
    this.#chunkCrc = 0;
    this.#inChunk = 0;
  }
}
