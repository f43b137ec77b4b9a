import { SECTOR_BYTES } from '../kit/recorded-inode.ts';

const CAPACITY_STEP_MAX = 1024 * 1024;

export const sectorOf = (position: number): number => Math.floor(position / SECTOR_BYTES);

const ceil = (size: number): number => Math.ceil(size / SECTOR_BYTES) * SECTOR_BYTES;

/** The page cache of one file: bytes that grow as they are needed, with zeros behind what was written. */
export class Pages {
  #bytes: Buffer = Buffer.alloc(0);

  /** A view, of no more than there is room for. */
  view(size: number): Buffer {
    return this.#bytes.subarray(0, size);
  }

  read(target: Buffer, position: number, end: number): number {
    return this.#bytes.copy(target, 0, position, end);
  }

  write(buffers: readonly Buffer[], position: number): void {
    let at = position;
    for (const buffer of buffers) at += buffer.copy(this.#bytes, at);
  }

  zero(start: number, end: number): void {
    if (start < end) this.#bytes.fill(0, start, Math.min(end, this.#bytes.length));
  }

  /** A copy. */
  sector(sector: number): Buffer {
    const at = sector * SECTOR_BYTES;
    const copy = Buffer.allocUnsafe(SECTOR_BYTES);
    this.#bytes.copy(copy, 0, at, at + SECTOR_BYTES);
    return copy;
  }

  put(sector: number, bytes: Buffer): void {
    this.reserve((sector + 1) * SECTOR_BYTES);
    bytes.copy(this.#bytes, sector * SECTOR_BYTES);
  }

  reserve(size: number): void {
    const { length } = this.#bytes;
    if (size <= length) return;
    const whole = Buffer.alloc(ceil(Math.max(size, Math.min(2 * length, length + CAPACITY_STEP_MAX))));
    this.#bytes.copy(whole);
    this.#bytes = whole;
  }
}
