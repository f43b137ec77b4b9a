import { createHash, type Hash } from 'node:crypto';
import { TfsError } from '../../common/errors.ts';
import { SHA1_BYTES } from '../../common/format/idx.ts';
import {
  decodeRecordHeader,
  encodeRecordHeader,
  recordHeaderBytes,
  recordPadding,
  recordSpan,
} from '../../common/format/record.ts';
import { slotFlags, slotOffset, slotWord } from '../../common/format/slot-word.ts';
import { encodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import { walkBlock } from '../../common/format/walk.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { tunable } from '../../common/tunables.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import type { Donors } from './donor.ts';
import { seededAs, seedOf } from './faults.ts';
import type { LoadedIndex } from './loaded-index.ts';
import type { Pace } from './pace.ts';
import { decodeRawRecords } from './raw-records.ts';
import { readForRepair } from './read-for-repair.ts';

export interface GenerationTarget {
  /** The file to be made, in the directory of blocks. */
  readonly path: string;
  readonly generation: number;
  readonly isLive: (slot: number) => boolean;
  readonly pace: Pace;
  /** @throws TfsError when the work is not wanted any more */
  readonly assertWanted: () => void;
}

/** A next block file, whole and durable under a temporary name. */
export interface NextFile {
  /** In the directory of blocks. */
  readonly path: string;
  readonly superblock: Superblock;
  readonly length: number;
  /** Those that were left out are counted. */
  readonly slots: number;
  /** Over the record headers. */
  readonly digest: Buffer;
  /** One slot word each; PURGED for what was left out. */
  readonly words: Uint32Array;
  /** 20 bytes a slot; zeros for what was left out. */
  readonly sha1s: Buffer;
}

const NOTHING = Buffer.alloc(0);

/**
 * Writes the live records of a block into a file of the next generation, in slot order, with nothing between them. What
 * is in the file depends on the records and on what is live alone, so that every replica makes the same bytes. Headers
 * are made anew, because their checksum is seeded with generation and offset; the payloads and their checksums are
 * carried over, each verified on the way. A record that does not verify here is fetched from a donor; where nobody has
 * it nothing is made, because leaving it out would turn damage that may be mended into loss.
 */
export class GenerationWriter {
  readonly #context: StoreContext;
  readonly #block: Block;
  readonly #index: LoadedIndex;
  readonly #target: GenerationTarget;
  readonly #donors: Donors;
  readonly #superblock: Superblock;
  readonly #seed: number;
  readonly #file: DiskFile;
  readonly #words: Uint32Array;
  readonly #sha1s: Buffer;
  readonly #hash: Hash = createHash('sha256');
  /** Where the next record goes. */
  #at = SUPERBLOCK_BYTES;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Where the record before the next slot ended in the old file, as far as that is known. */
  #oldEnd: number | undefined = SUPERBLOCK_BYTES;

  /**
   * @throws TfsError CORRUPT when a live record verifies nowhere; UNAVAILABLE when a donor that may have it did not
   *   answer; DISK_FULL, IO, READ_ONLY: then the file is of no use
   */
  static async run(
    context: StoreContext,
    { block, index }: { readonly block: Block; readonly index: LoadedIndex },
    target: GenerationTarget,
    donors: Donors,
  ): Promise<NextFile> {
    const file = await context.open(target.path, 'create').catch((error: unknown) => {
      throw context.failed(error, `making ${target.path}`);
    });
    try {
      return await new GenerationWriter(context, { block, index }, target, donors, file).#run();
    } finally {
      await file.close();
    }
  }

  private constructor(
    context: StoreContext,
    { block, index }: { readonly block: Block; readonly index: LoadedIndex },
    target: GenerationTarget,
    donors: Donors,
    file: DiskFile,
  ) {
    this.#context = context;
    this.#block = block;
    this.#index = index;
    this.#target = target;
    this.#donors = donors;
    this.#file = file;
    const { generation } = target;
    this.#superblock = { ...block.sound(), generation, slotCount: index.count };
    this.#seed = seedOf(context.faults, this.#superblock);
    this.#words = new Uint32Array(index.count);
    this.#sha1s = Buffer.alloc(index.count * SHA1_BYTES);
  }

  async #run(): Promise<NextFile> {
    const { isLive, pace, path } = this.#target;
    await this.#write([encodeSuperblock(this.#superblock)], 0);
    for (let slot = 0; slot < this.#index.count; ) {
      if (!isLive(slot)) {
        this.#leaveOut(slot++);
        continue;
      }
      this.#goOn();
      const bytes = await this.#records(slot);
      for (let at = 0; at < bytes.length; slot++) at += this.#take(slot, bytes.subarray(at));
      if (bytes.length === 0) this.#leaveOut(slot++);
      await pace.spend(bytes.length);
      if (this.#pendingBytes >= tunable.batchBytesMax) await this.#flush();
    }
    await this.#flush();
    if (!this.#context.faults.has('commit-before-datasync')) await this.#guarded(() => this.#file.datasync());
    const next = {
      path,
      superblock: this.#superblock,
      length: this.#at,
      slots: this.#index.count,
      digest: this.#hash.digest(),
      words: this.#words,
      sha1s: this.#sha1s,
    };
    await this.#readBack(next);
    return next;
  }

  /** Whole records from this slot on, verified: up to the next one that is left out, or that does not verify here. */
  async #records(slot: number): Promise<Buffer> {
    const index = this.#index;
    let length = 0;
    for (let end = slot; end < index.count && this.#target.isLive(end); end++) {
      if (length > 0 && length + index.spanOf(end) > tunable.batchBytesMax) break;
      length += index.spanOf(end);
    }
    const isLost = (slotFlags(index.words[slot]!) & NameFlag.LOST) !== 0;
    // All records of a damaged stretch are said to start where it does: only the first of them is sure to.
    const offset = isLost ? this.#oldEnd : index.offsetOf(slot);
    if (offset === undefined) return this.#unreadable(slot);
    if (!isLost) {
      const own = await readForRepair(this.#context, this.#block, index, offset, length);
      if (own.bytes.length > 0) return own.bytes;
    }
    const found = await this.#donors.first(async (donor) => {
      const { bytes } = await donor.records(offset, isLost ? 1 : index.spanOf(slot));
      if (bytes.length === 0) return undefined;
      const sparse = this.#block.generation > 0;
      const [header] = decodeRawRecords(bytes, index.seed, { offset, slot }, { sparse });
      return header?.slot === slot ? bytes.subarray(0, recordSpan(header.size)) : undefined;
    });
    return found ?? this.#unreadable(slot);
  }

  /** @returns bytes that the record took in the old file */
  #take(slot: number, bytes: Buffer): number {
    const offset = this.#oldEndOf(slot);
    const decoded = decodeRecordHeader(bytes, 0, this.#index.seed, offset);
    if (!decoded.ok)
      throw new TfsError('CORRUPT', `block ${this.#block.block}, slot ${slot}: ${decoded.why}`);
    const header = decoded.value;
    const payloadAt = recordHeaderBytes(header.size);
    const span = recordSpan(header.size);
    // Everything before it is durable on every member by the time that this file counts.
    const head = encodeRecordHeader({ ...header, ackedLength: this.#at }, this.#seed, this.#at);
    this.#hash.update(head);
    this.#words[slot] = slotWord(this.#at);
    header.sha1.copy(this.#sha1s, slot * SHA1_BYTES);
    const padding = recordPadding(header.size);
    this.#pending.push(head, bytes.subarray(payloadAt, payloadAt + header.size));
    if (padding > 0) this.#pending.push(Buffer.alloc(padding));
    this.#pendingBytes += span;
    this.#at += span;
    this.#oldEnd = offset + span;
    return span;
  }

  #oldEndOf(slot: number): number {
    const isLost = (slotFlags(this.#index.words[slot]!) & NameFlag.LOST) !== 0;
    return isLost ? this.#oldEnd! : this.#index.offsetOf(slot);
  }

  #leaveOut(slot: number): void {
    const index = this.#index;
    this.#words[slot] = slotWord(this.#at, NameFlag.PURGED);
    const isLost = (slotFlags(index.words[slot]!) & NameFlag.LOST) !== 0;
    this.#oldEnd = isLost ? undefined : index.offsetOf(slot) + index.spanOf(slot);
  }

  #unreadable(slot: number): Buffer {
    if (this.#context.faults.has('drop-unreadable-live')) return NOTHING;
    const what = `slot ${slot} of block ${this.#block.block}, which lives, verifies on no replica`;
    if (this.#donors.failed.length > 0) throw this.#donors.missing(`${what} that answers`);
    throw new TfsError('CORRUPT', `${what}: the block is not compacted`);
  }

  /** Only what reads back after the sync counts. */
  async #readBack({ path, superblock, length, slots, digest, words }: NextFile): Promise<void> {
    const { pace } = this.#target;
    let isPadded = true;
    const source = { size: length, read: (to: Buffer, at: number) => this.#file.read(to, at) };
    const walked = await walkBlock(source, seededAs(superblock, this.#context.faults), {
      end: length,
      proven: { length, slots },
      onRecord: ({ span, padOk }) => {
        isPadded &&= padOk;
        this.#goOn();
        return pace.spend(span);
      },
    });
    const isSame =
      isPadded &&
      walked.digest?.equals(digest) === true &&
      walked.words.length === slots &&
      walked.words.every((word, slot) => slotOffset(word) === slotOffset(words[slot]!));
    if (!isSame) throw new TfsError('IO', `${path}: the disk does not give back what was written`);
  }

  #goOn(): void {
    this.#context.assertOpen();
    this.#target.assertWanted();
  }

  async #flush(): Promise<void> {
    const [buffers, bytes] = [this.#pending, this.#pendingBytes];
    this.#pending = [];
    this.#pendingBytes = 0;
    if (bytes > 0) await this.#write(buffers, this.#at - bytes);
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
