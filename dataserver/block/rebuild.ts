import { SHA1_BYTES } from '../../common/format/idx.ts';
import { recordHeaderBytes } from '../../common/format/record.ts';
import { slotWord } from '../../common/format/slot-word.ts';
import { encodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import { type BlockWalk, type Hole, walkBlock } from '../../common/format/walk.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { tunable } from '../../common/tunables.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { SealInfo } from './api.ts';
import type { StoreContext } from './context.ts';
import type { Donors } from './donor.ts';
import { seededAs, seedOf } from './faults.ts';
import { decodeRawRecords } from './raw-records.ts';
import { type Span, TolerantSource } from './tolerant-source.ts';

/** Bytes asked of a source at a time. */
/** Changes the source every time it runs, so it ends sooner; a bound all the same. */
const ROUNDS_MAX = 8;

export interface RebuildTarget {
  /** The file to be made. */
  readonly path: string;
  readonly superblock: Superblock;
  readonly seal: SealInfo;
  /** What there is here; it may be damaged, short, or not readable in places. */
  readonly own: DiskFile | undefined;
  /** Where the record behind the one at `offset` starts, as far as anything here tells. */
  readonly behind: (offset: number) => Boundary | undefined;
}

interface Boundary {
  readonly offset: number;
  readonly slots: number;
}

export interface Rebuilt {
  /** One slot word for each, LOST where there is no sound record. */
  readonly words: Uint32Array;
  /** 20 bytes a slot; zeros where there is none. */
  readonly sha1s: Buffer;
  /** The highest length that a header proves. */
  readonly provenLength: number;
  /** All records verify, but those that were sealed as lost, and so does the digest. */
  readonly whole: boolean;
  /** What is sound here does not fit what others have: it is not what was sealed. */
  readonly foreign: boolean;
  /** Records that came from others. */
  readonly fetched: number;
  /** Slots without a sound record. */
  readonly lost: number;
  /** Some of what is lost the disk failed to read here: it may be there all the same. */
  readonly unread: boolean;
  /** It is not what was here, but better: to be put in its place. */
  readonly better: boolean;
}

/** What one reading of the new file found. */
interface Look {
  readonly walked: BlockWalk;
  /** Where bytes behind a payload are not zero. */
  readonly pads: readonly { readonly at: number; readonly length: number }[];
  readonly sha1s: Buffer;
}

/** Makes a new block file, durable under a temporary name, of what is sound here and, where that is not, of what others have. */
export class Rebuild {
  readonly #context: StoreContext;
  readonly #target: RebuildTarget;
  readonly #donors: Donors;
  readonly #file: DiskFile;
  /** Where records start that nobody has. */
  readonly #lostAt = new Map<number, number>();
  #unreadable: readonly Span[] = [];
  #fetched = 0;
  #changed = false;
  /** A source that answered has no record where the sound ones here end. */
  #misfits = false;

  static async run(context: StoreContext, target: RebuildTarget, donors: Donors): Promise<Rebuilt> {
    const file = await context.open(target.path, 'create');
    try {
      return await new Rebuild(context, target, donors, file).#run();
    } finally {
      await file.close();
    }
  }

  private constructor(context: StoreContext, target: RebuildTarget, donors: Donors, file: DiskFile) {
    this.#context = context;
    this.#target = target;
    this.#donors = donors;
    this.#file = file;
  }

  async #run(): Promise<Rebuilt> {
    await this.#copyOwn();
    const isAllThere = await this.#complete();
    if (!this.#context.faults.has('rename-before-datasync')) await this.#sync();
    // Only what reads back after the sync counts.
    let seen = await this.#look();
    if (isAllThere && !this.#isWhole(seen)) {
      await this.#complete({ isLast: true });
      await this.#sync();
      seen = await this.#look();
    }
    return this.#conclude(seen);
  }

  /**
   * Fills in what is missing, until nothing more can be.
   *
   * @returns whether every hole was filled to its end: each record was looked at when it came, and all of them will be once
   *   more when they are synchronised, so that a look between these would be one too many. A large file takes longer to
   *   read and check than to write.
   */
  async #complete({ isLast = false } = {}): Promise<boolean> {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const { holes, pads } = round === 0 && !isLast ? await this.#firstLook() : await this.#lookForHoles();
      for (const { at, length } of pads) await this.#write([Buffer.alloc(length)], at);
      if (pads.length > 0) this.#changed = true;
      let filled = 0;
      let isFull = true;
      for (const hole of holes) {
        const outcome = await this.#fill(hole);
        filled += outcome.filled;
        isFull &&= outcome.isFull;
      }
      this.#fetched += filled;
      if (filled === 0) return false;
      if (isFull && !isLast) return true;
    }
    return false;
  }

  /** Where nothing was here nothing has to be read to know what is missing. */
  async #firstLook(): Promise<Pick<BlockWalk, 'holes'> & Pick<Look, 'pads'>> {
    const { own, seal } = this.#target;
    if (own !== undefined || seal.slots === 0) return this.#lookForHoles();
    return {
      holes: [{ start: SUPERBLOCK_BYTES, end: seal.length, firstSlot: 0, slots: seal.slots }],
      pads: [],
    };
  }

  async #lookForHoles(): Promise<Pick<BlockWalk, 'holes'> & Pick<Look, 'pads'>> {
    const { walked, pads } = await this.#look();
    return { holes: walked.holes, pads };
  }

  /** The superblock, then whatever can be read here; zeros for the rest. */
  async #copyOwn(): Promise<void> {
    const { superblock, seal, own } = this.#target;
    const image = encodeSuperblock(superblock);
    if (own === undefined) this.#changed = true;
    else {
      const source = await TolerantSource.of(own);
      const head = Buffer.alloc(SUPERBLOCK_BYTES);
      await source.read(head, 0);
      // What lies behind the seal, too: nobody knew of it when the block was opened, and so it was not cut.
      if (!head.equals(image) || source.size !== seal.length) this.#changed = true;
      const buffer = Buffer.allocUnsafe(tunable.batchBytesMax);
      const end = Math.min(source.size, seal.length);
      for (let at = SUPERBLOCK_BYTES; at < end; at += buffer.length) {
        this.#context.assertOpen();
        const got = await source.read(buffer.subarray(0, Math.min(buffer.length, end - at)), at);
        await this.#write([buffer.subarray(0, got)], at);
      }
      this.#unreadable = source.unreadable;
      if (source.unreadable.length > 0) this.#changed = true;
    }
    await this.#write([image], 0);
    await this.#guarded(() => this.#file.truncate(seal.length));
  }

  async #look(): Promise<Look> {
    const { superblock, seal } = this.#target;
    this.#context.assertOpen();
    const sha1s = Buffer.alloc(seal.slots * SHA1_BYTES);
    const pads: { at: number; length: number }[] = [];
    const source = { size: seal.length, read: (to: Buffer, at: number) => this.#file.read(to, at) };
    const walked = await walkBlock(source, seededAs(superblock, this.#context.faults), {
      end: seal.length,
      proven: seal,
      onRecord: ({ header, offset, span, payloadOk, padOk }) => {
        const payloadEnd = offset + recordHeaderBytes(header.size) + header.size;
        if (payloadOk) header.sha1.copy(sha1s, header.slot * SHA1_BYTES);
        if (!padOk) pads.push({ at: payloadEnd, length: offset + span - payloadEnd });
      },
    });
    return { walked, pads, sha1s };
  }

  /** @returns records that were filled in, and whether none is missing any more */
  async #fill(hole: Hole): Promise<{ readonly filled: number; readonly isFull: boolean }> {
    let filled = 0;
    let isFull = true;
    for (let { start: at, firstSlot: slot } = hole; at < hole.end; ) {
      let way = this.#target.behind(at);
      const place = { offset: at, slot };
      const found = await this.#donors.first(async (donor) => {
        const { bytes, next } = await donor.records(at, Math.min(hole.end - at, tunable.fetchBytes));
        way ??= next;
        if (next === undefined) this.#misfits = true;
        if (bytes.length === 0 || at + bytes.length > hole.end) return undefined;
        const { superblock } = this.#target;
        const sparse = superblock.generation > 0;
        const seed = seedOf(this.#context.faults, superblock);
        return { bytes, headers: decodeRawRecords(bytes, seed, place, { sparse }) };
      });
      if (found !== undefined) {
        await this.#write([found.bytes], at);
        at += found.bytes.length;
        slot = found.headers.at(-1)!.slot + 1;
        filled += found.headers.length;
        continue;
      }
      isFull = false;
      this.#lostAt.set(slot, at);
      // Around a record that nobody has, if anybody knows where it ends; the bytes stay as they are.
      if (way === undefined || way.offset <= at || way.offset > hole.end) break;
      at = way.offset;
      slot += way.slots;
    }
    return { filled, isFull };
  }

  /** With the very records lost that were sealed as lost, if any were. */
  #isWhole({ walked, pads }: Look): boolean {
    const { seal } = this.#target;
    const isDense = walked.words.length === seal.slots && pads.length === 0;
    return isDense && walked.digest?.equals(seal.digest) === true;
  }

  #conclude(seen: Look): Rebuilt {
    const { walked, sha1s } = seen;
    const { words, holes, watermark } = walked;
    const whole = this.#isWhole(seen);
    let lost = 0;
    for (const { start, firstSlot, slots } of holes) {
      lost += slots;
      if (whole) continue;
      // Offsets never go back: a record whose place nobody knows lies where the last known one does.
      let at = start;
      for (let slot = firstSlot; slot < firstSlot + slots; slot++) {
        at = this.#lostAt.get(slot) ?? at;
        words[slot] = slotWord(at, NameFlag.LOST);
      }
    }
    return {
      words,
      sha1s,
      provenLength: watermark,
      whole,
      foreign: !whole && (holes.length === 0 || this.#misfits),
      fetched: this.#fetched,
      lost,
      unread: !whole && holes.some((hole) => this.#unreadable.some((span) => overlap(hole, span))),
      better: this.#changed || this.#fetched > 0,
    };
  }

  #sync(): Promise<void> {
    return this.#guarded(() => this.#file.datasync());
  }

  #write(buffers: readonly Buffer[], at: number): Promise<void> {
    return this.#guarded(() => this.#file.write(buffers, at));
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      throw this.#context.failed(error, `making ${this.#target.path}`);
    }
  }
}

const overlap = (a: Span, b: Span): boolean => a.start < b.end && b.start < a.end;
