import { malformed, PARTS_MAX } from './packets.ts';

/** Boxes of ISO base media files (ISO/IEC 14496-12), of which HEIF and AVIF are made. */

export interface Box {
  readonly type: string;
  /** Of its header. */
  readonly from: number;
  /** Of what is in it. */
  readonly start: number;
  readonly end: number;
}

const HEADER_BYTES = 8;
const LARGE_HEADER_BYTES = 16;

/** @throws TfsError UNDECODABLE when they do not fill the place exactly */
export function boxesIn(body: Buffer, start: number, end: number): Box[] {
  const boxes: Box[] = [];
  for (let at = start; at < end; ) {
    if (at + HEADER_BYTES > end || boxes.length > PARTS_MAX) throw malformed(`no box at byte ${at}`);
    const size = body.readUInt32BE(at);
    const type = body.toString('latin1', at + 4, at + 8);
    let header = HEADER_BYTES;
    let length = size;
    if (size === 0) length = end - at;
    if (size === 1) {
      if (at + LARGE_HEADER_BYTES > end) throw malformed(`no box at byte ${at}`);
      header = LARGE_HEADER_BYTES;
      length = Number(body.readBigUInt64BE(at + HEADER_BYTES));
    }
    if (length < header || at + length > end) throw malformed(`a box at byte ${at} has a wrong length`);
    boxes.push({ type, from: at, start: at + header, end: at + length });
    at += length;
  }
  return boxes;
}

/** Numbers of one box, one after the other. */
export class BoxReader {
  readonly #body: Buffer;
  readonly #end: number;
  #at: number;

  constructor(body: Buffer, { start, end }: Pick<Box, 'start' | 'end'>) {
    this.#body = body;
    this.#at = start;
    this.#end = end;
  }

  get at(): number {
    return this.#at;
  }

  /** @param bytes 0, 1, 2, 4 or 8; of 0 the number is 0 */
  number(bytes: number): number {
    const from = this.#at;
    this.skip(bytes);
    if (bytes === 0) return 0;
    if (bytes <= 4) return this.#body.readUIntBE(from, bytes);
    if (bytes === 8) return Number(this.#body.readBigUInt64BE(from));
    throw malformed('a number of no usual length');
  }

  /** Up to a zero, or to the end of the box. */
  text(): string {
    const from = this.#at;
    const left = this.#body.subarray(from, this.#end);
    const zero = left.indexOf(0);
    const text = zero < 0 ? left : left.subarray(0, zero);
    this.#at = Math.min(this.#end, from + text.length + 1);
    return text.toString('latin1');
  }

  fourCharacters(): string {
    const from = this.#at;
    this.skip(4);
    return this.#body.toString('latin1', from, from + 4);
  }

  skip(bytes: number): void {
    if (this.#at + bytes > this.#end) throw malformed('a box that ends early');
    this.#at += bytes;
  }
}
