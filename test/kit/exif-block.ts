/** Makes EXIF blocks with whatever a test wants to have in them, in either byte order. */

type Value =
  | { readonly ascii: string }
  | { readonly short: number }
  | { readonly long: number }
  | { readonly bytes: Buffer }
  | { readonly rationals: readonly (readonly [number, number])[] }
  | { readonly directory: Tags }
  /** An offset, as it is: for damaged blocks. */
  | { readonly raw: { type: number; count: number; value: number } };
export type Tags = Readonly<Record<number, Value>>;

export interface BlockOptions {
  readonly order: 'II' | 'MM';
  /** Of a second directory, that of the thumbnail. */
  readonly next?: Tags;
}

export const ORIENTATION = 0x0112;
export const GPS = 0x8825;
export const EXIF_IFD = 0x8769;

/** Somewhere in Greenwich, in degrees, minutes and seconds, with words that a search finds. */
export const GPS_TAGS: Tags = {
  0: { bytes: Buffer.from([2, 3, 0, 0]) },
  1: { ascii: 'N' },
  2: {
    rationals: [
      [51, 1],
      [28, 1],
      [40_12, 100],
    ],
  },
  3: { ascii: 'W' },
  4: {
    rationals: [
      [0, 1],
      [0, 1],
      [5_31, 100],
    ],
  },
  27: { ascii: 'SECRETPLACE' },
};

export function exifBlock(tags: Tags, { order, next }: BlockOptions): Buffer {
  const out = new Writer(order);
  const end = out.directory(tags, 8);
  if (next !== undefined) {
    out.u32(end, 8 + 2 + 12 * Object.keys(tags).length);
    out.directory(next, end);
  }
  return out.bytes();
}

class Writer {
  readonly #little: boolean;
  #out = Buffer.alloc(8);

  constructor(order: 'II' | 'MM') {
    this.#little = order === 'II';
    this.#out.write(order, 'latin1');
    this.u16(42, 2);
    this.u32(8, 4);
  }

  bytes(): Buffer {
    return this.#out;
  }

  u16(value: number, at: number): void {
    this.#grow(at + 2);
    if (this.#little) this.#out.writeUInt16LE(value, at);
    else this.#out.writeUInt16BE(value, at);
  }

  u32(value: number, at: number): void {
    this.#grow(at + 4);
    if (this.#little) this.#out.writeUInt32LE(value, at);
    else this.#out.writeUInt32BE(value, at);
  }

  /** @returns where it ends, with its values and its children */
  directory(tags: Tags, start: number): number {
    const entries = Object.entries(tags).map(([tag, value]) => [Number(tag), value] as const);
    let free = start + 2 + 12 * entries.length + 4;
    this.u16(entries.length, start);
    this.u32(0, free - 4);
    for (const [i, [tag, value]] of entries.entries()) {
      const at = start + 2 + 12 * i;
      this.u16(tag, at);
      if ('directory' in value) {
        this.#entry(at, 4, 1);
        this.u32(free, at + 8);
        free = this.directory(value.directory, free);
      } else if ('raw' in value) {
        this.#entry(at, value.raw.type, value.raw.count);
        this.u32(value.raw.value, at + 8);
      } else if ('short' in value) {
        this.#entry(at, 3, 1);
        this.u32(0, at + 8);
        this.u16(value.short, at + 8);
      } else if ('long' in value) {
        this.#entry(at, 4, 1);
        this.u32(value.long, at + 8);
      } else if ('rationals' in value) {
        this.#entry(at, 5, value.rationals.length);
        this.u32(free, at + 8);
        for (const [numerator, denominator] of value.rationals) {
          this.u32(numerator, free);
          this.u32(denominator, free + 4);
          free += 8;
        }
      } else {
        const bytes = 'ascii' in value ? Buffer.from(`${value.ascii}\0`, 'latin1') : value.bytes;
        this.#entry(at, 'ascii' in value ? 2 : 7, bytes.length);
        this.u32(0, at + 8);
        const target = bytes.length > 4 ? free : at + 8;
        if (bytes.length > 4) {
          this.u32(free, at + 8);
          free += bytes.length + (bytes.length & 1);
        }
        this.#grow(target + bytes.length + (bytes.length & 1));
        bytes.copy(this.#out, target);
      }
    }
    return free;
  }

  #entry(at: number, type: number, count: number): void {
    this.u16(type, at + 2);
    this.u32(count, at + 4);
  }

  #grow(length: number): void {
    if (length > this.#out.length)
      this.#out = Buffer.concat([this.#out, Buffer.alloc(length - this.#out.length)]);
  }
}

/** Puts a segment behind the beginning of a JPEG. @param prefix such as "Exif\0\0" */
export function withSegment(jpeg: Buffer, marker: number, payload: Buffer): Buffer {
  const head = Buffer.from([0xff, marker, 0, 0]);
  head.writeUInt16BE(payload.length + 2, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, payload, jpeg.subarray(2)]);
}

export const withExif = (jpeg: Buffer, block: Buffer): Buffer =>
  withSegment(jpeg, 0xe1, Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), block]));
