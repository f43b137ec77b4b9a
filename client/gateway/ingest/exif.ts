/**
 * EXIF blocks (Exif 2.32 §4.6, which is TIFF 6.0 with its own tags): what orientation one tells, and the same one without what
 * could tell a place. Bytes are from clients: every offset is checked, and nothing is followed deeper or longer than a block
 * of 64 KB allows.
 */

const ORIENTATION = 0x0112;
const EXIF_IFD = 0x8769;
const INTEROP_IFD = 0xa005;
/** Directories that are gone into; all others go away with what points to them. */
const CHILDREN: ReadonlySet<number> = new Set([EXIF_IFD, INTEROP_IFD]);
const DEPTH_MAX = 3;
const ENTRIES_MAX = 1_000;
/** A segment of a JPEG holds no more; elsewhere nobody needs more. */
const BYTES_MAX = 65_000;

/**
 * What never stays. GPS tells the place outright; the others are blocks in which nobody but their makers knows what there is,
 * further packets of metadata, and small pictures that may have metadata of their own.
 */
const DROPPED: ReadonlySet<number> = new Set([
  0x8825, // GPS
  0x927c, // MakerNote
  0x014a, // SubIFDs
  ...[0x0201, 0x0202], // thumbnail
  0x02bc, // XMP
  0x83bb, // IPTC
  0x8649, // Photoshop
  0xc634, // DNG private data
]);
/** Bytes of one value, by its type; undefined for types that there are not. */
const TYPE_BYTES: readonly (number | undefined)[] = [undefined, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4];
const TEXT_TYPES: ReadonlySet<number> = new Set([1, 2, 7]);
const TELLS_PLACE = /gps|latitude|longitude/i;

interface Entry {
  readonly tag: number;
  readonly type: number;
  readonly count: number;
  readonly value: Buffer;
  readonly child: Directory | undefined;
}
interface Directory {
  readonly entries: readonly Entry[];
}

/** Reads and writes numbers in the byte order of a block. */
class Bytes {
  readonly at: Buffer;
  readonly isLittle: boolean;

  constructor(at: Buffer, isLittle: boolean) {
    this.at = at;
    this.isLittle = isLittle;
  }

  u16(offset: number): number {
    return this.isLittle ? this.at.readUInt16LE(offset) : this.at.readUInt16BE(offset);
  }

  u32(offset: number): number {
    return this.isLittle ? this.at.readUInt32LE(offset) : this.at.readUInt32BE(offset);
  }

  put16(value: number, offset: number): void {
    if (this.isLittle) this.at.writeUInt16LE(value, offset);
    else this.at.writeUInt16BE(value, offset);
  }

  put32(value: number, offset: number): void {
    if (this.isLittle) this.at.writeUInt32LE(value, offset);
    else this.at.writeUInt32BE(value, offset);
  }
}

/**
 * @param block from its byte order mark on
 * @returns 1..8; undefined when it tells none. A damaged block may tell it all the same.
 */
export function orientationIn(block: Buffer): number | undefined {
  const bytes = open(block);
  if (bytes === undefined) return undefined;
  const start = bytes.u32(4);
  if (start + 2 > block.length) return undefined;
  const count = Math.min(bytes.u16(start), ENTRIES_MAX);
  for (let i = 0, at = start + 2; i < count && at + 12 <= block.length; i++, at += 12) {
    if (bytes.u16(at) !== ORIENTATION) continue;
    const value = bytes.u16(at + 2) === 4 ? bytes.u32(at + 8) : bytes.u16(at + 8);
    return value >= 1 && value <= 8 ? value : undefined;
  }
  return undefined;
}

/**
 * @returns the same block where it tells no place, else one that is written anew without it; undefined where it is damaged,
 *   or nobody can say what it tells
 */
export function withoutLocation(block: Buffer): Buffer | undefined {
  const bytes = open(block);
  if (bytes === undefined || block.length > BYTES_MAX) return undefined;
  const found = { dropped: false, valueBytes: 0 };
  const root = read(bytes, bytes.u32(4), DEPTH_MAX, found);
  if (root === undefined) return undefined;
  return found.dropped ? written(root, bytes.isLittle) : block;
}

/** Takes its thumbnail away, in place: what points to it is cleared, and nothing moves. A damaged block stays as it is. */
export function unlinkThumbnail(block: Buffer): void {
  const bytes = open(block);
  if (bytes === undefined) return;
  const start = bytes.u32(4);
  if (start + 2 > block.length) return;
  const linkAt = start + 2 + 12 * bytes.u16(start);
  if (linkAt + 4 <= block.length) bytes.put32(0, linkAt);
}

/** A block that tells nothing but the orientation. */
export function orientationOnly(orientation: number): Buffer {
  const value = Buffer.alloc(2);
  value.writeUInt16LE(orientation);
  const entry = { tag: ORIENTATION, type: 3, count: 1, value, child: undefined };
  return written({ entries: [entry] }, true)!;
}

