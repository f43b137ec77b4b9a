import { crc32 } from 'node:zlib';
import { isTfsError, toTfsError } from '../common/errors.ts';
import { type BlockId, blockId, type FileId, fileId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Kv, KvOperation } from '../common/seams/kv.ts';
import { ContentFilter } from './content-filter.ts';

/** Where a name's record or alias is on this disk. */
export interface Place {
  readonly block: BlockId;
  readonly fileId: FileId;
}

export interface IndexHit {
  /** A record with this SHA-1. */
  readonly byContent: Place | undefined;
  /** What was stored under this opId. */
  readonly byOp: Place | undefined;
}

const SHA1_PREFIX = 0x73; // s
const OP_PREFIX = 0x6f; // o
const BLOCK_PREFIX = 0x62; // b
const VALUE_BYTES = 12;
/** Entries that wait for LevelDB; beyond this new ones are dropped: dedup is best effort, memory is not. */
const PENDING_ENTRIES_MAX = 65_536;
/** How long entries gather before they go to LevelDB in one batch; look-ups find them meanwhile. */
const GATHER_MS = 25;
const GATHER_ENTRIES_MAX = 2048;
/** Keys read between two turns of the event loop while the filter is filled. */
const FILTER_STEP = 4096;

/**
 * The SHA-1 index of one disk: content -> place, and opId -> place, in the Kv. It is a hint: every hit is checked
 * against the record itself, an entry that misleads is dropped, and the whole can be rebuilt from the blocks.
 * A failed write turns it off, with an alarm; it never fails an upload.
 */
export class DigestIndex {
  readonly #kv: Kv;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Entries on their way to the Kv, found by lookups already; keys as latin1. */
  #pending = new Map<string, Buffer>();
  #flushing: Promise<void> | undefined;
  #flushAgain = false;
  #enabled = true;
  readonly #filter = new ContentFilter();
  /** Until every stored key is in it the filter proves nothing. */
  #filterIsWhole = false;
  #hurry: (() => void) | undefined;

