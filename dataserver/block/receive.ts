import { isTfsError, TfsError } from '../../common/errors.ts';
import { DropReason } from '../../common/format/drop-log.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import {
  emptyOpsState,
  foldOp,
  type OpPlace,
  sealOf,
  slotFlagsOf,
  withoutFacts,
} from '../../common/format/ops.ts';
import { compareSeals } from '../../common/format/seal-rank.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { compareVersions, type ServerId, type Slot } from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { Commit, Received, ReceiveOrder, SealInfo } from './api.ts';
import { Block } from './block.ts';
import { type OpenedLog, readLog } from './block-files.ts';
import { inBlocks, isGone } from './context.ts';
import type { Donors } from './donor.ts';
import { removeAll } from './drop.ts';
import type { DropLog } from './drop-log.ts';
import { type EnterParts, enterGeneration } from './enter-generation.ts';
import { type InstallParts, installReplica, type NewReplica, type OpsSource } from './install.ts';
import { proveLength } from './load.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { makeRoom } from './make-room.ts';
import { isFact, OpsLog } from './ops-log.ts';
import { boundaryBehind } from './read-for-repair.ts';
import { Rebuild, type Rebuilt } from './rebuild.ts';
import { keepIn, opsLogsOf, type ReceivedOps, receiveOps } from './receive-ops.ts';

export interface ReceiverParts extends InstallParts, EnterParts {
  readonly server: ServerId;
  readonly dropLog: DropLog;
}

/** The file that there is here. */
interface OwnFile {
  /** Undefined where it cannot be opened now. */
  readonly file: DiskFile | undefined;
  /** Whether the block's name leads to it. */
  readonly isNamed: boolean;
  readonly close: () => Promise<void>;
}

/**
 * Makes a replica of a sealed block whole, or makes it where there is none.
 *
 * Order: operations gathered in memory; the new block file durable under a temporary name and read back; the damaged
 * one given a second name in the trash; the new one renamed over it, its directory synced; then the ops log in the same
 * way, if it has to be made; then, at once, what readers use. A crash leaves the old file or the new one under the
 * block's name, never neither; between block file and ops log it leaves a block whose log cannot be read, which the next
 * repair completes.
 */
export class ReplicaReceiver {
  readonly #parts: ReceiverParts;

  constructor(parts: ReceiverParts) {
    this.#parts = parts;
  }

