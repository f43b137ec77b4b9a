import { createHash } from 'node:crypto';
import type { PictureKey } from '../../client/reader.ts';
import {
  blockSeed,
  checkPayload,
  decodeRecordHeader,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { type BlockId, isAlias, type ServerId, type Slot } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { type Faults, NO_FAULTS, seededAs } from '../../dataserver/block/faults.ts';
import { Glimpses } from './glimpses.ts';
import { Violation } from './observed.ts';
import { type ConfigurationStory, OpsStory } from './ops-story.ts';

/** How far the first file of a block is durable and right on one server. */
export interface Progress {
  /** End of its valid records now. */
  length: number;
  slots: number;
  /** The furthest that it ever was. */
  everLength: number;
}

interface Sealed {
  readonly length: number;
  readonly digest: Buffer;
  readonly server: ServerId;
}

/** Everything that any disk ever held durably of one block: what all of its replicas are measured by. */
export class BlockStory {
  readonly block: BlockId;
  readonly superblock: Superblock;
  readonly ops: OpsStory;
  /** By server: its first file. */
  readonly progress = new Map<ServerId, Progress>();
  /** End of the last record that a client was told is stored. */
  ackedLength = 0;
  /** The first SEAL that was complete. */
  sealed: Sealed | undefined;
  /** How many of its first records a generation was made of that was committed somewhere. */
  compactedSlots = 0;
  readonly #glimpses = new Glimpses();
  readonly #seed: number;
  readonly #faults: Faults;
  /** Superblock and records as the one write session made them, as far as anybody has had them. */
  #bytes = Buffer.alloc(2 * SUPERBLOCK_BYTES);
  /** By generation: the superblock that was found to be this block's. */
  readonly #heads = new Map<number, Buffer>();
  /** Of each slot. */
  readonly #ends: number[] = [];

  /** @param faults bugs that are planted in the servers: what they make of a format is no reason to find them */
  constructor(superblock: Superblock, faults: Faults = NO_FAULTS) {
    this.block = superblock.block;
    this.superblock = superblock;
    this.#faults = faults;
    this.#seed = this.seedOf(0);
    this.ops = new OpsStory(superblock.block);
  }

  /** Of the checksums of all record headers of a generation. */
  seedOf(generation: number): number {
    return blockSeed(seededAs({ ...this.superblock, generation }, this.#faults));
  }

  /** Whether a file begins as another one of that generation did. */
  isHead(generation: number, bytes: Buffer): boolean {
    const head = this.#heads.get(generation);
    return head !== undefined && bytes.compare(head, 0, SUPERBLOCK_BYTES, 0, SUPERBLOCK_BYTES) === 0;
  }

  hasHead(generation: number): boolean {
    return this.#heads.has(generation);
  }

  noteHead(generation: number, bytes: Buffer): void {
    this.#heads.set(generation, Buffer.from(bytes.subarray(0, SUPERBLOCK_BYTES)));
  }

  get slots(): number {
    return this.#ends.length;
  }

  /** End of the furthest record that anybody ever had. */
  get length(): number {
    return this.#ends.at(-1) ?? SUPERBLOCK_BYTES;
  }

  startOf(slot: number): number {
    return slot === 0 ? SUPERBLOCK_BYTES : this.#ends[slot - 1]!;
  }

  /** @returns undefined for a record that nobody ever had */
  endOf(slot: number): number | undefined {
    return this.#ends[slot];
  }

  /** Of a record that somebody had. */
  record(slot: number): { readonly header: RecordHeader; readonly payload: Buffer } {
    const start = this.startOf(slot);
    const header = decodeRecordHeader(this.#bytes, start, this.#seed, start);
    if (!header.ok) throw new Error(`block ${this.block}, slot ${slot}: ${header.why}`);
    const from = start + recordHeaderBytes(header.value.size);
    return { header: header.value, payload: this.#bytes.subarray(from, from + header.value.size) };
  }

  progressOf(server: ServerId): Progress {
    let progress = this.progress.get(server);
    if (progress === undefined) {
      progress = { length: SUPERBLOCK_BYTES, slots: 0, everLength: SUPERBLOCK_BYTES };
      this.progress.set(server, progress);
    }
    return progress;
  }

  /**
   * Looks at the first file of the block as it is durable on this server now. All that was looked at before is only
   * compared.
   *
   * @param shown how long the file is as its server reads it
   * @returns records that no other server had before
   * @throws Violation I4
   */
  advance(server: ServerId, bytes: Buffer, shown = bytes.length): RecordHeader[] {
    const progress = this.progressOf(server);
    while (progress.length > bytes.length) {
      progress.slots--;
      progress.length = this.startOf(progress.slots);
    }
    const { length } = progress;
    if (
      length > SUPERBLOCK_BYTES &&
      bytes.compare(this.#bytes, SUPERBLOCK_BYTES, length, SUPERBLOCK_BYTES, length) !== 0
    ) {
      // Of a file that is being cut, the zeros behind its new end may be on the medium before its size is.
      if (this.#firstDifference(bytes, length) < shown) throw this.#differs(server, bytes, length);
      return this.advance(server, bytes.subarray(0, shown));
    }
    const fresh: RecordHeader[] = [];
    for (;;) {
      const known = this.#ends[progress.slots];
      const end =
        known === undefined
          ? this.#extend(server, bytes, fresh)
          : this.#follows(server, bytes, progress, known);
      if (end === undefined) break;
      progress.slots++;
      progress.length = end;
    }
    progress.everLength = Math.max(progress.everLength, progress.length);
    return fresh;
  }

  /** A file that a fault has damaged, as its server reads it: see {@link Glimpses}. */
  glimpse(bytes: Buffer): void {
    this.#glimpses.look(bytes, this.length, this.#seed);
  }

  /** Whether a record that is known by now was readable in a damaged file before. */
  wasGlimpsed(slot: Slot): boolean {
    const start = this.startOf(slot);
    const bytes = this.#glimpses.of(slot)?.bytes;
    return bytes?.equals(this.#bytes.subarray(start, start + bytes.length)) === true;
  }

  /** @returns undefined for a record that was in no damaged file, nor in any other */
  seen(slot: Slot): RecordHeader | undefined {
    return slot < this.slots ? this.record(slot).header : this.#glimpses.of(slot)?.header;
  }

  /** The server has lost its disk, or something of this file: what it had counts no more. */
  forget(server: ServerId): void {
    const progress = this.progressOf(server);
    progress.length = SUPERBLOCK_BYTES;
    progress.slots = 0;
  }

  /** SHA-256 over the record headers up to there, as a SEAL has it. @returns undefined where no record ends there */
  digestAt(length: number): Buffer | undefined {
    const hash = createHash('sha256');
    for (let slot = 0; ; slot++) {
      const start = this.startOf(slot);
      if (start === length) return hash.digest();
      if (start > length || slot >= this.slots) return undefined;
      const { header } = this.record(slot);
      hash.update(this.#bytes.subarray(start, start + recordHeaderBytes(header.size)));
    }
  }

  /** The slot that a name leads to; undefined for an alias that nobody knows. */
  slotOf({ fileId }: Pick<PictureKey, 'fileId'>): Slot | undefined {
    return isAlias(fileId) ? this.ops.aliases.get(fileId)?.target : (fileId as number as Slot);
  }

  get configurations(): Iterable<ConfigurationStory> {
    return this.ops.configurations.values();
  }

  /** The next record is one that another server had already. */
  #follows(server: ServerId, bytes: Buffer, { length: at }: Progress, end: number): number | undefined {
    if (bytes.length >= end && bytes.compare(this.#bytes, at, end, at, end) === 0) return end;
    const header = decodeRecordHeader(bytes, at, this.#seed, at);
    if (!header.ok) return undefined;
    const headEnd = at + recordHeaderBytes(header.value.size);
    if (bytes.compare(this.#bytes, at, headEnd, at, headEnd) === 0) return undefined;
    throw this.#differs(server, bytes, Math.min(end, bytes.length));
  }

  #extend(server: ServerId, bytes: Buffer, fresh: RecordHeader[]): number | undefined {
    const at = this.length;
    const decoded = decodeRecordHeader(bytes, at, this.#seed, at);
    if (!decoded.ok) return undefined;
    const header = decoded.value;
    const end = at + recordSpan(header.size);
    const from = at + recordHeaderBytes(header.size);
    if (bytes.length < end || !checkPayload(header, bytes.subarray(from, from + header.size)))
      return undefined;
    if (header.slot !== this.slots)
      throw new Violation(
        'I4',
        { server, block: this.block },
        `slot ${header.slot} stands where ${this.slots} belongs`,
      );
    this.#reserve(end);
    bytes.copy(this.#bytes, at, at, end);
    this.#ends.push(end);
    fresh.push(this.record(header.slot).header);
    return end;
  }

  #differs(server: ServerId, bytes: Buffer, end: number): Violation {
    const at = this.#firstDifference(bytes, end);
    const where = { server, block: this.block };
    return new Violation(
      'I4',
      where,
      `byte ${at} is not what another replica of this session has, or had here`,
    );
  }

  #firstDifference(bytes: Buffer, end: number): number {
    let at = SUPERBLOCK_BYTES;
    while (at < end && bytes[at] === this.#bytes[at]) at++;
    return at;
  }

  #reserve(end: number): void {
    if (end <= this.#bytes.length) return;
    const grown = Buffer.alloc(Math.max(end, 2 * this.#bytes.length));
    this.#bytes.copy(grown);
    this.#bytes = grown;
  }
}