  constructor({ kv, clock, log }: { kv: Kv; clock: Clock; log: Log }) {
    this.#kv = kv;
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads all contents into memory's filter, in the background of whatever else happens. */
  async fillFilter(): Promise<void> {
    try {
      let count = 0;
      const range = { gte: Buffer.from([SHA1_PREFIX]), lt: Buffer.from([SHA1_PREFIX + 1]) };
      for await (const [key] of this.#kv.entries(range)) {
        this.#filter.add(key.subarray(1));
        if (++count % FILTER_STEP === 0) await new Promise<void>((resolve) => this.#clock.soon(resolve));
      }
      this.#filterIsWhole = true;
    } catch (error) {
      if (!isTfsError(error, 'CLOSED')) this.#disable(error);
    }
  }

  /** Memory of the filter. */
  get filterBytes(): number {
    return this.#filter.bytes;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /**
   * Whether {@link lookup} could find anything: false for most new contents, at the price of a few memory reads. An
   * opId is only ever used for one content, so a content that was never here tells about both.
   */
  mayHold(sha1: Buffer): boolean {
    return this.#enabled && (!this.#filterIsWhole || this.#filter.mayHold(sha1));
  }

  async lookup(sha1: Buffer, opId: Buffer): Promise<IndexHit> {
    if (!this.mayHold(sha1)) return { byContent: undefined, byOp: undefined };
    const contentKey = keyOf(SHA1_PREFIX, sha1);
    const opKey = keyOf(OP_PREFIX, opId);
    const pending = this.#pending;
    const content = pending.get(contentKey.toString('latin1'));
    const op = pending.get(opKey.toString('latin1'));
    if (content !== undefined && op !== undefined) return hit(contentKey, content, opKey, op);
    try {
      const stored = await this.#kv.getMany([contentKey, opKey]);
      return hit(contentKey, content ?? stored[0], opKey, op ?? stored[1]);
    } catch (error) {
      this.#disable(error);
      return { byContent: undefined, byOp: undefined };
    }
  }

  /**
   * Remembers a record that is durable on every member. Returns at once; the Kv follows.
   *
   * The first record of a content is entered by its content alone, which its opId leads to as well: whoever finds it
   * sees the opId in its header. Only further records of the same content need an entry of their own.
   *
   * @param lookedUp whether {@link lookup} was asked before the record was stored, and led to nothing of use: then the
   *   content leads here from now on
   */
  add(sha1: Buffer, opId: Buffer, place: Place, lookedUp: boolean): void {
    if (!this.#filter.mayHold(sha1)) {
      this.addContent(sha1, place);
      return;
    }
    this.addOp(opId, place);
    // A record that was stored at the same time came first: its opId is found by its content.
    if (lookedUp) this.addContent(sha1, place);
  }

  /** Remembers what an opId led to, without making it a target for others. */
  addOp(opId: Buffer, place: Place): void {
    this.#put(keyOf(OP_PREFIX, opId), place);
  }

  addContent(sha1: Buffer, place: Place): void {
    this.#filter.add(sha1);
    this.#put(keyOf(SHA1_PREFIX, sha1), place);
  }

  /** Forgets an entry that led to nothing usable. */
  async drop(sha1: Buffer): Promise<void> {
    const key = keyOf(SHA1_PREFIX, sha1);
    this.#pending.delete(key.toString('latin1'));
    await this.#write([{ type: 'del', key }], false);
  }

  /** Whether all the entries of that generation of a sealed block are known to be in the index. */
  async holdsBlock(block: BlockId, generation: number): Promise<boolean> {
    const value = await this.#kv.get(blockKey(block));
    return value !== undefined && value.length === 4 && value.readUInt32LE(0) === generation;
  }

  /** Durable once it resolves, and with it everything added before. */
  async markBlock(block: BlockId, generation: number): Promise<void> {
    await this.flush();
    const value = Buffer.alloc(4);
    value.writeUInt32LE(generation, 0);
    await this.#write([{ type: 'put', key: blockKey(block), value }], true);
  }

  /** Resolves when everything added before the call has been handed to the Kv. */
  async flush(): Promise<void> {
    while (this.#pending.size > 0 && this.#enabled) {
      const flushing = this.#flushing ?? this.#startFlush();
      this.#hurry?.();
      await flushing;
    }
  }

  #put(key: Buffer, { block, fileId: id }: Place): void {
    if (!this.#enabled || this.#pending.size >= PENDING_ENTRIES_MAX) return;
    const value = Buffer.allocUnsafe(VALUE_BYTES);
    value.writeUInt32LE(block, 0);
    value.writeUInt32LE(id, 4);
    // LevelDB does not notice a flipped bit in its files; the check is ours.
    value.writeUInt32LE(crc32(value.subarray(0, 8), crc32(key)), 8);
    this.#pending.set(key.toString('latin1'), value);
    if (this.#flushing === undefined) void this.#startFlush();
    else {
      this.#flushAgain = true;
      if (this.#pending.size >= GATHER_ENTRIES_MAX) this.#hurry?.();
    }
  }

  #startFlush(): Promise<void> {
    const run = async (): Promise<void> => {
      await this.#gather();
      const batch = [...this.#pending];
      const operations = batch.map(
        ([key, value]): KvOperation => ({ type: 'put', key: Buffer.from(key, 'latin1'), value }),
      );
      await this.#write(operations, false);
      for (const [key, value] of batch) if (this.#pending.get(key) === value) this.#pending.delete(key);
    };
    this.#flushing = run().finally(() => {
      this.#flushing = undefined;
      if (this.#flushAgain && this.#enabled) {
        this.#flushAgain = false;
        void this.#startFlush();
      }
    });
    return this.#flushing;
  }

  #gather(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(GATHER_MS, resolve);
      this.#hurry = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  async #write(operations: readonly KvOperation[], sync: boolean): Promise<void> {
    if (!this.#enabled) return;
    try {
      await this.#kv.batch(operations, { sync });
    } catch (error) {
      this.#disable(error);
    }
  }

  #disable(error: unknown): void {
    if (!this.#enabled) return;
    this.#enabled = false;
    this.#pending.clear();
    this.#log.error(
      { err: toTfsError(error, 'IO') },
      'the SHA-1 index failed: uploads go on without deduplication until this DataServer is restarted',
    );
  }
}

const blockKey = (block: BlockId): Buffer => {
  const key = Buffer.alloc(5);
  key[0] = BLOCK_PREFIX;
  key.writeUInt32BE(block, 1);
  return key;
};

function keyOf(prefix: number, id: Buffer): Buffer {
  const key = Buffer.allocUnsafe(1 + id.length);
  key[0] = prefix;
  id.copy(key, 1);
  return key;
}

function hit(
  contentKey: Buffer,
  content: Buffer | undefined,
  opKey: Buffer,
  op: Buffer | undefined,
): IndexHit {
  return { byContent: placeIn(contentKey, content), byOp: placeIn(opKey, op) };
}

function placeIn(key: Buffer, value: Buffer | undefined): Place | undefined {
  if (value === undefined || value.length !== VALUE_BYTES) return undefined;
  if (value.readUInt32LE(8) !== crc32(value.subarray(0, 8), crc32(key))) return undefined;
  return { block: blockId(value.readUInt32LE(0)), fileId: fileId(value.readUInt32LE(4)) };
}

/** One entry of the Kv, for tools that check them. */
export type IndexEntry =
  | ({ readonly kind: 'content'; readonly sha1: Buffer } & Place)
  | ({ readonly kind: 'op'; readonly opId: Buffer } & Place)
  | { readonly kind: 'block'; readonly block: BlockId; readonly generation: number };

/** @returns undefined for an entry that is of no known kind or fails its check */
export function readIndexEntry(key: Buffer, value: Buffer): IndexEntry | undefined {
  if (key[0] === BLOCK_PREFIX && key.length === 5 && value.length === 4)
    return { kind: 'block', block: blockId(key.readUInt32BE(1)), generation: value.readUInt32LE(0) };
  const place = placeIn(key, value);
  if (place === undefined) return undefined;
  if (key[0] === SHA1_PREFIX && key.length === 21)
    return { kind: 'content', sha1: key.subarray(1), ...place };
  if (key[0] === OP_PREFIX && key.length === 17) return { kind: 'op', opId: key.subarray(1), ...place };
  return undefined;
}