  /**
   * @param held undefined where the block is not here
   * @throws TfsError CONFLICT when this replica is not of the order; UNAVAILABLE when a source that may have what is
   *   missing did not answer; DISK_FULL, IO, READ_ONLY
   */
  async receive(
    held: Block | undefined,
    order: ReceiveOrder,
    donors: Donors,
    commit: Commit,
  ): Promise<Received> {
    // Of an earlier generation its file is of no use: the one of the order is made beside it.
    const isOutdated = held !== undefined && isOlder(held, order);
    if (held !== undefined) {
      // How much of it is known to have been acknowledged stands in its records: nothing of that may go.
      if (!isQuarantined(held) && givesWay(held, order) && order.seal.length < held.seal!.length)
        await proveLength(this.#parts.context, held);
      this.#check(held, order, isOutdated);
      const flaws = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
      if (!isOutdated && (held.flags & flaws) === 0) return { whole: true, fetched: 0, lost: 0 };
    } else this.#checkDrop(order);
    const source = isOutdated ? undefined : held;
    const superblock = source?.superblock ?? (await this.#superblock(order, donors));
    const ops = await this.#opsSource(held, superblock, order, donors, isOutdated);
    await makeRoom(this.#parts, order.seal.length, 'a repair');
    const path = `${blockFileName(order.block, order.generation, 'blk')}.tmp`;
    try {
      const made = await this.#build(path, source, superblock, order, donors);
      // What reads here may be in the page cache alone, and the new file is on the disk.
      const built =
        source === undefined || this.#isOnDisk(source, order, ops) ? made : { ...made, better: true };
      // Where others may have more, an incomplete copy is no copy; a damaged one that is less damaged now is better.
      const isUnsure = !built.whole && (donors.failed.length > 0 || isUsable(held, isOutdated));
      if (isUnsure && source === undefined) throw donors.missing(missingText(order, built));
      if (built.unread && !order.mayLoseUnread)
        throw new TfsError(
          'IO',
          `block ${order.block}: the disk fails to read what no other replica has; its file stays as it is`,
        );
      if (isOutdated) await forbidUnpurged(order, built, ops);
      const install = () =>
        commit(async () => {
          if (held === undefined) await this.#takeBack(order);
          await this.#install({ path, held, superblock, ops, built, order });
        });
      if (held === undefined) await install();
      else
        await held.exclusively(async () => {
          // Meanwhile it may have been sealed anew.
          this.#check(held, order, isOutdated);
          await install();
        });
      if (isUnsure) throw donors.missing(missingText(order, built));
      const { whole, fetched, lost } = built;
      return { whole, fetched, lost };
    } finally {
      await this.#parts.context.discard(inBlocks(path));
    }
  }

  #check(held: Block, { seal, generation }: ReceiveOrder, isOutdated: boolean): void {
    const refuse = (why: string): TfsError => {
      mark('replica-refused');
      return new TfsError('CONFLICT', `the replica of block ${held.block} is not repaired: ${why}`);
    };
    if (held.state === BlockState.OPEN) throw refuse('it is not fenced');
    if (isOutdated) return;
    if (held.generation !== generation)
      throw refuse(`it is of generation ${held.generation}, the others of ${generation}`);
    // What its disk fails to read cannot be fenced, and so never sealed; whoever can read it now has to do that.
    const isUnread = held.state === BlockState.RECOVERED && (held.unread || isLogLost(held));
    if (held.state !== BlockState.SEALED && !isQuarantined(held) && !isUnread)
      throw refuse('it waits for its seal');
    const isSealedOtherwise = givesWay(held, { seal, generation });
    if ((isUnread || isSealedOtherwise || isQuarantined(held)) && held.provenLength > seal.length)
      throw refuse(`${held.provenLength} bytes of it are known to have been acknowledged`);
    if (held.seal !== undefined && !isSame(held.seal, seal) && !isSealedOtherwise)
      throw refuse(`it is sealed at ${held.seal.length} bytes, or with another digest, than the others`);
  }

  /**
   * Whether the own file is known to be on the disk, as its SEAL says that only what is there was sealed. Of one that was
   * never sealed here a killed process, or a sync that failed, may have left the end in the page cache.
   */
  #isOnDisk(held: Block, { seal }: ReceiveOrder, ops: OpsSource): boolean {
    if (this.#parts.context.faults.has('trust-page-cache')) return true;
    const known = ops.kind === 'own' ? ops.log.facts.seal : held.storedSeal;
    return known !== undefined && isSame(known, seal);
  }

  /** A sound replica of an earlier generation goes on with its log; its readers must not see one without the other. */
  async #install(replica: NewReplica): Promise<void> {
    const { held, ops, path, superblock, built, order } = replica;
    const isCommit =
      held?.state === BlockState.SEALED && ops.kind === 'own' && ops.log === held.ops && isOlder(held, order);
    if (!isCommit) return installReplica(this.#parts, replica);
    mark('replica-generation-copied');
    const { words, sha1s } = built;
    await enterGeneration(
      this.#parts,
      held,
      { ...order.seal, path, superblock, words, sha1s },
      order.seal.epoch,
    );
  }

  #checkDrop({ block, version }: ReceiveOrder): void {
    const { dropLog } = this.#parts;
    const dropped = dropLog.of(block)?.version;
    if (dropped === undefined || !dropLog.isDropped(block) || compareVersions(version, dropped) > 0) return;
    mark('replica-refused');
    throw new TfsError(
      'CONFLICT',
      `block ${block} was dropped here under configuration (${dropped.epoch}, ${dropped.n}), and this order is no newer`,
      { details: { droppedEpoch: dropped.epoch, droppedN: dropped.n } },
    );
  }

  /**
   * Before the files have their names: a start that finds them and the drop would remove them. What an earlier life of
   * the block has left goes before that, while the drop still says that it is nothing.
   */
  async #takeBack({ block, generation, version }: ReceiveOrder): Promise<void> {
    const { context, dropLog } = this.#parts;
    if (!dropLog.isDropped(block)) return;
    mark('replica-came-back');
    await removeAll(context, block);
    const reason = DropReason.RETURNED;
    await dropLog.append({ block, generation, version, reason, atMs: context.clock.now() });
  }

