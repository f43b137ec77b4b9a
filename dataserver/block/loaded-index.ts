import type { AliasTable } from '../../common/format/ops.ts';
import { slotFlags, slotOffset, slotSpan, slotWord } from '../../common/format/slot-word.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { NameFlag } from '../../common/wire/messages.ts';

const WORDS_MIN = 256;

interface FileUse {
  retired: boolean;
  holders: number;
  onIdle: (() => void) | undefined;
}

/**
 * What reading a block needs: its open file and one word for each record. Of a sealed block the words never move;
 * of an OPEN one they grow, always together with `count` and `length` and only by what is durable.
 */
export class LoadedIndex {
  readonly file: DiskFile;
  /** Of the checksums of the headers in that file. */
  readonly seed: number;
  words: Uint32Array;
  /** Slots in use. */
  count: number;
  /** End of the last record. */
  length: number;
  /** The second names; the same table as in the ops log's state while that is in memory. */
  aliases: AliasTable | undefined;
  /** Read since the eviction hand last passed. */
  touched = true;
  /** Of the file, so shared with the indexes that came before and after this one over the same file. */
  #use: FileUse = { retired: false, holders: 0, onIdle: undefined };

  constructor(file: DiskFile, words: Uint32Array, count: number, length: number, seed: number) {
    this.file = file;
    this.seed = seed;
    this.words = words;
    this.count = count;
    this.length = length;
  }

  /** Over the same open file, with other words: whoever still reads through the old one keeps the file open. */
  static over(before: LoadedIndex, words: Uint32Array, count: number, length: number): LoadedIndex {
    const index = new LoadedIndex(before.file, words, count, length, before.seed);
    index.#use = before.#use;
    return index;
  }

  static empty(file: DiskFile, seed: number): LoadedIndex {
    return new LoadedIndex(file, new Uint32Array(WORDS_MIN), 0, SUPERBLOCK_BYTES, seed);
  }

  /** Another file has taken its place: what is read through this one says nothing about the block any more. */
  get retired(): boolean {
    return this.#use.retired;
  }

  retire(): void {
    this.#use.retired = true;
  }

  /** For reads in several steps: the file stays open until as many {@link release}s. */
  hold(): void {
    this.#use.holders++;
  }

  release(): void {
    if (--this.#use.holders === 0) this.#use.onIdle?.();
  }

  get held(): boolean {
    return this.#use.holders > 0;
  }

  /** Resolves when nobody holds it. */
  async idle(): Promise<void> {
    if (!this.held) return;
    await new Promise<void>((resolve) => {
      this.#use.onIdle = resolve;
    });
  }

  get bytes(): number {
    return this.words.byteLength + (this.aliases?.bytes ?? 0);
  }

  /** @param slot below `count` */
  offsetOf(slot: number): number {
    return slotOffset(this.words[slot]!);
  }

  /** @param slot below `count` */
  spanOf(slot: number): number {
    return slotSpan(this.words, this.count, slot, this.length);
  }

  /** The next record, durable by now. */
  push(offset: number, span: number, nameFlags: number): void {
    if (this.count === this.words.length) {
      const grown = new Uint32Array(this.words.length * 2);
      grown.set(this.words);
      this.words = grown;
    }
    this.words[this.count++] = slotWord(offset, nameFlags);
    this.length = offset + span;
  }

  /** A compaction has left it out: it keeps its place, and has no bytes. */
  isLeftOut(slot: number): boolean {
    const flags = slotFlags(this.words[slot]!) & (NameFlag.PURGED | NameFlag.LOST);
    return flags === NameFlag.PURGED && this.spanOf(slot) === 0;
  }

  /** The slot of the record that starts there: not one that a compaction has left out in front of it. */
  recordAt(offset: number): number | undefined {
    for (let slot = this.slotAt(offset); slot < this.count && this.offsetOf(slot) === offset; slot++)
      if (!this.isLeftOut(slot)) return slot;
    return undefined;
  }

  /** The first slot that starts at or after `offset`; `count` where none does. */
  slotAt(offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.offsetOf(middle) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