/** As {@link withoutLocation}, and of a damaged one only the orientation. @returns undefined for nothing */
export function cleanedExif(block: Buffer): Buffer | undefined {
  const cleaned = withoutLocation(block);
  if (cleaned !== undefined) return cleaned;
  const orientation = orientationIn(block);
  return orientation === undefined || orientation === 1 ? undefined : orientationOnly(orientation);
}

const PREFIX = 'Exif\0\0';

/**
 * As {@link cleanedExif}, of a chunk that some programs begin with the six bytes that a JPEG has there. They stay: whether a
 * decoder understands it, and so which way up it shows the picture, must not change.
 *
 * @returns the same buffer when nothing was taken out
 */
export function cleanedExifChunk(chunk: Buffer): Buffer | undefined {
  const block = withoutPrefix(chunk);
  const now = cleanedExif(block);
  if (now === block) return chunk;
  const prefix = chunk.subarray(0, chunk.length - block.length);
  return now === undefined ? undefined : Buffer.concat([prefix, now]);
}

/** The block in such a chunk. */
export const withoutPrefix = (chunk: Buffer): Buffer =>
  chunk.toString('latin1', 0, PREFIX.length) === PREFIX ? chunk.subarray(PREFIX.length) : chunk;

function open(block: Buffer): Bytes | undefined {
  if (block.length < 8) return undefined;
  const mark = block.toString('latin1', 0, 2);
  if (mark !== 'II' && mark !== 'MM') return undefined;
  const bytes = new Bytes(block, mark === 'II');
  return bytes.u16(2) === 42 && bytes.u32(4) >= 8 ? bytes : undefined;
}

function read(
  bytes: Bytes,
  start: number,
  depth: number,
  found: { dropped: boolean; valueBytes: number },
): Directory | undefined {
  const block = bytes.at;
  if (start + 2 > block.length) return undefined;
  const count = bytes.u16(start);
  if (count > ENTRIES_MAX || start + 2 + 12 * count > block.length) return undefined;
  const end = start + 2 + 12 * count;
  // The next directory: after the first one that of the thumbnail.
  if (end + 4 <= block.length && bytes.u32(end) !== 0) found.dropped = true;
  const entries: Entry[] = [];
  for (let i = 0, at = start + 2; i < count; i++, at += 12) {
    const tag = bytes.u16(at);
    if (DROPPED.has(tag)) {
      found.dropped = true;
      continue;
    }
    const type = bytes.u16(at + 2);
    const values = bytes.u32(at + 4);
    const size = TYPE_BYTES[type];
    if (size === undefined) return undefined;
    const from = size * values <= 4 ? at + 8 : bytes.u32(at + 8);
    if (from + size * values > block.length) return undefined;
    // Values that lie over each other would make this long for a short block.
    found.valueBytes += size * values;
    if (found.valueBytes > block.length) return undefined;
    const value = block.subarray(from, from + size * values);
    if (TEXT_TYPES.has(type) && TELLS_PLACE.test(value.toString('latin1').replaceAll('\0', ''))) {
      found.dropped = true;
      continue;
    }
    let child: Directory | undefined;
    if (CHILDREN.has(tag)) {
      if (size * values !== 4 || depth <= 1) return undefined;
      child = read(bytes, bytes.u32(at + 8), depth - 1, found);
      if (child === undefined) return undefined;
    }
    entries.push({ tag, type, count: values, value, child });
  }
  return { entries };
}

/** @returns undefined when it would be too long: values that lie over each other are written apart */
function written(root: Directory, isLittle: boolean): Buffer | undefined {
  const length = 8 + lengthOf(root);
  if (length > BYTES_MAX) return undefined;
  const out = new Bytes(Buffer.alloc(length), isLittle);
  out.at.write(isLittle ? 'II' : 'MM', 'latin1');
  out.put16(42, 2);
  out.put32(8, 4);
  write(out, root, 8);
  return out.at;
}

const even = (bytes: number): number => bytes + (bytes & 1);
const tableBytes = ({ entries }: Directory): number => 2 + 12 * entries.length + 4;

function lengthOf(directory: Directory): number {
  let length = tableBytes(directory);
  for (const { value, child } of directory.entries)
    length += child === undefined ? (value.length > 4 ? even(value.length) : 0) : lengthOf(child);
  return length;
}

function write(out: Bytes, directory: Directory, start: number): void {
  const { entries } = directory;
  out.put16(entries.length, start);
  let free = start + tableBytes(directory);
  for (const [i, { tag, type, count, value, child }] of entries.entries()) {
    const at = start + 2 + 12 * i;
    out.put16(tag, at);
    out.put16(type, at + 2);
    out.put32(count, at + 4);
    if (child !== undefined) {
      out.put32(free, at + 8);
      write(out, child, free);
      free += lengthOf(child);
    } else if (value.length > 4) {
      out.put32(free, at + 8);
      value.copy(out.at, free);
      free += even(value.length);
    } else value.copy(out.at, at + 8);
  }
}
