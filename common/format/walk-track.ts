import { SLOT_MAX } from '../ids.ts';
import { NameFlag } from '../wire/messages.ts';
import { RECORD_HEADER_BYTES, type RecordHeader, recordSpan } from './record.ts';
import { slotFlags, slotOffset, slotWord } from './slot-word.ts';
import type { Superblock } from './superblock.ts';
import type { BlockWalk, WalkOptions } from './walk.ts';

/** What a walk knows so far: slots, gaps, watermarks. No I/O. */
export class WalkTrack {
  readonly #compacted: boolean;
  readonly #slotEnd: number;
  readonly #firstSlot: number;
  #words = new Uint32Array(256);
  #count = 0;
  #end: number;
  #proven = 0;
  readonly #gaps: Gap[] = [];
  /** The gap that is still growing. */
  #gap: Gap | undefined;
  /** Where in it the part begins whose slots are not known yet; -1 where it ends with a known one. */
  #unknownFrom = -1;
  #soundAfterGap: number[] = [];

  constructor(superblock: Superblock, start: { readonly offset: number; readonly slot: number }) {
    this.#compacted = superblock.generation > 0;
    this.#slotEnd = this.#compacted ? superblock.slotCount : SLOT_MAX + 1;
    this.#firstSlot = start.slot;
    this.#end = start.offset;
  }

  get gapSeen(): boolean {
    return this.#gaps.length > 0;
  }

  /** Damaged spans in file order; the last one may go on. */
  get gaps(): readonly Readonly<Gap>[] {
    return this.#gaps;
  }

  get #next(): number {
    return this.#firstSlot + this.#count;
  }

  /** Slots are dense and in order; damage hides at least one record, and no more than there is room for. */
  fits(header: RecordHeader, at: number): boolean {
    const skipped = header.slot - this.#next;
    if (header.slot >= this.#slotEnd) return false;
    if (this.#compacted) return skipped >= (this.#unknownFrom >= 0 ? 1 : 0);
    if (this.#unknownFrom < 0) return skipped === 0;
    return skipped >= 1 && skipped <= Math.floor((at - this.#unknownFrom) / RECORD_HEADER_BYTES);
  }

  damaged(at: number): void {
    this.#openGap(at);
    if (this.#unknownFrom < 0) this.#unknownFrom = at;
  }

  sound(header: RecordHeader, at: number): void {
    this.#skipTo(header.slot, at);
    if (this.#gap !== undefined) {
      this.#closeGap(at);
      this.#soundAfterGap.push(0);
    }
    this.#push(slotWord(at));
    this.#proven = Math.max(this.#proven, header.ackedLength);
    this.#end = at + recordSpan(header.size);
    const last = this.#soundAfterGap.length - 1;
    if (last >= 0) this.#soundAfterGap[last]!++;
  }

  unsound(header: RecordHeader, at: number): void {
    this.#openGap(at);
    this.#skipTo(header.slot, at);
    this.#push(slotWord(at, NameFlag.LOST));
    this.#proven = Math.max(this.#proven, header.ackedLength);
  }

  finish(at: number, known: WalkOptions['proven']): Omit<BlockWalk, 'digest'> {
    const proven = Math.max(this.#proven, known?.length ?? 0);
    const tail = this.#gap?.start ?? at;
    if (this.#gap !== undefined) this.#closeGap(at);
    const torn = this.#gaps.findIndex((gap) => gap.start >= proven);
    const holes = torn < 0 ? [...this.#gaps] : this.#gaps.slice(0, torn);
    let validLength = this.#end;
    if (torn >= 0) {
      this.#count = this.#gaps[torn]!.firstSlot - this.#firstSlot;
      validLength = this.#gaps[torn]!.start;
    } else if (tail < proven || validLength < proven) {
      // Acknowledged, and nothing valid behind it that would end the hole.
      const open = holes.at(-1)?.start === tail ? holes.pop() : undefined;
      const firstSlot = open?.firstSlot ?? this.#next;
      const kept = firstSlot - this.#firstSlot;
      while (this.#count > kept && slotOffset(this.#words[this.#count - 1]!) >= proven) this.#count--;
      const last = this.#count > kept ? slotOffset(this.#words[this.#count - 1]!) : tail;
      this.#lose((known?.slots ?? 0) - this.#next, last);
      holes.push({ start: tail, end: proven, firstSlot, slots: this.#next - firstSlot });
      validLength = proven;
    }
    if (this.#compacted) this.#purgeTo(this.#slotEnd, validLength);
    for (const hole of holes) this.#alike(hole);
    const tornRecords = torn < 0 ? 0 : this.#soundAfterGap.slice(torn).reduce((sum, n) => sum + n, 0);
    return {
      validLength,
      provenLength: Math.min(proven, validLength),
      watermark: Math.min(this.#proven, validLength),
      slots: this.#next,
      words: this.#words.slice(0, this.#count),
      holes,
      tornRecords,
    };
  }

  /** How much of a damaged record can still be made out differs from replica to replica; where it lies must not. */
  #alike({ start, firstSlot, slots }: Gap): void {
    const from = firstSlot - this.#firstSlot;
    for (let i = from; i < from + slots; i++)
      if ((slotFlags(this.#words[i]!) & NameFlag.LOST) !== 0) this.#words[i] = slotWord(start, NameFlag.LOST);
  }

  #openGap(at: number): void {
    if (this.#gap !== undefined) return;
    this.#gap = { start: at, end: at, firstSlot: this.#next, slots: 0 };
    this.#gaps.push(this.#gap);
  }

  #closeGap(at: number): void {
    const gap = this.#gap!;
    gap.end = at;
    gap.slots = this.#next - gap.firstSlot;
    this.#gap = undefined;
    this.#unknownFrom = -1;
  }

  /** Slots between the last known one and this: lost in damage, else left out by a compaction. */
  #skipTo(slot: number, at: number): void {
    if (this.#unknownFrom >= 0) this.#lose(slot - this.#next, this.#unknownFrom);
    else this.#purgeTo(slot, at);
    this.#unknownFrom = -1;
  }

  /** Their boundaries are not known: all are said to start where the damage does. */
  #lose(count: number, offset: number): void {
    for (let i = 0; i < count; i++) this.#push(slotWord(offset, NameFlag.LOST));
  }

  #purgeTo(slot: number, at: number): void {
    while (this.#next < slot) this.#push(slotWord(at, NameFlag.PURGED));
  }

  #push(word: number): void {
    if (this.#count === this.#words.length) {
      const grown = new Uint32Array(this.#words.length * 2);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[this.#count++] = word;
  }
}

interface Gap {
  start: number;
  end: number;
  firstSlot: number;
  slots: number;
}
