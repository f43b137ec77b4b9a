import { TfsError } from '../../common/errors.ts';
import type { Op } from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { BlockId, Cookie, Epoch, FileId, Session } from '../../common/ids.ts';
import type { BlockEntry } from '../../common/wire/messages.ts';
import type {
  Batch,
  BlockInfo,
  BlockStoreOptions,
  Configuration,
  FenceFacts,
  OpsState,
  ReadResult,
  RecordRef,
  SealInfo,
  SealOrder,
  StoreTotals,
  VerifyReport,
} from './api.ts';

export type * from './api.ts';
export { type FaultName, type Faults, NO_FAULTS } from './faults.ts';

const todo = (): never => {
  throw new TfsError('INTERNAL', 'not built yet');
};

/**
 * The blocks of one mount. Everything below a promise that resolved is durable; everything below one that rejected
 * may or may not be there. An unknown block is DONT_KNOW from every method that takes one.
 *
 * A failed write or fdatasync is never retried: the block's session is over and the store only reads from then on
 * (READ_ONLY); a full disk (DISK_FULL) ends the session of the block alone.
 */
export class BlockStore {
  /** Lists the blocks, reads their superblocks and ops logs; walks no records. Blocks that were OPEN are RECOVERED. */
  static async open(_options: BlockStoreOptions): Promise<BlockStore> {
    return todo();
  }

  /** Waits for what is in flight. Afterwards every method rejects with CLOSED. */
  async close(): Promise<void> {
    todo();
  }

  /** Why the store takes no writes, if it takes none. */
  get readOnly(): TfsError | undefined {
    return todo();
  }

  get blocks(): readonly BlockId[] {
    return todo();
  }

  /** As reported to a NameServer. */
  entries(): BlockEntry[] {
    return todo();
  }

  entry(_block: BlockId): BlockEntry | undefined {
    return todo();
  }

  info(_block: BlockId): BlockInfo | undefined {
    return todo();
  }

  totals(): StoreTotals {
    return todo();
  }

  /** Makes an OPEN block; durable when it resolves. @throws TfsError CONFLICT for an id it holds, DISK_FULL, READ_ONLY */
  async create(_superblock: Superblock, _configuration: Configuration): Promise<void> {
    todo();
  }

  /**
   * The primary's own copy of a batch: one write, one fdatasync; batches in a queue are put together.
   *
   * @returns when the batch is durable here
   * @throws TfsError SESSION_ENDED when the block is not OPEN with that session or the offset is not its end;
   *   DISK_FULL, IO, READ_ONLY: then the session is over
   */
  appendBatch(_block: BlockId, _session: Session, _batch: Batch): Promise<void> {
    return todo();
  }

  /**
   * A member's copy: whole records as the primary sent them. Every header CRC, the order of slots and every payload
   * CRC is verified before anything is written.
   *
   * @param bytes not changed until the append has resolved
   * @param ackedLength the primary's, as {@link setAcked}
   * @throws TfsError PROTOCOL for bytes that do not verify; otherwise as {@link appendBatch}
   */
  appendRaw(
    _block: BlockId,
    _session: Session,
    _offset: number,
    _bytes: Buffer,
    _ackedLength: number,
  ): Promise<void> {
    return todo();
  }

  /** Every member has everything up to there. */
  setAcked(_block: BlockId, _ackedLength: number): void {
    todo();
  }

  /**
   * One pread for a record of up to a MiB or so; for a larger one the header, then the chunks that the range touches.
   *
   * @param cookie undefined where the caller has the place from its own index and not from a name
   * @param range payload bytes wanted, cut at the end of the payload; length 0 reads the header alone
   * @param force answer for deleted and hidden names too; never for purged ones
   * @throws TfsError NOT_FOUND; DONT_KNOW where a miss proves nothing (a RECOVERED or SUSPECT block, an unknown one);
   *   CORRUPT when the stored bytes do not verify; IO
   */
  read(
    _block: BlockId,
    _fileId: FileId,
    _cookie: Cookie | undefined,
    _range: { readonly offset: number; readonly length: number },
    _force: boolean,
  ): Promise<ReadResult> {
    return todo();
  }

  /**
   * The state bits of a name, whose cookie the caller has verified before: from memory when the index is loaded.
   * @throws TfsError as {@link read}
   */
  check(_block: BlockId, _fileId: FileId): number | Promise<number> {
    return todo();
  }

  /**
   * Appends ops to the block's log; resolves when they are durable and applied. Ops that come at the same time share
   * a write and an fdatasync. Ops up to the newest seq held are skipped. SEAL and GEN_COMMIT are not given here.
   *
   * @throws TfsError OPS_GAP when the first one does not follow the newest op given before; DISK_FULL, IO, READ_ONLY
   */
  appendOps(_block: BlockId, _ops: readonly Op[]): Promise<void> {
    return todo();
  }

  /** The folded state of the log. Not a copy: only to be read, and only until the next await. */
  opsState(_block: BlockId): OpsState | Promise<OpsState> {
    return todo();
  }

  /** Sequenced ops after `seq`, in order; where the log was folded past it, a SNAPSHOT first. */
  async opsAfter(_block: BlockId, _seq: number): Promise<Op[]> {
    return todo();
  }

  /**
   * OPEN becomes FENCED, behind the appends given before; once it resolves no append of this block becomes durable.
   * A RECOVERED block is walked first. Repeating it reads the tail again.
   */
  fence(_block: BlockId, _epoch: Epoch): Promise<FenceFacts> {
    return todo();
  }

  /** Walks a RECOVERED block, unless that was done; changes nothing on the disk. */
  recover(_block: BlockId): Promise<void> {
    return todo();
  }

  /**
   * Record bytes for another replica: from `offset`, which starts a record, whole records as long as they fit `length`
   * (but at least one), up to the end of the valid part or of a hole.
   */
  readRaw(_block: BlockId, _generation: number, _offset: number, _length: number): Promise<Buffer> {
    return todo();
  }

  /**
   * Repairs a FENCED or RECOVERED block with records of another replica: `start` is the end of its valid part, or the
   * start of a hole. Verified before the write, durable when it resolves. The next `fence` tells what is left to do.
   */
  fill(_block: BlockId, _start: number, _bytes: Buffer): Promise<void> {
    return todo();
  }

  /**
   * Makes a FENCED or RECOVERED block immutable at `length`. Repeating it is harmless.
   *
   * @throws TfsError CONFLICT where bytes below `length` are missing (fill first), the digest is another one,
   *   a watermark proves more than `length`, or the block is sealed at another length
   */
  seal(_block: BlockId, _order: SealOrder): Promise<SealInfo> {
    return todo();
  }

  /** The block's SEAL is known to be on every member of its write set: all its records are proven. */
  setSealComplete(_block: BlockId): void {
    todo();
  }

  /** Reads all of a block and checks every CRC and the digest. */
  verify(_block: BlockId): Promise<VerifyReport> {
    return todo();
  }

  /** What the SHA-1 index of the disk is rebuilt from: every record of a block, in slot order, without payloads. */
  indexEntries(_block: BlockId): AsyncIterable<RecordRef> {
    return todo();
  }

  /**
   * Fills spare files with zeros until there are `count`, one at a time: flat out while nothing is appended, at
   * SPARE_FILL_BYTES_PER_SECOND_BUSY while appends run. A full disk ends it quietly.
   */
  async prepareSpares(_count: number, _blockBytes: number): Promise<void> {
    todo();
  }

  async space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    return todo();
  }
}
