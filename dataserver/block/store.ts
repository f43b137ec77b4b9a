import { createHash } from 'node:crypto';
import { isTfsError, TfsError } from '../../common/errors.ts';
import type { Op, OpsState } from '../../common/format/ops.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { Hole } from '../../common/format/walk.ts';
import type {
  BlockId,
  Cookie,
  Epoch,
  FileId,
  Millis,
  ServerId,
  Session,
  Slot,
  Version,
} from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import type { FileUse } from '../../common/seams/disk.ts';
import { tunable } from '../../common/tunables.ts';
import { type BlockEntry, BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import { tableDigest } from '../../common/wire/table-digest.ts';
import {
  type Batch,
  type BlockInfo,
  type BlockStoreOptions,
  type Commit,
  type CompactionOrder,
  type Configuration,
  type DropOrder,
  type FenceFacts,
  type GenerationOrder,
  type PreparedGeneration,
  type RawRecords,
  type ReadPace,
  type ReadResult,
  type Received,
  type ReceiveOrder,
  type SealInfo,
  type SealOrder,
  type SoundRecords,
  STORE_DIRECTORIES,
  type StoreTotals,
  type VerifyReport,
} from './api.ts';
import { AppendQueue } from './append-queue.ts';
import type { Block } from './block.ts';
import { clearLeftovers } from './clear-leftovers.ts';
import { Compactor } from './compactor.ts';
import { StoreContext } from './context.ts';
import { createBlock } from './create.ts';
import { Creations } from './creations.ts';
import { type Donor, type DonorHead, Donors } from './donor.ts';
import { dropBlock, removeAll } from './drop.ts';
import { DropLog } from './drop-log.ts';
import { endSession, fenceBlock } from './fence.ts';
import { IndexCache } from './index-cache.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { type OpsLogOptions, openBlocks, removeEarlier, reopenBlock } from './open.ts';
import type { Unplaced } from './ops-log.ts';
import { OpsReserve } from './ops-reserve.ts';
import { decodeRawRecords } from './raw-records.ts';
import { flagsOf, readName, type Wanted } from './read.ts';
import { readForRepair, readNextSound } from './read-for-repair.ts';
import { ReplicaReceiver } from './receive.ts';
import { Records } from './records.ts';
import { applyNameFlags, applyOps } from './recover.ts';
import { fillBlock } from './repair.ts';
import { type CachedIndex, prepareSeal, sealBlock } from './seal.ts';
import { type DeadSpace, deadSpaceOf, type UndeleteWindow } from './space.ts';
import { Spares } from './spares.ts';
import { damagedBefore, markSuspect } from './suspect.ts';
import { Tail } from './tail.ts';
import { Trash } from './trash.ts';
import { QUARANTINED_PROBLEM, unreadReport, verifyBlock } from './verify.ts';

export type * from './api.ts';
export type { Donor, DonorHead, DonorOps } from './donor.ts';
export { type FaultName, type Faults, NO_FAULTS } from './faults.ts';

/**
 * The blocks of one mount. Everything below a promise that resolved is durable; everything below one that rejected
 * may or may not be there. An unknown block is DONT_KNOW from every method that takes one.
 *
 * A failed write or fdatasync is never retried: the block's session is over and the store only reads from then on
 * (READ_ONLY); a full disk (DISK_FULL) ends the session of the block alone.
 */
export class BlockStore {
  /** What the blocks have records of. */
  readonly records: Records;
  readonly #context: StoreContext;
  readonly #cache: IndexCache;
  readonly #spares: Spares;
  readonly #reserve: OpsReserve;
  readonly #opsOptions: OpsLogOptions;
  readonly #trash: Trash;
  readonly #receiver: ReplicaReceiver;
  readonly #compactor: Compactor;
  readonly #dropLog: DropLog;
  readonly #server: ServerId;
  readonly #blocks = new Map<BlockId, Block>();
  /** Dropped, with files that could not be removed. */
  readonly #leftBehind = new Set<BlockId>();
  /** Ids that are being made, or made whole, or let go of. */
  readonly #making = new Set<BlockId>();
  readonly #creations = new Creations();

  private constructor(parts: {
    readonly context: StoreContext;
    readonly cache: IndexCache;
    readonly spares: Spares;
    readonly reserve: OpsReserve;
    readonly opsOptions: OpsLogOptions;
    readonly trash: Trash;
    readonly dropLog: DropLog;
    readonly server: ServerId;
    readonly blocks: readonly Block[];
  }) {
    this.#context = parts.context;
    this.#cache = parts.cache;
    this.#spares = parts.spares;
    this.#reserve = parts.reserve;
    this.#opsOptions = parts.opsOptions;
    this.#trash = parts.trash;
    this.#compactor = new Compactor(parts);
    this.#receiver = new ReplicaReceiver({
      ...parts,
      old: this.#compactor.old,
      attach: (block) => this.#add(block),
    });
    this.records = new Records({ ...parts, held: (block) => this.#of(block) });
    this.#dropLog = parts.dropLog;
    this.#server = parts.server;
    for (const block of parts.blocks) this.#add(block);
  }

  /** Lists the blocks, reads their superblocks and ops logs; walks no records. Blocks that were OPEN are RECOVERED. */
  static async open(options: BlockStoreOptions): Promise<BlockStore> {
    const context = new StoreContext(options);
    for (const directory of Object.values(STORE_DIRECTORIES)) await context.disk.mkdir(directory);
    await context.disk.syncDirectory('');
    const { limits = {} } = options;
    const { opsLogBytes = tunable.opsLogBytesMax, opsReserveBytes = tunable.opsReserveBytes } = limits;
    const reserve = await OpsReserve.open(context, opsReserveBytes);
    const opsOptions: OpsLogOptions = { bytesMax: opsLogBytes, release: () => reserve.release() };
    const dropLog = await DropLog.open({
      context,
      makeRoom: () => reserve.release(),
      ...(limits.dropLogEntries === undefined ? {} : { entriesMax: limits.dropLogEntries }),
    });
    return new BlockStore({
      context,
      cache: new IndexCache(context, options.budgets),
      spares: await Spares.open(context),
      reserve,
      opsOptions,
      trash: await Trash.open(context, limits.trashMs ?? tunable.trashMs),
      dropLog,
      server: options.server,
      blocks: await openBlocks(context, opsOptions, dropLog),
    });
  }

  /** Waits for what is in flight. Afterwards every method rejects with CLOSED. */
  async close(): Promise<void> {
    if (this.#context.closed) return;
    this.#context.closed = true;
    await this.#spares.close();
    for (const block of this.#blocks.values()) {
      await block.appends?.close('the block store is closed');
      await block.ops.close();
      await block.loading?.catch(() => undefined);
    }
    await this.#cache.close();
    for (const { index } of this.#blocks.values()) await index?.file.close();
  }

  /** Why the store takes no writes, if it takes none. */
  get readOnly(): TfsError | undefined {
    return this.#context.failure;
  }

  /** Takes no more writes, as after one that failed: the disk is not what it was. */
  stopWriting(why: TfsError): void {
    this.#context.failed(why, 'the mount');
  }

  get blocks(): readonly BlockId[] {
    return [...this.#blocks.keys()];
  }

  /** As reported to a NameServer. */
  entries(): BlockEntry[] {
    return Array.from(this.#blocks.values(), (block) => block.entry());
  }

  /** Of {@link entries}, without making them. */
  get digest(): number {
    return tableDigest(this.#blocks.values());
  }

  entry(block: BlockId): BlockEntry | undefined {
    return this.#blocks.get(block)?.entry();
  }

  /** A live view: it changes with the block. */
  info(block: BlockId): BlockInfo | undefined {
    return this.#blocks.get(block);
  }

  /** False for a block that is not here. */
  isSuspect(block: BlockId): boolean {
    return this.#blocks.get(block)?.suspect === true;
  }

  totals(): StoreTotals {
    let [openBlocks, unsealedBlocks, files, aliases, lostRecords, suspects] = [0, 0, 0, 0, 0, 0];
    let [bytes, indexBytes] = [this.#spares.bytes, this.#cache.bytes];
    for (const block of this.#blocks.values()) {
      if (block.state === BlockState.OPEN) openBlocks++;
      if (block.state !== BlockState.SEALED) unsealedBlocks++;
      if (block.flags !== 0) suspects++;
      files += block.slots;
      aliases += block.ops.facts.aliases;
      lostRecords += block.seal?.lost ?? 0;
      bytes += block.fileBytes;
      if (block.tail !== undefined) indexBytes += block.index?.bytes ?? 0;
    }
    let earlierBytes = 0;
    for (const files of this.#context.earlier.values()) earlierBytes += files.bytes;
    return {
      blocks: this.#blocks.size,
      openBlocks,
      unsealedBlocks,
      files,
      aliases,
      lostRecords,
      bytes,
      spares: this.#spares.count,
      suspects,
      trashBytes: this.#trash.bytes,
      generationBytes: this.#compactor.bytes + earlierBytes,
      indexBytes,
    };
  }

  /**
   * Makes an OPEN block; durable when it resolves.
   *
   * @throws TfsError CONFLICT for an id that it holds, or has let go of, or that {@link forbidCreation} was told;
   *   DISK_FULL, READ_ONLY
   */
  async create(superblock: Superblock, configuration: Configuration): Promise<void> {
    const context = this.#context;
    context.assertWritable();
    const id = superblock.block;
    if (superblock.clusterUuid !== context.clusterUuid)
      throw new TfsError('BAD_REQUEST', `block ${id} is of cluster ${superblock.clusterUuid}`);
    if (this.#blocks.has(id) || this.#making.has(id))
      throw new TfsError('CONFLICT', `block ${id} is here already`);
    if (this.#dropLog.of(id) !== undefined)
      throw new TfsError('CONFLICT', `block ${id} was here before: an id is given to one block for ever`);
    await this.#creations.run(id, () =>
      this.#alone(id, async () => {
        this.#add(await createBlock(context, this.#spares, this.#opsOptions, superblock, configuration));
        context.changed(id);
      }),
    );
  }

  /**
   * Ends the write session of a block that is not here: one that is being made is waited for, and is here then; of any other
   * none is made any more by this process. Whoever waits for the order to do so comes too late.
   */
  async forbidCreation(block: BlockId): Promise<void> {
    await this.#creations.forbid(block);
  }

  /**
   * The primary's own copy of a batch: one write, one fdatasync; batches in a queue are put together.
   *
   * @returns when the batch is durable here
   * @throws TfsError SESSION_ENDED when the block is not OPEN with that session or the offset is not its end;
   *   DISK_FULL, IO, READ_ONLY: then the session is over
   */
  async appendBatch(block: BlockId, session: Session, batch: Batch): Promise<void> {
    return this.#openFor(block, session).append(batch);
  }

  /**
   * A member's copy: whole records as the primary sent them. Every header CRC, the order of slots and every payload
   * CRC is verified before anything is written.
   *
   * @param bytes not changed until the append has resolved
   * @param ackedLength the primary's, as {@link setAcked}
   * @throws TfsError PROTOCOL for bytes that do not verify; otherwise as {@link appendBatch}
   */
  async appendRaw(
    block: BlockId,
    session: Session,
    offset: number,
    bytes: Buffer,
    ackedLength: number,
  ): Promise<void> {
    const appends = this.#openFor(block, session);
    appends.check(offset, bytes.length, 0);
    const held = this.#of(block);
    const headers = decodeRawRecords(bytes, held.seed, { offset, slot: appends.nextSlot });
    this.setAcked(block, ackedLength);
    return appends.append({ offset, headers, buffers: [bytes], bytes: bytes.length });
  }

  /** Every member has everything up to there. */
  setAcked(block: BlockId, ackedLength: number): void {
    const { tail, index } = this.#of(block);
    // Nobody can prove more than is durable here, while this replica is one of those that have to answer.
    if (tail !== undefined && index !== undefined && ackedLength <= index.length) tail.prove(ackedLength);
  }

  /**
   * One pread for a record of up to a MiB or so; for a larger one the header, then the chunks that the range touches.
   *
   * @param cookie undefined where the caller has the place from its own index and not from a name
   * @param range payload bytes wanted, cut at the end of the payload; length 0 reads the header alone
   * @param force answer for deleted and hidden names too; never for purged ones
   * @throws TfsError NOT_FOUND, of a RECOVERED block only for names that are deleted or hidden; DONT_KNOW where a miss
   *   proves nothing (a RECOVERED block), where nothing but bytes that verify does (a SUSPECT one), of an unknown block;
   *   CORRUPT when the stored bytes do not verify; IO
   */
  read(
    block: BlockId,
    fileId: FileId,
    cookie: Cookie | undefined,
    range: { readonly offset: number; readonly length: number },
    force: boolean,
  ): Promise<ReadResult> {
    const wanted = { fileId, cookie, offset: range.offset, length: range.length, force };
    // The usual case, with no promise but those of the read itself.
    const held = this.#blocks.get(block);
    if (held?.index === undefined || this.#context.closed) return this.#loadAndRead(block, wanted);
    held.index.touched = true;
    return readName(this.#context, held, held.index, wanted);
  }

  /**
   * The state bits of a name, whose cookie the caller has verified before: from memory when the index is loaded.
   * @throws TfsError as {@link read}
   */
  check(block: BlockId, fileId: FileId): number | Promise<number> {
    const held = this.#of(block);
    if (held.index === undefined) return this.#cache.use(held, async (index) => flagsOf(held, index, fileId));
    held.index.touched = true;
    return flagsOf(held, held.index, fileId);
  }

  /**
   * Appends ops to the block's log; resolves when they are durable and applied. Ops that come at the same time share
   * a write and an fdatasync. Ops up to the newest seq held are skipped. SEAL and GEN_COMMIT are not given here.
   *
   * @throws TfsError OPS_GAP when the first one does not follow the newest op given before; DISK_FULL, IO, READ_ONLY
   */
  async appendOps(block: BlockId, ops: readonly Op[]): Promise<void> {
    const held = this.#usable(block);
    this.#context.assertWritable();
    await held.ops.append(ops);
    if (held.state === BlockState.SEALED) this.#cache.warmed(held);
  }

  /**
   * Numbers new ops of this version behind all that the block's log was given, and appends them as {@link appendOps}.
   *
   * @throws TfsError STALE_EPOCH when another version has begun, or is about to; DISK_FULL, IO, READ_ONLY
   */
  async sequenceOps(block: BlockId, version: Version, contents: readonly Unplaced[]): Promise<void> {
    const held = this.#usable(block);
    this.#context.assertWritable();
    await held.ops.sequence(version, contents);
    if (held.state === BlockState.SEALED) this.#cache.warmed(held);
  }

  /** The folded state of the log. Not a copy: only to be read, and only until the next await. */
  opsState(block: BlockId): OpsState | Promise<OpsState> {
    const held = this.#usable(block);
    if (held.ops.state !== undefined) return held.ops.warm();
    return Promise.resolve(held.ops.warm()).then((state) => {
      if (held.state === BlockState.SEALED) this.#cache.warmed(held);
      return state;
    });
  }

  /** As OpsLog.prepare: no operation of an older version is taken from now on. @returns all sequenced operations */
  async prepareOps(block: BlockId, version: Version): Promise<Op[]> {
    const held = this.#usable(block);
    this.#context.assertWritable();
    const ops = await held.ops.prepare(version);
    if (held.state === BlockState.SEALED) this.#cache.warmed(held);
    return ops;
  }

  /** Sequenced ops after `seq`, in order; where the log was folded past it, a SNAPSHOT first. */
  async opsAfter(block: BlockId, seq: number): Promise<Op[]> {
    return this.#usable(block).ops.after(seq);
  }

  /**
   * OPEN becomes FENCED, behind the appends given before; once it resolves no append of this block becomes durable.
   * A RECOVERED block is walked first. Repeating it reads the tail again.
   */
  async fence(block: BlockId, epoch: Epoch): Promise<FenceFacts> {
    const held = this.#of(block);
    this.#context.log.debug({ block, epoch }, 'fence');
    return held.exclusively(() => fenceBlock(this.#context, held, () => this.#loaded(held)));
  }

  /**
   * The primary's session is over: OPEN becomes FENCED, behind the appends given before. The block shows by its state
   * that it waits for its seal, whatever becomes of messages that say so.
   */
  async endSession(block: BlockId): Promise<void> {
    const held = this.#of(block);
    await held.exclusively(() => endSession(this.#context, held, 'its session is over'));
  }

  /** Walks a RECOVERED block, unless that was done; changes nothing on the disk. */
  async recover(block: BlockId): Promise<void> {
    const held = this.#of(block);
    if (!held.walked) await this.#cache.use(held, async () => undefined);
  }

  /**
   * Records for another replica, each verified: from `offset`, which starts a record, whole ones as long as they fit
   * `length` (but at least one), up to the end or to one that does not verify.
   */
  async readRaw(block: BlockId, generation: number, offset: number, length: number): Promise<RawRecords> {
    const held = this.#of(block);
    return this.#cache.use(held, async (index) => {
      this.#assertGeneration(held, generation);
      return readForRepair(this.#context, held, index, offset, length);
    });
  }

  /** What another replica that has lost its own needs first. @throws TfsError DONT_KNOW where it is lost here too */
  head(block: BlockId): DonorHead {
    const held = this.#of(block);
    const { superblock, generation, seal } = held;
    if (superblock === undefined || (held.flags & BlockFlag.QUARANTINED) !== 0)
      throw new TfsError('DONT_KNOW', `block ${block} is quarantined on this DataServer`);
    return { superblock, generation, seal };
  }

  /**
   * Makes the replica of a sealed block whole, or makes it where there is none, of what is sound here and what the donors
   * have, asked in their order. Readers go on all the time. The damaged file is kept in the trash.
   *
   * A replica that this disk has let go of comes back only under a newer configuration than it held then: an order that
   * is older than the drop must not undo it.
   *
   * @param commit runs the last, short step, by which the new replica comes to be there
   * @throws TfsError CONFLICT when this replica is not of the order, or is being repaired, or was dropped since (details:
   *   `droppedEpoch` and `droppedN`, the configuration it held); UNAVAILABLE when a donor that may have what is missing
   *   did not answer; DISK_FULL, IO, READ_ONLY
   */
  async receiveReplica(
    order: ReceiveOrder,
    donors: readonly Donor[],
    commit: Commit = (install) => install(),
  ): Promise<Received> {
    const context = this.#context;
    context.assertWritable();
    const { block } = order;
    return this.#alone(block, () =>
      this.#receiver.receive(this.#blocks.get(block), order, new Donors(context, donors), commit),
    );
  }

  /**
   * Makes the next file of a sealed block, without the records that are purged: durable when it resolves, read back, and
   * beside the present one, which stays in use. Repeating it is harmless. It may take a while; reads, and operations on
   * names, go on.
   *
   * @param donors give what does not verify here
   * @param isInTheWay whether others wait because of it: then it goes on more slowly
   * @throws TfsError CONFLICT when this replica is not what the order is for, or is being made or repaired; CORRUPT when
   *   a live record verifies nowhere; UNAVAILABLE when a donor that may have it did not answer; OVERLOADED; DISK_FULL,
   *   IO, READ_ONLY. Nothing is left behind then.
   */
  async prepareCompaction(
    order: CompactionOrder,
    donors: readonly Donor[],
    isInTheWay: () => boolean = () => false,
  ): Promise<PreparedGeneration> {
    const context = this.#context;
    context.assertWritable();
    return this.#alone(order.block, () =>
      this.#compactor.prepare(this.#of(order.block), order, new Donors(context, donors), isInTheWay),
    );
  }

  /**
   * Puts the prepared file in the place of the present one; a repeat is harmless. When it resolves the new generation is
   * durable, and all reads use it. The old file goes a little later.
   *
   * @throws TfsError CONFLICT when nothing like it is prepared here; DISK_FULL: nothing has changed; IO, READ_ONLY
   */
  async commitGeneration(block: BlockId, order: GenerationOrder): Promise<void> {
    this.#context.assertWritable();
    await this.#alone(block, () => this.#compactor.commit(this.#of(block), order));
  }

  /** Bytes that the next generation would do without: of what is purged, and of these. */
  async garbageBytes(block: BlockId, due: readonly Slot[]): Promise<number> {
    const wanted = new Set<number>(due);
    return this.#cache.use(this.#of(block), async (index) => {
      let bytes = 0;
      for (let slot = 0; slot < index.count; slot++)
        if (wanted.has(slot) || (slotFlags(index.words[slot]!) & NameFlag.PURGED) !== 0)
          bytes += index.spanOf(slot);
      return bytes;
    });
  }

  /** Gives up what was prepared for a block, or is being prepared: nothing of it is left. */
  async abandonCompaction(block: BlockId): Promise<void> {
    await this.#compactor.abandon(block);
  }

  /**
   * Lets go of a sealed replica that its block does not need: it is gone for good when this resolves, whatever happens.
   *
   * @returns false where there is none
   * @throws TfsError CONFLICT when it is another replica than the order means, or one that may be needed, see `whyKept` in
   *   drop.ts, or is being repaired or compacted; DISK_FULL: then nothing has happened; IO, READ_ONLY
   */
  async drop(order: DropOrder): Promise<boolean> {
    const context = this.#context;
    context.assertWritable();
    const { block } = order;
    return this.#alone(block, async () => {
      const held = this.#blocks.get(block);
      if (held === undefined) return false;
      const forget = () => {
        held.isForgotten = true;
        this.#blocks.delete(block);
        this.#cache.forget(held);
        context.counters.dropped++;
        context.changed(block);
      };
      const leave = () => void this.#leftBehind.add(block);
      const parts = { context, dropLog: this.#dropLog, server: this.#server, forget, leave };
      await held.exclusively(() => dropBlock(parts, held, order));
      await this.#compactor.abandon(block);
      return true;
    });
  }

  /** Whether there is none here, because the block held nothing and was let go of with all of its replicas. */
  isRetired(block: BlockId): boolean {
    return !this.#blocks.has(block) && this.#dropLog.isRetired(block);
  }

  /** Blocks of which a replica was let go of here, at some time. */
  get dropped(): Iterable<BlockId> {
    return this.#dropLog.blocks;
  }

  /**
   * Removes from the trash what has been there long enough, or what a full disk needs, files that compactions have
   * replaced, and what is left of replicas that were dropped. To be called now and then.
   */
  async purgeTrash(): Promise<void> {
    await this.#trash.purge();
    await this.#compactor.sweep();
    await this.#removeEarlier();
    for (const block of this.#leftBehind) {
      if (this.readOnly !== undefined || this.isBusy(block)) continue;
      // One that has come back has taken the place of those files.
      if (!this.#blocks.has(block)) await this.#alone(block, () => removeAll(this.#context, block));
      this.#leftBehind.delete(block);
    }
  }

  /** Files that could not go at the start. */
  async #removeEarlier(): Promise<void> {
    const { earlier } = this.#context;
    for (const [block, { generations }] of earlier) {
      if (this.readOnly !== undefined || this.isBusy(block)) continue;
      const held = this.#blocks.get(block);
      // Whoever drops a replica removes all of its files, these too.
      if (held === undefined) earlier.delete(block);
      else await this.#alone(block, () => removeEarlier(this.#context, held, generations));
    }
  }

  /** A process before this one has found the sealed replica damaged, and it was not repaired since: it is SUSPECT again. */
  foundDamagedBefore(block: BlockId): void {
    const held = this.#blocks.get(block);
    if (held?.state === BlockState.SEALED) damagedBefore(this.#context, held);
  }

  /**
   * Looks again at blocks that could not be used when the store opened. To be called now and then.
   *
   * @returns those that can be used from now on
   */
  async reopenQuarantined(): Promise<BlockId[]> {
    const reopened: BlockId[] = [];
    for (const held of [...this.#blocks.values()]) {
      const { block } = held;
      const isStill = () => (held.flags & BlockFlag.QUARANTINED) !== 0 && this.#blocks.get(block) === held;
      if (!isStill() || this.isBusy(block) || this.#context.closed) continue;
      const reopen = async () =>
        isStill() && (await reopenBlock(this.#context, this.#opsOptions, held, (found) => this.#add(found)));
      if (await this.#alone(block, () => held.exclusively(reopen))) reopened.push(block);
    }
    return reopened;
  }

  /**
   * As {@link readRaw}, but only records that verify, from the first that starts in the range; `offset` says where that
   * is. Empty where there is none.
   */
  async readSound(
    block: BlockId,
    generation: number,
    range: { readonly offset: number; readonly length: number },
  ): Promise<SoundRecords> {
    const held = this.#of(block);
    return this.#cache.use(held, async (index) => {
      this.#assertGeneration(held, generation);
      return readNextSound(this.#context, held, index, range);
    });
  }

  /**
   * Repairs a FENCED or RECOVERED block with records of another replica: `start` is the end of its valid part, the
   * start of a hole, or where the last repair ended; or somewhere behind those, where a record starts. Verified before
   * the write, durable when it resolves. {@link missingFor} tells what is left to do.
   *
   * @throws TfsError CONFLICT when nothing is missing there, PROTOCOL for bytes that do not verify
   */
  async fill(block: BlockId, start: number, bytes: Buffer): Promise<void> {
    const held = this.#of(block);
    return held.exclusively(() => fillBlock(this.#context, held, start, bytes));
  }

  /**
   * What a FENCED or RECOVERED block lacks for this seal: spans to be filled before {@link seal}. A block that is sealed
   * already, under a SEAL that stands below the ordered one, waits for its seal again.
   *
   * @throws TfsError CONFLICT as {@link seal}
   */
  async missingFor(block: BlockId, order: SealOrder): Promise<readonly Hole[]> {
    const held = this.#of(block);
    return held.exclusively(() => prepareSeal(this.#context, held, order, this.#cached(held)));
  }

  /**
   * Makes a FENCED or RECOVERED block immutable at `length`. Repeating it is harmless. What does not verify is sealed as
   * lost where the order allows it, or its digest says so.
   *
   * @throws TfsError CONFLICT where bytes below `length` are missing (fill first), the digest is another one,
   *   a watermark proves more than `length`, or the block is sealed otherwise under a SEAL that stands above the order
   */
  async seal(block: BlockId, order: SealOrder): Promise<SealInfo> {
    const held = this.#of(block);
    return held.exclusively(async () => {
      const seal = await sealBlock(this.#context, held, order, this.#cached(held));
      if (held.index !== undefined) this.#cache.put(held);
      this.#cache.warmed(held);
      // Nobody reads from an empty one.
      if (seal.slots === 0) this.#cache.forget(held);
      return seal;
    });
  }

  /**
   * Reads all of a block, OPEN ones too, as far as they are durable, and checks everything that can be checked. What
   * does not verify makes the block SUSPECT.
   *
   * @param pace absent: as fast as the disk gives it
   */
  async verify(block: BlockId, pace?: ReadPace): Promise<VerifyReport> {
    const held = this.#of(block);
    const wasLoaded = held.index !== undefined;
    try {
      return await this.#verify(held, pace);
    } finally {
      if (!wasLoaded) held.untouch();
    }
  }

  async #verify(held: Block, pace: ReadPace | undefined): Promise<VerifyReport> {
    for (;;) {
      if ((held.flags & BlockFlag.QUARANTINED) !== 0) return unreadReport(QUARANTINED_PROBLEM);
      try {
        const report = await this.#cache.use(held, (index) => verifyBlock(this.#context, held, index, pace));
        if (report !== undefined) return report;
      } catch (error) {
        // It cannot even be loaded; that made it SUSPECT.
        if (!held.suspect || !isTfsError(error)) throw error;
        return unreadReport(error.message);
      }
    }
  }

  /** See {@link clearLeftovers}. @returns how many files it was @throws TfsError IO, READ_ONLY */
  async clearLeftovers(): Promise<number> {
    this.#context.assertWritable();
    return clearLeftovers({
      context: this.#context,
      trash: this.#trash,
      old: this.#compactor.old,
      held: (block) => this.#blocks.get(block),
      ifIdle: async (block, work) => {
        if (this.isBusy(block)) return false;
        await this.#alone(block, work);
        return true;
      },
    });
  }

  /** Files of the block are being made, or a next one is there that may be committed. */
  isBusy(block: BlockId): boolean {
    return this.#making.has(block) || this.#compactor.isUnderWay(block);
  }

  /**
   * Fills spare files with zeros until there are `count`, one at a time: flat out while nothing is appended, at
   * SPARE_FILL_BYTES_PER_SECOND_BUSY while appends run. A full disk ends it quietly.
   */
  async prepareSpares(count: number, blockBytes: number): Promise<void> {
    this.#context.assertWritable();
    await this.#reserve.refill();
    await this.#spares.prepare(count, blockBytes);
  }

  /** What an operation that is made now is dated with, ms since 1970. */
  get opsNow(): Millis {
    return this.#context.opsNow();
  }

  /** Orders that were refused because they would have cut what was acknowledged. */
  get refusedCuts(): number {
    return this.#context.counters.refusedCuts;
  }

  /** Replicas that were let go of since the start. */
  get droppedCount(): number {
    return this.#context.counters.dropped;
  }

  /** Gives some of the space kept for operations back to a full disk. @returns whether there was some */
  releaseReserve(): Promise<boolean> {
    return this.#reserve.release();
  }

  /** Bytes of records that no live name leads to. Loads the index of the block where it is not in memory. */
  async deadSpace(
    block: BlockId,
    window: Omit<UndeleteWindow, 'deletedAtSeconds'>,
  ): Promise<DeadSpace & { readonly untilMs: number }> {
    const held = this.#of(block);
    return this.#cache.use(held, async (index) => {
      const { deletions } = await this.opsState(block);
      return deadSpaceOf(index, { ...window, deletedAtSeconds: (name) => deletions?.secondsOf(name) ?? 0 });
    });
  }

  /** The files of one of its directories, and of others of the mount. */
  usage(directory: string): Promise<FileUse[]> {
    return this.#context.disk.usage(directory);
  }

  async space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    return this.#context.disk.space();
  }

  #add(block: Block): void {
    this.#blocks.set(block.block, block);
    block.ops.onApplied = (ops, state) => {
      const next = block.enterNext();
      if (next !== undefined) {
        applyNameFlags(next, state);
        this.#cache.replace(block, next);
      }
      if (block.index !== undefined) {
        applyOps(block.index, ops, state);
        if (block.state === BlockState.SEALED) this.#cache.put(block);
      }
      block.namesChanged();
      this.#context.changed(block.block);
      this.#context.ops(block.block, ops, state, 'done');
    };
    block.ops.onDamaged = (error) => markSuspect(this.#context, block, error);
  }

  /** The files of a block are made, or made whole, by one at a time. */
  async #alone<T>(block: BlockId, work: () => Promise<T>): Promise<T> {
    if (this.#making.has(block))
      throw new TfsError('CONFLICT', `block ${block} is being made, repaired or compacted`, {
        retryAfterMs: 500,
      });
    this.#making.add(block);
    try {
      return await work();
    } finally {
      this.#making.delete(block);
    }
  }

  /** @throws TfsError CLOSED, DONT_KNOW */
  #of(block: BlockId): Block {
    this.#context.assertOpen();
    const held = this.#blocks.get(block);
    if (held === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    return held;
  }

  /** A block whose files could be read when the store opened. */
  #usable(block: BlockId): Block {
    const held = this.#of(block);
    held.sound();
    return held;
  }

  #assertGeneration({ block, generation: own }: Block, generation: number): void {
    if (generation === own) return;
    throw new TfsError('CONFLICT', `block ${block} is of generation ${own} here, not ${generation}`);
  }

  #loaded(held: Block): Promise<LoadedIndex> {
    return this.#cache.use(held, async (index) => index);
  }

  #cached(held: Block): CachedIndex {
    return { load: () => this.#loaded(held), unload: () => this.#cache.forget(held) };
  }

  #openFor(block: BlockId, session: Session): AppendQueue {
    const held = this.#of(block);
    const { faults } = this.#context;
    if (held.superblock?.session === session) {
      if (held.state === BlockState.OPEN) return held.appends!;
      if (held.state === BlockState.FENCED && faults.has('append-behind-fence')) return held.appends!;
      if (faults.has('append-after-restart') && held.tail !== undefined) return this.#reopen(held);
    }
    mark('append-refused');
    throw new TfsError('SESSION_ENDED', `block ${block} is not open for session ${session} here`);
  }

  async #loadAndRead(block: BlockId, wanted: Wanted): Promise<ReadResult> {
    const held = this.#of(block);
    return this.#cache.use(held, (index) => readName(this.#context, held, index, wanted));
  }

  /** A planted bug. */
  #reopen(block: Block): AppendQueue {
    block.tail = new Tail({ clean: true, hash: createHash('sha256') });
    block.state = BlockState.OPEN;
    block.appends = new AppendQueue(this.#context, block, block.index!, block.tail);
    return block.appends;
  }
}
