import { assert } from '../common/errors.ts';
import type { BlockId } from '../common/ids.ts';
import { COUNTERS_PER_SERIES, SUPERBLOCK_BYTES } from '../common/limits.ts';
import { sameReport } from './replica-word.ts';
import type { TableDigests } from './table-digests.ts';

/** Replicas kept in the columns; more go into a map, which few blocks need. */
export const INLINE_REPLICAS = 3;
/** The count of replicas has four bits; members are at most 8, the rest are leftovers. */
export const REPLICA_WORDS_MAX = 15;
const ROWS_MIN = 1024;
/** Rows of one checkpoint entry. */
export const SEGMENT_ROWS = 1024;
export const SEGMENTS_PER_PAGE = COUNTERS_PER_SERIES / SEGMENT_ROWS;

/** What a block as a whole is in, from the states of its members. */
export const Whole = {
  /** Members all OPEN, as far as they have reported. */
  OPEN: 1,
  /** Members disagree, or wait for their seal. */
  UNSEALED: 2,
  SEALED: 4,
  /** Given to a primary, not reported by anyone yet. */
  OPENING: 6,
} as const;
export type Whole = (typeof Whole)[keyof typeof Whole];

/** Beside the {@link Whole} in the state column: some replica is suspect or quarantined. */
export const SUSPECT_BIT = 0x80;

export const idOf = (page: number, row: number): BlockId => (page * COUNTERS_PER_SERIES + row) as BlockId;

/**
 * The blocks that share the upper 16 bits of their id (series and NameServer), one row for each counter below the
 * highest one used: 22 bytes a block and 4 for each of up to three replicas, no object a block. A row is there when
 * it has a replica word.
 */
export class BlockPage {
  /** id >>> 16 */
  readonly number: number;
  rows = 0;
  /** Bytes of the longest replica, or of all of them once sealed. */
  length = new Uint32Array(0);
  /** Newest operation any replica has reported. */
  seq = new Uint32Array(0);
  /** Version of the configuration: epoch, split, and n. */
  epochLow = new Uint32Array(0);
  epochHigh = new Uint16Array(0);
  n = new Uint16Array(0);
  generation = new Uint16Array(0);
  /** Dead bytes in units of `deadUnitBytes` of tunables.ts. */
  dead = new Uint16Array(0);
  /** {@link Whole}, and {@link SUSPECT_BIT}. */
  state = new Uint8Array(0);
  /** Wanted replicas in the upper four bits, replica words in the lower. */
  shape = new Uint8Array(0);
  words = new Uint32Array(0);
  /** Segments that changed since the last checkpoint. */
  readonly dirty = new Uint8Array(SEGMENTS_PER_PAGE);
  readonly #digests: TableDigests;
  #more = new Map<number, number[]>();

  /** @param digests told of every change of a replica */
  constructor(number: number, digests: TableDigests) {
    this.number = number;
    this.#digests = digests;
  }

  /** Makes room for the row; doubles, so that growing is rare. */
  reserve(row: number): void {
    assert(row < COUNTERS_PER_SERIES, 'a counter has 16 bits');
    if (row < this.rows) return;
    let rows = Math.max(this.rows, ROWS_MIN);
    while (rows <= row) rows *= 2;
    this.length = grown(this.length, new Uint32Array(rows));
    this.seq = grown(this.seq, new Uint32Array(rows));
    this.epochLow = grown(this.epochLow, new Uint32Array(rows));
    this.epochHigh = grown(this.epochHigh, new Uint16Array(rows));
    this.n = grown(this.n, new Uint16Array(rows));
    this.generation = grown(this.generation, new Uint16Array(rows));
    this.dead = grown(this.dead, new Uint16Array(rows));
    this.state = grown(this.state, new Uint8Array(rows));
    this.shape = grown(this.shape, new Uint8Array(rows));
    this.words = grown(this.words, new Uint32Array(rows * INLINE_REPLICAS));
    this.rows = rows;
  }

  has(row: number): boolean {
    return row < this.rows && (this.shape[row]! & 15) !== 0;
  }

  /** Sealed without a record, so that it never held an acknowledged name. */
  isEmpty(row: number): boolean {
    return (
      (this.state[row]! & ~SUSPECT_BIT) === Whole.SEALED &&
      this.length[row] === SUPERBLOCK_BYTES &&
      this.generation[row] === 0
    );
  }

  wordCount(row: number): number {
    return this.shape[row]! & 15;
  }

