/**
 * Walks the records of one block in file order, whatever state the bytes are in: recovery, verification, salvage and
 * fsck all stand on it.
 *
 * Where no valid record starts at X, the walk looks on, at every multiple of 8, for a later valid header. A header
 * found there carries `ackedLength`, the length that was durable everywhere when it was written. If any says more
 * than X, then what stood at X had been acknowledged: a **hole**, damage to be repaired from another replica, and the
 * walk goes on behind it. If none does, X is a **torn tail**: the writes that were in flight when the power went,
 * acknowledged to nobody, and the block is valid up to X. So nothing below a watermark is ever cut off.
 *
 * A read error of the source is neither; it rejects the walk.
 */

import { createHash } from 'node:crypto';
import { crc32 } from '../crc.ts';
import { assert } from '../errors.ts';
import { SLOT_MAX } from '../ids.ts';
import { RECORD_ALIGN_BYTES, SUPERBLOCK_BYTES, WALK_BUFFER_BYTES } from '../limits.ts';
import { NameFlag } from '../wire/messages.ts';
import {
  blockSeed,
  checkPayload,
  decodeRecordHeader,
  peekRecord,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from './record.ts';
import { slotOffset, slotWord } from './slot-word.ts';
import type { ByteSource } from './source.ts';
import type { Superblock } from './superblock.ts';

/** A record with a valid header. The buffers are views of the walk's own: use or copy them before returning. */
export interface WalkedRecord {
  readonly header: RecordHeader;
  readonly offset: number;
  /** Bytes of the block it takes. */
  readonly span: number;
  /** Header and chunk table. */
  readonly headerBytes: Buffer;
  /** Always true where payloads are not checked. */
  readonly payloadOk: boolean;
  /** The payload, where it was read in one piece; large ones are not. */
  readonly payload: Buffer | undefined;
}

export interface WalkOptions {
  /** A record boundary to start from instead of the first record, and the slot of the record there. */
  readonly from?: { readonly offset: number; readonly slot: number };
  /** No record reaches beyond; the whole source when absent. For a sealed block, its length. */
  readonly end?: number;
  /** What is known from elsewhere to have been acknowledged: the length and slots of a SEAL. */
  readonly proven?: { readonly length: number; readonly slots?: number };
  /** Default true. */
  readonly checkPayloads?: boolean;
  /** Sees every valid header in file order, those beyond the later `validLength` too. */
  readonly onRecord?: (record: WalkedRecord) => void | Promise<void>;
}

/** Bytes [start, end) that do not verify although they had been acknowledged, and the slots that lie there. */
export interface Hole {
  readonly start: number;
  readonly end: number;
  readonly firstSlot: number;
  readonly slots: number;
}

export interface BlockWalk {
  /** Where the records end: behind the last one that is valid, or the end of the last hole. */
  readonly validLength: number;
  /** The highest acknowledged length that any header (or `proven`) tells; never above `validLength`. */
  readonly provenLength: number;
  /** Slots below `validLength`, those in holes included. */
  readonly slots: number;
  /** One slot word for each, LOST where the record is in a hole; PURGED where a compacted block left the slot out. */
  readonly words: Uint32Array;
  readonly holes: readonly Hole[];
  /** Valid records beyond `validLength`: written, acknowledged to nobody, to be dropped. */
  readonly tornRecords: number;
  /** SHA-256 over the headers in slot order; absent with holes, or when the walk did not start at the first record. */
  readonly digest: Buffer | undefined;
}

/** @throws what the source throws */
export async function walkBlock(
  source: ByteSource,
  superblock: Superblock,
  options: WalkOptions = {},
): Promise<BlockWalk> {
  const seed = blockSeed(superblock);
  const end = Math.min(options.end ?? source.size, source.size);
  const start = options.from ?? { offset: SUPERBLOCK_BYTES, slot: 0 };
  assert(start.offset % RECORD_ALIGN_BYTES === 0, 'a walk starts on a record boundary');
  const checkPayloads = options.checkPayloads ?? true;
  const window = new Window(source, end);
  const track = new Track(superblock, start);
  const hash = createHash('sha256');
  let at = start.offset;

  while (at + RECORD_HEADER_BYTES <= end) {
    const header = await headerAt(window, at, seed, end);
    if (header === undefined || !track.fits(header, at)) {
      track.damaged(at);
      at = await window.nextMagic(at + RECORD_ALIGN_BYTES);
      continue;
    }
    const span = recordSpan(header.size);
    const headBytes = recordHeaderBytes(header.size);
    let payload: Buffer | undefined;
    let payloadOk = true;
    // Views of the window: only the header of a large record survives the reads of its payload, in a copy.
    let found = header;
    let headerBytes = window.view(at, headBytes);
    if (checkPayloads) {
      if (window.fits(span)) {
        if (!window.has(at, span)) {
          await window.load(at);
          headerBytes = window.view(at, headBytes);
          found = { ...header, opId: headerBytes.subarray(40, 56), sha1: headerBytes.subarray(56, 76) };
        }
        payload = window.view(at + headBytes, header.size);
        payloadOk = checkPayload(header, payload);
      } else {
        headerBytes = Buffer.from(headerBytes);
        found = { ...header, opId: headerBytes.subarray(40, 56), sha1: headerBytes.subarray(56, 76) };
        payloadOk = (await window.crc(at + headBytes, header.size)) === header.dataCrc;
      }
    }
    if (payloadOk) track.sound(found, at);
    else track.unsound(found, at);
    if (!track.gapSeen) hash.update(headerBytes);
    const pending = options.onRecord?.({ header: found, offset: at, span, headerBytes, payloadOk, payload });
    if (pending !== undefined) await pending;
    at += span;
  }
  const result = track.finish(Math.min(at, end), options.proven);
  const whole = result.holes.length === 0 && options.from === undefined;
  return { ...result, digest: whole ? hash.digest() : undefined };
}

async function headerAt(
  window: Window,
  at: number,
  seed: number,
  end: number,
): Promise<RecordHeader | undefined> {
  if (!window.has(at, RECORD_HEADER_BYTES)) await window.load(at);
  const size = peekRecord(window.bytes, at - window.start);
  // Looked at before the checksum, so that a claim of a huge chunk table in garbage costs nothing.
  if (size < 0 || at + recordSpan(size) > end) return undefined;
  if (!window.has(at, recordHeaderBytes(size))) await window.load(at);
  const header = decodeRecordHeader(window.bytes, at - window.start, seed, at);
  return header.ok ? header.value : undefined;
}

interface Gap {
  start: number;
  end: number;
  firstSlot: number;
  slots: number;
}

/** What the walk knows so far: slots, gaps, watermarks. No I/O. */
class Track {
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
    const tornRecords = torn < 0 ? 0 : this.#soundAfterGap.slice(torn).reduce((sum, n) => sum + n, 0);
    return {
      validLength,
      provenLength: Math.min(proven, validLength),
      slots: this.#next,
      words: this.#words.slice(0, this.#count),
      holes,
      tornRecords,
    };
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

const MAGIC_BYTES = Buffer.alloc(4);
MAGIC_BYTES.writeUInt32LE(RECORD_MAGIC, 0);

/** A large piece of the source in memory, moved forward by whole reads. */
class Window {
  readonly #source: ByteSource;
  readonly #buffer: Buffer;
  readonly #end: number;
  start = 0;
  bytes: Buffer;

  constructor(source: ByteSource, end: number) {
    this.#source = source;
    this.#end = end;
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(Math.min(WALK_BUFFER_BYTES, align8Up(end)), 4096));
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

  /** @throws Error where the source ends before the size it stated */
  async load(at: number): Promise<void> {
    const want = Math.min(this.#buffer.length, this.#end - at);
    this.bytes = this.#buffer.subarray(0, 0);
    const got = await this.#source.read(this.#buffer.subarray(0, want), at);
    if (got !== want) throw new Error(`the file ends at ${at + got}, ${this.#end} bytes were there`);
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
