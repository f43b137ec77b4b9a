import { type BlockPage, INLINE_REPLICAS, REPLICA_WORDS_MAX, SEGMENT_ROWS } from './block-page.ts';

/**
 * One segment of a block page as bytes, for the checkpoint: the columns of its rows one after the other, then the
 * replicas beyond the third.
 *
 *   version u8 · 0 u8 · rows u16 · columns: length u32, seq u32, epoch low u32, replica words 3 × u32, epoch high u16,
 *   n u16, generation u16, dead u16, state u8, shape u8, each `rows` long · then for each row with more replicas:
 *   row u16 · count u16 · words u32 each
 *
 * In the byte order of the machine: it is read only where it was written, and can be done without.
 */
const VERSION = 1;
const HEAD_BYTES = 4;
const ROW_BYTES = 22 + 4 * INLINE_REPLICAS;

type Column = Uint8Array | Uint16Array | Uint32Array;

/** @returns undefined when the segment holds no block */
export function encodeSegment(page: BlockPage, segment: number): Buffer | undefined {
  const from = segment * SEGMENT_ROWS;
  let rows = 0;
  const extra: number[] = [];
  for (let row = from; row < Math.min(from + SEGMENT_ROWS, page.rows); row++) {
    if (!page.has(row)) continue;
    rows = row - from + 1;
    if (page.wordCount(row) > INLINE_REPLICAS) extra.push(row);
  }
  if (rows === 0) return undefined;
  const extraBytes = extra.reduce((sum, row) => sum + 4 + 4 * (page.wordCount(row) - INLINE_REPLICAS), 0);
  const out = Buffer.alloc(HEAD_BYTES + rows * ROW_BYTES + extraBytes);
  out[0] = VERSION;
  out.writeUInt16LE(rows, 2);
  let at = HEAD_BYTES;
  for (const [column, width] of columnsOf(page)) {
    const part = column.subarray(from * width, (from + rows) * width);
    out.set(bytesOf(part), at);
    at += part.byteLength;
  }
  for (const row of extra) {
    const count = page.wordCount(row) - INLINE_REPLICAS;
    out.writeUInt16LE(row - from, at);
    out.writeUInt16LE(count, at + 2);
    for (let i = 0; i < count; i++) out.writeUInt32LE(page.word(row, INLINE_REPLICAS + i), at + 4 + 4 * i);
    at += 4 + 4 * count;
  }
  return out;
}

/** @returns whether the bytes had the form; if not, the page is as before */
export function decodeSegment(page: BlockPage, segment: number, bytes: Buffer): boolean {
  if (bytes.length < HEAD_BYTES || bytes[0] !== VERSION) return false;
  const rows = bytes.readUInt16LE(2);
  const columnsEnd = HEAD_BYTES + rows * ROW_BYTES;
  if (rows === 0 || rows > SEGMENT_ROWS || bytes.length < columnsEnd) return false;
  const extras = readExtras(bytes, columnsEnd, rows);
  if (extras === undefined) return false;
  const from = segment * SEGMENT_ROWS;
  page.reserve(from + rows - 1);
  let at = HEAD_BYTES;
  for (const [column, width] of columnsOf(page)) {
    const part = column.subarray(from * width, (from + rows) * width);
    bytesOf(part).set(bytes.subarray(at, at + part.byteLength));
    at += part.byteLength;
  }
  for (let row = from; row < from + rows; row++) {
    const words = extras.get(row - from) ?? [];
    // The count says how many replicas there are; adding each brings it there again.
    if (page.wordCount(row) > INLINE_REPLICAS) page.shape[row] = (page.shape[row]! & 0xf0) | INLINE_REPLICAS;
    for (const word of words) page.addWord(row, word);
  }
  return true;
}

function readExtras(bytes: Buffer, start: number, rows: number): Map<number, number[]> | undefined {
  const extras = new Map<number, number[]>();
  let at = start;
  while (at < bytes.length) {
    if (bytes.length - at < 4) return undefined;
    const row = bytes.readUInt16LE(at);
    const count = bytes.readUInt16LE(at + 2);
    const end = at + 4 + 4 * count;
    if (row >= rows || count > REPLICA_WORDS_MAX - INLINE_REPLICAS || end > bytes.length) return undefined;
    extras.set(
      row,
      Array.from({ length: count }, (_, i) => bytes.readUInt32LE(at + 4 + 4 * i)),
    );
    at = end;
  }
  return extras;
}

/** Widest first, so that every column starts aligned; with the entries a row has in it. */
const columnsOf = (page: BlockPage): [Column, number][] => [
  [page.length, 1],
  [page.seq, 1],
  [page.epochLow, 1],
  [page.words, INLINE_REPLICAS],
  [page.epochHigh, 1],
  [page.n, 1],
  [page.generation, 1],
  [page.dead, 1],
  [page.state, 1],
  [page.shape, 1],
];

const bytesOf = (part: Column): Uint8Array => new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