  async #superblock({ block, generation, seal }: ReceiveOrder, donors: Donors): Promise<Superblock> {
    const { clusterUuid } = this.#parts.context;
    const found = await donors.first(async (donor) => {
      const head = await donor.head();
      const { superblock } = head;
      const fits =
        superblock.block === block &&
        superblock.generation === generation &&
        superblock.clusterUuid === clusterUuid &&
        head.seal !== undefined &&
        isSame(head.seal, seal);
      return fits ? superblock : undefined;
    });
    if (found === undefined) throw donors.missing(`no source has the superblock of block ${block}`);
    return found;
  }

  async #opsSource(
    held: Block | undefined,
    superblock: Superblock,
    order: ReceiveOrder,
    donors: Donors,
    isOutdated: boolean,
  ): Promise<OpsSource> {
    const { context, server, opsOptions, trash } = this.#parts;
    // A replica that was left out takes the operations with the file: its own log need not say what was purged.
    const isLeftOut = isOutdated && held !== undefined && compareVersions(held.version, order.version) < 0;
    let newest: OpPlace | undefined;
    if (held !== undefined && !isQuarantined(held)) {
      if (!held.ops.damaged && !isLeftOut) return { kind: 'own', log: held.ops };
      await keepIn(trash, context, held.ops.fileName);
      if (!isLeftOut && (await held.ops.renew())) return { kind: 'own', log: held.ops };
      // What its disk failed to read for a moment only is as good as what others have, who may have nothing.
      if (!isLeftOut && (await held.ops.check()) === undefined) return { kind: 'own', log: held.ops };
      // It was sound in this life of the process.
      newest = held.ops.facts;
    } else if (held !== undefined && !isLeftOut) {
      // Read anew: without the superblock nobody could tell whether it is the log of this block.
      const log = await readLog(context, superblock, held.block, await opsLogsOf(context, held.block));
      const seal = sealOf(log.state, order.generation);
      const isOther = seal !== undefined && !isSame(seal, order.seal) && !isOutdated;
      if (isOther && !givesWay(held, order, seal))
        throw new TfsError(
          'CONFLICT',
          `block ${held.block} is sealed here with another digest than elsewhere`,
        );
      const own = new OpsLog(context, log.place, log.state, opsOptions);
      if (isOther && order.seal.length < seal.length) await this.#proveUnusable(held, superblock, own, order);
      if (log.why === undefined)
        // Its SEAL may stand above the one that it takes: a new file is made, without it.
        return isOther ? { kind: 'received', received: withoutFactsOf(log) } : { kind: 'own', log: own };
      newest = log.newest;
    }
    return {
      kind: 'received',
      received: await receiveOps(context, { server, isHeld: held !== undefined, newest }, order, donors),
    };
  }

  /** Without a superblock of its own it does not know its records; that of the others is the same. */
  async #proveUnusable(held: Block, superblock: Superblock, ops: OpsLog, order: ReceiveOrder): Promise<void> {
    const { context } = this.#parts;
    const { block, generation, fileBytes } = held;
    const state = BlockState.SEALED;
    const known = new Block({ block, generation, superblock, ops, state, fileBytes, faults: context.faults });
    // Nobody has to be told once more.
    known.flags = BlockFlag.SUSPECT;
    try {
      await proveLength(context, known);
    } catch (error) {
      // There is nothing left to cut.
      if (!isGone(error)) throw error;
    }
    held.provenLength = known.provenLength;
    this.#check(held, order, false);
  }

  async #build(
    path: string,
    held: Block | undefined,
    superblock: Superblock,
    order: ReceiveOrder,
    donors: Donors,
  ): Promise<Rebuilt> {
    const { context } = this.#parts;
    const { seal } = order;
    const index = held === undefined ? undefined : await this.#indexOf(held);
    const behind = (offset: number) => {
      const slot = index?.recordAt(offset);
      return index === undefined || slot === undefined ? undefined : boundaryBehind(index, slot);
    };
    const own = held === undefined ? undefined : await this.#openOwn(held, index);
    try {
      const built = await Rebuild.run(context, { path, superblock, seal, own: own?.file, behind }, donors);
      if (own !== undefined && own.file === undefined) return { ...built, unread: !built.whole };
      // What was given up for lost, and reads here after all, is sealed once more: nothing takes its place.
      const isFound = !built.whole && own !== undefined && built.lost < (seal.lost ?? 0);
      if (isFound && built.fetched === 0 && superblock.generation === 0 && !isQuarantined(held!))
        throw new TfsError(
          'CONFLICT',
          `block ${order.block} is sealed with ${seal.lost} records lost, and all but ${built.lost} verify here`,
        );
      if (!built.foreign || isFound || own === undefined)
        return own?.isNamed === false ? { ...built, better: true } : built;
      mark('replica-copied-anew');
      context.log.error({ block: order.block }, 'a replica does not fit the others; it is copied as a whole');
      const nothing = { own: undefined, behind: () => undefined };
      const afresh = await Rebuild.run(context, { path, superblock, seal, ...nothing }, donors);
      if (afresh.whole || afresh.lost < built.lost)
        return { ...afresh, unread: !afresh.whole && built.unread };
      return await Rebuild.run(context, { path, superblock, seal, own: own.file, behind }, donors);
    } finally {
      await own?.close();
    }
  }

  /** For where records start. Of a block that cannot be loaded nothing is known. */
  async #indexOf(held: Block): Promise<LoadedIndex | undefined> {
    try {
      return await this.#parts.cache.use(held, async (index) => index);
    } catch (error) {
      if (!isTfsError(error)) throw error;
      return undefined;
    }
  }

  /** Under its name, or, where somebody has removed that, as long as it is still open. */
  async #openOwn(held: Block, index: LoadedIndex | undefined): Promise<OwnFile | undefined> {
    try {
      const file = await this.#parts.context.open(held.fileName, 'read');
      return { file, isNamed: true, close: () => file.close() };
    } catch (error) {
      if (!isTfsError(error)) throw error;
      if (index === undefined || index !== held.index)
        return isGone(error) ? undefined : { file: undefined, isNamed: true, close: () => Promise.resolve() };
    }
    index.hold();
    return { file: index.file, isNamed: false, close: async () => index.release() };
  }
}

