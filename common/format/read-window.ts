import { crc32 } from '../crc.ts';
import { assert, TfsError } from '../errors.ts';
import { RECORD_ALIGN_BYTES } from '../limits.ts';
import { tunable } from '../tunables.ts';
import { RECORD_HEADER_BYTES, RECORD_MAGIC } from './record.ts';
import type { ByteSource } from './source.ts';

const MAGIC_BYTES = Buffer.alloc(4);
MAGIC_BYTES.writeUInt32LE(RECORD_MAGIC, 0);

/** A large piece of the source in memory, moved forward by whole reads. */
export class ReadWindow {
  readonly #source: ByteSource;
  readonly #buffer: Buffer;
  readonly #end: number;
  start = 0;
  bytes: Buffer;

  constructor(source: ByteSource, end: number, bytes = tunable.walkBufferBytes) {
    this.#source = source;
    this.#end = end;
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(Math.min(bytes, align8Up(end)), 4096));
    this.bytes = this.#buffer.subarray(0, 0);
  }

  fits(length: number): boolean {
    return length <= this.#buffer.length;
  }

  has(at: number, length: number): boolean {
    return at >= this.start && at + length <= this.start + this.bytes.length;
  }

  view(at: number, length: number): Buffer {
    assert(this.has(at, length), 'a view is inside the window');
    return this.bytes.subarray(at - this.start, at - this.start + length);
  }

  /** @throws TfsError IO where the source ends before the size it stated */
  async load(at: number): Promise<void> {
    const want = Math.min(this.#buffer.length, this.#end - at);
    this.bytes = this.#buffer.subarray(0, 0);
    const got = await this.#source.read(this.#buffer.subarray(0, want), at);
    if (got !== want) throw new TfsError('IO', `the file ends at ${at + got}, ${this.#end} bytes were there`);
    this.start = at;
    this.bytes = this.#buffer.subarray(0, got);
  }

  async crc(at: number, length: number): Promise<number> {
    let crc = 0;
    for (let done = 0; done < length; ) {
      const here = at + done;
      if (!this.has(here, 1)) await this.load(here);
      const take = Math.min(length - done, this.start + this.bytes.length - here);
      crc = crc32(this.view(here, take), crc);
      done += take;
    }
    return crc;
  }

  /** @param length of bytes that are inside the window */
  isZero(at: number, length: number): boolean {
    for (let i = at - this.start; i < at - this.start + length; i++) if (this.bytes[i] !== 0) return false;
    return true;
  }

  /** The next multiple of 8 at or after `at` where a record may start; the end when there is none. */
  async nextMagic(at: number): Promise<number> {
    let from = at;
    while (from + RECORD_HEADER_BYTES <= this.#end) {
      // Windows start and end on multiples of 8 (but for the end of the file), so no aligned magic straddles them.
      if (!this.has(from, MAGIC_BYTES.length)) await this.load(from);
      const hit = this.bytes.indexOf(MAGIC_BYTES, from - this.start);
      if (hit < 0) from = align8Up(this.start + this.bytes.length);
      else if ((this.start + hit) % RECORD_ALIGN_BYTES === 0) return this.start + hit;
      else from = align8Up(this.start + hit);
    }
    return this.#end;
  }
}

const align8Up = (n: number): number => Math.ceil(n / RECORD_ALIGN_BYTES) * RECORD_ALIGN_BYTES;
