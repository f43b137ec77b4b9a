import { isTfsError, TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { ServerId } from '../../common/ids.ts';
import { OPS_RESERVE_BYTES } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { Received, ReceiveOrder, SealInfo } from './api.ts';
import type { Block } from './block.ts';
import { inBlocks } from './context.ts';
import type { Donors } from './donor.ts';
import { type InstallParts, installReplica, type OpsSource } from './install.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { readLog } from './open.ts';
import { OpsLog } from './ops-log.ts';
import { boundaryBehind } from './read-for-repair.ts';
import { Rebuild, type Rebuilt } from './rebuild.ts';
import { keepIn, opsLogsOf, receiveOps } from './receive-ops.ts';

export interface ReceiverParts extends InstallParts {
  readonly server: ServerId;
}

/** The file that there is here. */
interface OwnFile {
  readonly file: DiskFile;
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
  async receive(held: Block | undefined, order: ReceiveOrder, donors: Donors): Promise<Received> {
    if (held !== undefined) {
      this.#check(held, order);
      const flaws = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
      if ((held.flags & flaws) === 0) return { whole: true, fetched: 0, lost: 0 };
    }
    const superblock = held?.superblock ?? (await this.#superblock(order, donors));
    const ops = await this.#opsSource(held, superblock, order, donors);
    await this.#makeRoom(order.seal);
    const path = `${blockFileName(order.block, order.generation, 'blk')}.tmp`;
    try {
      const built = await this.#build(path, held, superblock, order, donors);
      // Where others may have more, an incomplete copy is no copy; a damaged one that is less damaged now is better.
      const isUnsure = !built.whole && donors.failed.length > 0;
      if (isUnsure && held === undefined) throw donors.missing(missingText(order, built));
      const install = () => installReplica(this.#parts, { path, held, superblock, ops, built, order });
      if (held === undefined) await install();
      else
        await held.exclusively(async () => {
          // Meanwhile it may have been sealed anew.
          this.#check(held, order);
          await install();
        });
      if (isUnsure) throw donors.missing(missingText(order, built));
      const { whole, fetched, lost } = built;
      return { whole, fetched, lost };
    } finally {
      await this.#parts.context.discard(inBlocks(path));
    }
  }

  #check(held: Block, { seal, generation }: ReceiveOrder): void {
    const refuse = (why: string): TfsError =>
      new TfsError('CONFLICT', `the replica of block ${held.block} is not repaired: ${why}`);
    if (held.generation !== generation)
      throw refuse(`it is of generation ${held.generation}, the others of ${generation}`);
    const isQuarantined = (held.flags & BlockFlag.QUARANTINED) !== 0;
    if (held.state !== BlockState.SEALED && !isQuarantined) throw refuse('it waits for its seal');
    if (held.seal !== undefined && !isSame(held.seal, seal))
      throw refuse(`it is sealed at ${held.seal.length} bytes, or with another digest, than the others`);
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
  ): Promise<OpsSource> {
    const { context, server, opsOptions, trash } = this.#parts;
    if (held !== undefined && (held.flags & BlockFlag.QUARANTINED) === 0) {
      if (!held.ops.damaged) return { kind: 'own', log: held.ops };
      await keepIn(trash, context, held.ops.fileName);
      if (await held.ops.renew()) return { kind: 'own', log: held.ops };
    } else if (held !== undefined) {
      // Read anew: without the superblock nobody could tell whether it is the log of this block.
      const log = await readLog(context, superblock, held.block, await opsLogsOf(context, held.block));
      if (log.why === undefined) {
        if (log.state.seal !== undefined && !isSame(log.state.seal, order.seal))
          throw new TfsError(
            'CONFLICT',
            `block ${held.block} is sealed here with another digest than elsewhere`,
          );
        return { kind: 'own', log: new OpsLog(context, log.place, log.state, opsOptions) };
      }
    }
    return {
      kind: 'received',
      received: await receiveOps(context, { server, isHeld: held !== undefined }, order, donors),
    };
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
      const slot = index?.slotAt(offset);
      return index === undefined ||
        slot === undefined ||
        slot >= index.count ||
        index.offsetOf(slot) !== offset
        ? undefined
        : boundaryBehind(index, slot);
    };
    const own = held === undefined ? undefined : await this.#openOwn(held, index);
    try {
      const built = await Rebuild.run(context, { path, superblock, seal, own: own?.file, behind }, donors);
      if (!built.foreign || own === undefined)
        return own?.isNamed === false ? { ...built, better: true } : built;
      context.log.error({ block: order.block }, 'a replica does not fit the others; it is copied as a whole');
      const nothing = { own: undefined, behind: () => undefined };
      const afresh = await Rebuild.run(context, { path, superblock, seal, ...nothing }, donors);
      if (afresh.whole || afresh.lost < built.lost) return afresh;
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
      if (index === undefined || index !== held.index) return undefined;
    }
    index.hold();
    return { file: index.file, isNamed: false, close: async () => index.release() };
  }

  /** @throws TfsError DISK_FULL when even an empty trash leaves too little */
  async #makeRoom({ length }: SealInfo): Promise<void> {
    const { context, trash } = this.#parts;
    context.assertWritable();
    // What deletions need stays free.
    const needed = length + OPS_RESERVE_BYTES;
    while ((await context.disk.space()).freeBytes < needed)
      if (!(await trash.release()))
        throw new TfsError(
          'DISK_FULL',
          `a repair needs ${needed} bytes of free space: make room on the disk`,
        );
  }
}

const isSame = (a: SealInfo, b: SealInfo): boolean =>
  a.length === b.length && a.slots === b.slots && a.digest.equals(b.digest);

const missingText = ({ block }: ReceiveOrder, { lost }: Rebuilt): string =>
  `${lost} records of block ${block} verify on no replica that answers`;
