import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import {
  DROP_ENTRY_BYTES,
  DROP_LOG_HEADER_BYTES,
  type DropEntry,
  DropReason,
  decodeDropLog,
  encodeDropEntry,
  encodeDropLogHeader,
  keptDrops,
} from '../../common/format/drop-log.ts';
import type { BlockId } from '../../common/ids.ts';
import { DROP_LOG_KEEP_MS } from '../../common/limits.ts';
import { tunable } from '../../common/tunables.ts';
import { STORE_DIRECTORIES } from './api.ts';
import type { StoreContext } from './context.ts';

const PATH = 'drop.log';
const TEMPORARY = `${PATH}.tmp`;
/** How often a disk that fails to read it is asked again at a start, once a second, before the log is given up. */
const READ_AGAIN = 10;
const READ_AGAIN_MS = 1000;

export interface DropLogParts {
  readonly context: StoreContext;
  /** Gives some space back to a full disk: a drop is what makes room on it. */
  readonly makeRoom: () => Promise<boolean>;
  readonly entriesMax?: number;
}

/**
 * The replicas that this disk has let go of. An entry is the point of no return of a drop: once it is durable the
 * replica is gone, and whatever a crash leaves of its files is removed by the next start. Until then it is all there.
 */
export class DropLog {
  readonly #parts: DropLogParts;
  readonly #entriesMax: number;
  #header: Buffer;
  /** Newest entry of each block, in the order of the log. */
  #newest = new Map<BlockId, DropEntry>();
  /** Where the next entry goes; 0 while there is no file. */
  #length = 0;
  /** Behind that there may be an entry, or a part of one, that failed. */
  #isDoubtful = false;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(parts: DropLogParts) {
    this.#parts = parts;
    this.#entriesMax = parts.entriesMax ?? tunable.dropLogEntriesMax;
    this.#header = encodeDropLogHeader(parts.context.clusterUuid);
  }

  /** What is found is durable then: drops are finished on the strength of it. */
  static async open(parts: DropLogParts): Promise<DropLog> {
    const log = new DropLog(parts);
    await log.#load();
    return log;
  }

  /** Whether the block was dropped here, and not taken in again since. */
  isDropped(block: BlockId): boolean {
    const entry = this.#newest.get(block);
    return entry !== undefined && entry.reason !== DropReason.RETURNED;
  }

  /** Whether the block held nothing when it was dropped here: it went with all of its replicas. */
  isRetired(block: BlockId): boolean {
    return this.#newest.get(block)?.reason === DropReason.RETIRED;
  }

  /** The newest word about the block. */
  of(block: BlockId): DropEntry | undefined {
    return this.#newest.get(block);
  }

  /** Of those that were dropped here at some time. */
  get blocks(): Iterable<BlockId> {
    return this.#newest.keys();
  }

  get size(): number {
    return this.#newest.size;
  }

  /**
   * Resolves when the entry is durable. After a rejection with DISK_FULL or READ_ONLY it is not there; after any other
   * nobody knows.
   *
   * @throws TfsError DISK_FULL, READ_ONLY, IO
   */
  append(entry: DropEntry): Promise<void> {
    const work = this.#turn.then(() => this.#append(entry));
    this.#turn = work.catch(() => undefined);
    return work;
  }

  async #append(entry: DropEntry): Promise<void> {
    this.#parts.context.assertWritable();
    try {
      await this.#put(entry);
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL')) throw error;
      const hasRoom = await this.#parts.makeRoom();
      if (this.#isDoubtful) await this.#takeBack(error);
      if (!hasRoom) throw error;
      await this.#put(entry);
    }
    this.#newest.delete(entry.block);
    this.#newest.set(entry.block, entry);
  }

  async #put(entry: DropEntry): Promise<void> {
    if (this.#length === 0 || this.#length >= this.#bytesMax) await this.#rewrite();
    this.#isDoubtful = true;
    await this.#write(entry);
    this.#isDoubtful = false;
  }

  async #write(entry: DropEntry): Promise<void> {
    const { context } = this.#parts;
    try {
      const file = await context.disk.open(PATH, 'write');
      try {
        await file.writeDurable([encodeDropEntry(entry, this.#header)], this.#length);
      } finally {
        await file.close();
      }
    } catch (error) {
      throw context.failed(error, PATH);
    }
    this.#length += DROP_ENTRY_BYTES;
  }

  /** What a full disk took of an entry must not be found by the next start: another file takes the place of this one. */
  async #takeBack(cause: TfsError): Promise<void> {
    try {
      await this.#rewrite();
      this.#isDoubtful = false;
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL')) throw error;
      throw new TfsError('IO', `${PATH} may or may not have an entry that the full disk did not take`, {
        cause,
      });
    }
  }

  /** Twice what is kept, so that it is not written anew all the time. */
  get #bytesMax(): number {
    return DROP_LOG_HEADER_BYTES + 2 * this.#entriesMax * DROP_ENTRY_BYTES;
  }

  /** A new file with what is still needed, whole and durable before it has the name. */
  async #rewrite(): Promise<void> {
    const { context } = this.#parts;
    const nowMs = context.clock.now();
    const limits = { nowMs, keepMs: DROP_LOG_KEEP_MS, entriesMax: this.#entriesMax };
    const kept = keptDrops([...this.#newest.values()], limits);
    const header = encodeDropLogHeader(context.clusterUuid);
    try {
      const file = await context.disk.open(TEMPORARY, 'create');
      try {
        await file.write([header, ...kept.map((entry) => encodeDropEntry(entry, header))], 0);
        await file.datasync();
      } finally {
        await file.close();
      }
      await context.disk.rename(TEMPORARY, PATH);
      await context.disk.syncDirectory('');
    } catch (error) {
      await context.discard(TEMPORARY);
      throw context.failed(error, PATH);
    }
    this.#header = header;
    this.#newest = new Map(kept.map((entry) => [entry.block, entry]));
    this.#length = DROP_LOG_HEADER_BYTES + kept.length * DROP_ENTRY_BYTES;
  }

  async #load(): Promise<void> {
    const { context } = this.#parts;
    // Of a process that was killed while it made another one; never renamed, so nothing depends on it.
    await context.discard(TEMPORARY);
    let bytes: Buffer | undefined;
    try {
      bytes = await this.#read();
    } catch (error) {
      return this.#setAside(toTfsError(error).message);
    }
    if (bytes === undefined) return;
    const contents = decodeDropLog(bytes);
    if (!contents.ok || contents.value.clusterUuid !== context.clusterUuid) {
      const why = contents.ok ? `of cluster ${contents.value.clusterUuid}` : contents.why;
      return this.#setAside(why);
    }
    const { entries, damaged, goodLength, header } = contents.value;
    if (damaged > 0)
      context.log.error({ path: PATH, damaged }, 'entries of the drop log do not verify; the others count');
    this.#header = header;
    for (const entry of entries) {
      this.#newest.delete(entry.block);
      this.#newest.set(entry.block, entry);
    }
    this.#length = goodLength;
    await this.#settle(bytes);
  }

  /** A disk may fail for a moment: without the log, all that was let go of might be taken in again by an order of before. */
  async #read(): Promise<Buffer | undefined> {
    const { disk, clock, log } = this.#parts.context;
    for (let again = 0; ; again++) {
      try {
        return await disk.readFile(PATH);
      } catch (error) {
        if (isTfsError(error, 'NOT_FOUND')) return undefined;
        if (again === READ_AGAIN || !isTfsError(error, 'IO')) throw error;
        if (again === 0) log.warn({ path: PATH, reason: error.message }, 'cannot be read; trying again');
      }
      await clock.sleep(READ_AGAIN_MS);
    }
  }

  /**
   * A killed process may have left an entry, or half of one, that is not on the medium; so may one whose sync failed, after
   * which the kernel passes the entry by at every later one. It is written once more: files go on the strength of it.
   */
  async #settle(bytes: Buffer): Promise<void> {
    const { context } = this.#parts;
    const isTrusted = context.faults.has('trust-page-cache');
    try {
      const file = await context.disk.open(PATH, 'write');
      try {
        if (bytes.length > this.#length) await file.truncate(this.#length);
        if (isTrusted) await file.datasync();
        else await file.writeDurable([bytes.subarray(0, this.#length)], 0);
      } finally {
        await file.close();
      }
    } catch (error) {
      context.failed(error, PATH);
    }
  }

  async #setAside(why: string): Promise<void> {
    const { context } = this.#parts;
    const aside = `${STORE_DIRECTORIES.surplus}/${PATH}.${context.clock.now()}`;
    context.log.error({ path: PATH, why, aside }, 'the drop log cannot be read; it is set aside');
    try {
      await context.disk.rename(PATH, aside);
      await context.disk.syncDirectory('');
    } catch (error) {
      context.log.warn({ err: toTfsError(error) }, 'the drop log could not be set aside');
    }
  }
}