  word(row: number, i: number): number {
    return i < INLINE_REPLICAS
      ? this.words[row * INLINE_REPLICAS + i]!
      : this.#more.get(row)![i - INLINE_REPLICAS]!;
  }

  /** @param word of the same server as the one that is there */
  setWord(row: number, i: number, word: number): void {
    const before = this.word(row, i);
    if (!sameReport(before, word)) this.#digests.change(idOf(this.number, row), before, word);
    this.#putWord(row, i, word);
  }

  #putWord(row: number, i: number, word: number): void {
    if (i < INLINE_REPLICAS) this.words[row * INLINE_REPLICAS + i] = word;
    else this.#more.get(row)![i - INLINE_REPLICAS] = word >>> 0;
  }

  /** @returns its index, or -1 */
  indexOf(row: number, server: number): number {
    const count = this.shape[row]! & 15;
    for (let i = 0; i < count; i++) if ((this.word(row, i) & 0xffff) === server) return i;
    return -1;
  }

  /** @returns the index of the new word, or -1 when the block has more replicas than can be told apart */
  addWord(row: number, word: number): number {
    const count = this.shape[row]! & 15;
    if (count === REPLICA_WORDS_MAX) return -1;
    this.#digests.change(idOf(this.number, row), 0, word);
    if (count >= INLINE_REPLICAS) {
      const more = this.#more.get(row);
      if (more === undefined) this.#more.set(row, [word >>> 0]);
      else more.push(word >>> 0);
    } else this.words[row * INLINE_REPLICAS + count] = word;
    this.shape[row]!++;
    return count;
  }

  /** The last word takes the place of the removed one. */
  removeWord(row: number, i: number): void {
    const last = (this.shape[row]! & 15) - 1;
    assert(i <= last, 'only a word that is there is removed');
    this.#digests.change(idOf(this.number, row), this.word(row, i), 0);
    if (i !== last) this.#putWord(row, i, this.word(row, last));
    if (last >= INLINE_REPLICAS) {
      const more = this.#more.get(row)!;
      more.pop();
      if (more.length === 0) this.#more.delete(row);
    } else this.words[row * INLINE_REPLICAS + last] = 0;
    this.shape[row]!--;
  }

  /** A server has at most one word a row; the visitor may remove it. */
  eachWordOf(server: number, visit: (row: number, i: number) => void): void {
    const { words } = this;
    for (let at = 0; at < words.length; at++) {
      if ((words[at]! & 0xffff) !== server) continue;
      visit((at / INLINE_REPLICAS) | 0, at % INLINE_REPLICAS);
    }
    for (const [row, more] of this.#more) {
      const at = more.findIndex((word) => (word & 0xffff) === server);
      if (at >= 0) visit(row, INLINE_REPLICAS + at);
    }
  }

  clear(row: number): void {
    for (let i = 0; i < this.wordCount(row); i++)
      this.#digests.change(idOf(this.number, row), this.word(row, i), 0);
    this.#more.delete(row);
    this.words.fill(0, row * INLINE_REPLICAS, (row + 1) * INLINE_REPLICAS);
    for (const column of [this.length, this.seq, this.epochLow, this.epochHigh, this.n]) column[row] = 0;
    for (const column of [this.generation, this.dead, this.state, this.shape]) column[row] = 0;
  }

  /** The first words of a row, which were put into the column without {@link addWord}, count from now on. */
  countInline(row: number): void {
    const count = Math.min(INLINE_REPLICAS, this.wordCount(row));
    for (let i = 0; i < count; i++) this.#digests.change(idOf(this.number, row), 0, this.word(row, i));
  }

  epoch(row: number): number {
    return this.epochHigh[row]! * 0x1_0000_0000 + this.epochLow[row]!;
  }

  setEpoch(row: number, epoch: number): void {
    this.epochHigh[row] = Math.floor(epoch / 0x1_0000_0000);
    this.epochLow[row] = epoch >>> 0;
  }

  target(row: number): number {
    return this.shape[row]! >>> 4;
  }

  setTarget(row: number, target: number): void {
    this.shape[row] = (target << 4) | (this.shape[row]! & 15);
  }

  touch(row: number): void {
    this.dirty[(row / SEGMENT_ROWS) | 0] = 1;
  }

  /** Of the columns; replicas beyond the third come on top. */
  get bytes(): number {
    return this.rows * (22 + 4 * INLINE_REPLICAS);
  }
}

function grown<T extends Uint8Array | Uint16Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