/**
 * Whether the replica is sealed otherwise than the others and takes what they have: two leaders have sealed the block, and
 * its log or its superblock is lost, so that neither can it be sealed anew nor the others as it is. Mostly a start would
 * not even know its SEAL. One that is complete never gives way, nor does one that lost fewer records.
 *
 * @param own the SEAL that it has
 */
function givesWay(
  held: Block,
  { seal, generation }: Pick<ReceiveOrder, 'seal' | 'generation'>,
  own = held.seal,
): boolean {
  if (generation > 0 || held.generation > 0 || own === undefined) return false;
  if (isSame(own, seal) || !(isLogLost(held) || isQuarantined(held))) return false;
  const isOpen = own.complete !== true && (own.lost ?? 0) === 0 && (seal.lost ?? 0) === 0;
  return isOpen || compareSeals(seal, own) > 0;
}

/** The operations of a log, as it would give them to another replica. */
function withoutFactsOf({ ops: all }: Pick<OpenedLog, 'ops'>): ReceivedOps {
  const ops = all.filter((op) => !isFact(op)).map(withoutFacts);
  const state = emptyOpsState();
  for (const op of ops) foldOp(state, op);
  return { ops, state };
}

/**
 * Whether others have a later generation than this replica; or the same one, made once more under a later leader that
 * did not know of this one.
 */
function isOlder(held: Block, { generation, seal }: ReceiveOrder): boolean {
  if (held.generation !== generation) return held.generation < generation;
  const isOther = held.seal !== undefined && !isSame(held.seal, seal);
  return generation > 0 && isOther && seal.epoch > held.seal.epoch;
}

/** A replica of an earlier generation that reads is better than half of a later one. */
const isUsable = (held: Block | undefined, isOutdated: boolean): boolean =>
  isOutdated && held !== undefined && !isQuarantined(held);

/**
 * A name whose record the file leaves out must be purged by the log too, or it would seem to be damaged.
 *
 * @throws TfsError UNAVAILABLE until the operations have come
 */
async function forbidUnpurged(
  { block }: ReceiveOrder,
  { words, whole }: Rebuilt,
  ops: OpsSource,
): Promise<void> {
  const state = ops.kind === 'own' ? await ops.log.warm() : ops.received.state;
  const isLeftOut = (word: number): boolean => (slotFlags(word) & NameFlag.PURGED) !== 0;
  const isKnown = (slot: number): boolean => (slotFlagsOf(state, slot as Slot) & NameFlag.PURGED) !== 0;
  if (!whole || words.every((word, slot) => !isLeftOut(word) || isKnown(slot))) return;
  throw new TfsError('UNAVAILABLE', `block ${block}: the operations here do not say yet what was purged`, {
    retryAfterMs: 1000,
  });
}

const isSame = (a: SealInfo, b: SealInfo): boolean =>
  a.length === b.length && a.slots === b.slots && a.digest.equals(b.digest);

/** Its log is damaged, and what the operations add up to is not in memory either: it cannot be fenced, or sealed. */
const isLogLost = ({ ops }: Block): boolean => ops.damaged && ops.state === undefined;

const isQuarantined = ({ flags }: Block): boolean => (flags & BlockFlag.QUARANTINED) !== 0;

const missingText = ({ block }: ReceiveOrder, { lost }: Rebuilt): string =>
  `${lost} records of block ${block} verify on no replica that answers`;
