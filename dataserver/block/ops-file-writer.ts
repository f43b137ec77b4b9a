import { isTfsError, TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import {
  encodeOpBody,
  encodeOpsFileHeader,
  frameOp,
  OPS_HEADER_BYTES,
  type Op,
  opsSeed,
  readOpsFile,
} from '../../common/format/ops.ts';
import type { BlockId } from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { inBlocks, type StoreContext } from './context.ts';

/** Where the writing of a log goes on. */
export interface OpsFilePlace {
  readonly block: BlockId;
  readonly n: number;
  /** Of the block's superblock. */
  readonly salt: Buffer;
  /** Where the next frame goes. */
  readonly goodLength: number;
  /** Something that is no frame follows there: a write that the power failure tore. */
  readonly torn: boolean;
  /** Written by an earlier process: what it read as may be in the page cache and not on the medium. */
  readonly inherited: boolean;
}

/** Gives space back to a full disk. @returns whether there was some to give */
export type ReleaseSpace = () => Promise<boolean>;

/** The file of an ops log, `<block>.<n>.ops`: written by one caller at a time. A failed write is final. */
export class OpsFileWriter {
  readonly #context: StoreContext;
  readonly #block: BlockId;
  readonly #salt: Buffer;
  readonly #release: ReleaseSpace;
  #n: number;
  #seed: number;
  #goodLength: number;
  /** Of the snapshot that this process began the file with. */
  #snapshotBytes = 0;
  #torn: boolean;
  #inherited: boolean;
  #file: DiskFile | undefined;

  constructor(context: StoreContext, place: OpsFilePlace, release: ReleaseSpace) {
    this.#context = context;
    this.#block = place.block;
    this.#salt = place.salt;
    this.#n = place.n;
    this.#goodLength = place.goodLength;
    this.#torn = place.torn;
    this.#inherited = place.inherited;
    this.#release = release;
    this.#seed = opsSeed(this.#header(place.n));
  }

  get fileName(): string {
    return blockFileName(this.#block, this.#n, 'ops');
  }

  /** Whether folding it into a new file would pay. */
  isLong(bytesMax: number): boolean {
    return this.#goodLength > bytesMax && this.#goodLength > 2 * this.#snapshotBytes;
  }

  /** One write and one sync for all of them. @throws TfsError DISK_FULL: nothing was appended; IO, READ_ONLY */
  async append(ops: readonly Op[]): Promise<void> {
    let length = this.#goodLength;
    const frames = ops.map((op, i) => {
      const frame = frameOp(encodeOpBody(op), this.#seed, length, i > 0);
      length += frame.length;
      return frame;
    });
    await this.settle();
    await this.#guarded((file) => this.#write(file, frames));
    this.#goodLength = length;
  }

  /**
   * A killed process may have written ops that it had not synced, or whose sync had failed, after which the kernel calls
   * pages clean that never reached the medium: they were read back from the page cache, and a power failure could
   * still take them. The same bytes are written once more before anything is acknowledged on top of them.
   *
   * @throws TfsError IO, CORRUPT, NOT_FOUND where the file does not read as it did: nothing was written, and the disk goes on
   *   being written to; DISK_FULL, IO, READ_ONLY as {@link append}
   */
  async settle(): Promise<void> {
    if (!this.#inherited || this.#context.faults.has('trust-page-cache')) return;
    this.#context.assertWritable();
    const { bytes } = await this.#readSound();
    await this.#guarded((file) => file.writeDurable([bytes], 0));
    this.#inherited = false;
  }

  /**
   * Starts a new file with a snapshot, which takes the place of this one.
   *
   * @returns false where there is no space for it: this file goes on
   */
  async replace(snapshot: Op): Promise<boolean> {
    const context = this.#context;
    const n = this.#n + 1;
    const content = firstBytes(this.#header(n), snapshot);
    const name = blockFileName(this.#block, n, 'ops');
    try {
      await context.writeTemporary(`${name}.tmp`, content);
      // Only a durable name may receive ops, and only then may the old file go.
      await context.disk.rename(inBlocks(`${name}.tmp`), inBlocks(name));
      await context.syncBlocks();
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL'))
        throw context.failed(error, `shortening the ops log of block ${this.#block}`);
      context.log.warn({ block: this.#block }, 'no space to shorten an ops log; it grows on');
      await context.discard(inBlocks(`${name}.tmp`));
      return false;
    }
    const old = this.fileName;
    this.#n = n;
    this.#seed = opsSeed(this.#header(n));
    this.#goodLength = content.reduce((sum, part) => sum + part.length, 0);
    this.#snapshotBytes = this.#goodLength;
    this.#torn = false;
    this.#inherited = false;
    await this.release();
    await context.discard(inBlocks(old));
    return true;
  }

  /** All ops up to the last durable one. @throws TfsError CORRUPT where the file is not what it was; IO, NOT_FOUND */
  async read(): Promise<readonly Op[]> {
    return (await this.#readSound()).ops;
  }

  async #readSound(): Promise<{ readonly bytes: Buffer; readonly ops: readonly Op[] }> {
    const [n, length] = [this.#n, this.#goodLength];
    let bytes: Buffer;
    try {
      bytes = (await this.#context.readFile(this.fileName)).subarray(0, length);
    } catch (error) {
      // A shorter file has taken its place meanwhile.
      if (n !== this.#n) return this.#readSound();
      throw error;
    }
    const log = readOpsFile(bytes);
    // A disk may have put what was meant for another file here: it is sound, and says nothing of this block.
    const isOwn = log.ok && log.value.header.block === this.#block && log.value.header.n === n;
    if (log.ok && isOwn && log.value.end === 'clean' && log.value.goodLength === length)
      return { bytes, ops: log.value.ops };
    const why = !log.ok ? log.why : isOwn ? log.value.why : 'it is that of another block';
    throw new TfsError(
      'CORRUPT',
      `the ops log of block ${this.#block} was sound and is not any more: ${why}`,
    );
  }

  /** Closes the file until it is needed again. */
  async release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #write(file: DiskFile, frames: readonly Buffer[]): Promise<void> {
    const { faults } = this.#context;
    if (this.#torn) {
      // Cut off and synced before anything new: a stale frame behind a new one must never look like its successor.
      await file.truncate(this.#goodLength);
      await file.datasync();
      this.#torn = false;
    }
    if (faults.has('skip-datasync') || faults.has('ack-op-before-datasync'))
      return file.write(frames, this.#goodLength);
    try {
      await file.writeDurable(frames, this.#goodLength);
    } catch (error) {
      this.#torn = true;
      if (!isTfsError(error, 'DISK_FULL') || !(await this.#release())) throw error;
      // Not a retried sync: all of the bytes are written again, to space that is there now.
      await file.writeDurable(frames, this.#goodLength);
      mark('ops-from-reserve');
      this.#torn = false;
    }
  }

  async #guarded(work: (file: DiskFile) => Promise<void>): Promise<void> {
    try {
      this.#file ??= await this.#context.open(this.fileName, 'write');
      await work(this.#file);
    } catch (error) {
      throw this.#context.failed(error, `ops log of block ${this.#block}`);
    }
  }

  #header(n: number): Parameters<typeof encodeOpsFileHeader>[0] {
    return { clusterUuid: this.#context.clusterUuid, block: this.#block, n, salt: this.#salt };
  }
}

/** The bytes of a log that holds one op. */
export function firstBytes(header: Parameters<typeof encodeOpsFileHeader>[0], op: Op): Buffer[] {
  return [encodeOpsFileHeader(header), frameOp(encodeOpBody(op), opsSeed(header), OPS_HEADER_BYTES)];
}
