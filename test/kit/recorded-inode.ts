import { crc32 } from 'node:zlib';

/** Unit of tearing: a disk stores these as a whole or not at all. */
export const SECTOR_BYTES = 512;

/** Something a crash may keep or lose. */
export type Change =
  /** Bytes inside one sector; keeping them keeps the size they need. */
  { readonly at: number; readonly bytes: Buffer } | { readonly size: number };

/** A file of a RecordingDisk: what reads see, what is durable, and the changes between the two. */
export class Inode {
  /** Never changed in place: a crash point may hold it. */
  durable: Buffer;
  /** Bytes [start, end) that the medium does not give any more. */
  unreadable: { readonly start: number; readonly end: number } | undefined;
  /** Undefined while reads see the durable bytes: most files of most crash images are never written. */
  #current: Buffer | undefined;
  #capacity = 0;
  #pending: Change[] = [];
  /** Left clean by a failed sync: no later sync writes them. */
  #forgotten: Change[] = [];

  constructor(durable: Buffer = Buffer.alloc(0)) {
    this.durable = durable;
  }

  get content(): Buffer {
    return this.#current ?? this.durable;
  }

  /** Of what reads see, with the size. */
  get checksum(): string {
    const { content } = this;
    let sum = sums.get(content);
    if (sum === undefined) {
      sum = `${content.length}.${crc32(content)}`;
      // What is durable is never changed in place.
      if (this.#current === undefined) sums.set(content, sum);
    }
    return sum;
  }

  get unsettled(): readonly Change[] {
    return [...this.#forgotten, ...this.#pending];
  }

  write(data: Buffer, position: number): void {
    const end = position + data.length;
    const size = this.content.length;
    this.#reserve(Math.max(size, end));
    data.copy(this.#current!, position);
    for (let at = position; at < end; ) {
      const next = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
      this.#pending.push({ at, bytes: data.subarray(at - position, next - position) });
      at = next;
    }
    if (end > size) this.#pending.push({ size: end });
  }

  truncate(size: number): void {
    if (size === this.content.length) return;
    this.#reserve(size);
    this.#pending.push({ size });
  }

  /** A good sync. */
  settle(): void {
    if (this.#pending.length === 0) return;
    if (this.#forgotten.length === 0) {
      this.durable = Buffer.from(this.content);
      this.#current = undefined;
    } else {
      this.durable = Inode.after(this.durable, this.#pending, () => true);
      // A sector that was written again in full is no longer in doubt.
      const again = new Set<number>();
      for (const c of this.#pending) if ('at' in c && c.bytes.length === SECTOR_BYTES) again.add(c.at);
      this.#forgotten = this.#forgotten.filter((c) => !('at' in c) || !again.has(sectorOf(c.at)));
    }
    this.#pending = [];
  }

  /** A failed sync. */
  forget(): void {
    this.#forgotten.push(...this.#pending);
    this.#pending = [];
  }

  /** Damage: this is what the medium holds now. */
  replace(content: Buffer): void {
    this.durable = content;
    this.#current = undefined;
    this.#pending = [];
  }

  /** Another file in the same state: what is volatile here is volatile there. */
  fork(): Inode {
    const twin = new Inode(this.durable);
    if (this.#current !== undefined) {
      twin.#current = Buffer.from(this.#current);
      twin.#capacity = this.#current.length;
    }
    twin.#pending = [...this.#pending];
    twin.#forgotten = [...this.#forgotten];
    return twin;
  }

  static after(base: Buffer, changes: readonly Change[], keep: (change: number) => boolean): Buffer {
    const kept = changes.filter((_, i) => keep(i));
    if (kept.length === 0) return base;
    let size = base.length;
    const onlyGrows = kept.every((change) => {
      const end = endOf(change);
      const grows = !('size' in change) || end >= size;
      size = Math.max(size, end);
      return grows;
    });
    // The usual case, in one piece.
    if (onlyGrows) return overwritten(base, kept, size);
    return Inode.#afterEach(base, kept);
  }

  static #afterEach(base: Buffer, kept: readonly Change[]): Buffer {
    let image = base;
    let copied = false;
    const resize = (size: number): void => {
      const next = Buffer.alloc(size);
      image.copy(next);
      image = next;
      copied = true;
    };
    for (const change of kept) {
      if ('size' in change) {
        resize(change.size);
        continue;
      }
      const end = change.at + change.bytes.length;
      if (end > image.length) resize(end);
      else if (!copied) resize(image.length);
      change.bytes.copy(image, change.at);
    }
    return image;
  }

  #reserve(size: number): void {
    const content = this.content;
    if (this.#current === undefined || size > this.#capacity) {
      this.#capacity = Math.max(size, Math.min(content.length * 2, content.length + 65_536));
      const whole = Buffer.alloc(this.#capacity);
      content.copy(whole, 0, 0, size);
      this.#current = whole.subarray(0, size);
      return;
    }
    const before = content.length;
    const whole = Buffer.from(this.#current.buffer, this.#current.byteOffset, this.#capacity);
    if (size < before) whole.fill(0, size, before);
    this.#current = whole.subarray(0, size);
  }
}

const endOf = (change: Change): number => ('size' in change ? change.size : change.at + change.bytes.length);

function overwritten(base: Buffer, kept: readonly Change[], size: number): Buffer {
  const image = Buffer.allocUnsafe(size);
  base.copy(image);
  image.fill(0, base.length);
  for (const change of kept) if ('at' in change) change.bytes.copy(image, change.at);
  return image;
}

const sectorOf = (at: number): number => Math.floor(at / SECTOR_BYTES) * SECTOR_BYTES;

/** Most files of most images are the same durable bytes. */
const sums = new WeakMap<Buffer, string>();
