import { TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { slotFlagsOf } from '../../common/format/ops.ts';
import { type BlockId, compareVersions, type Slot } from '../../common/ids.ts';
import {
  COMPACT_BYTES_PER_SECOND_MIN,
  PREPARED_GENERATIONS_MAX,
  SUPERBLOCK_BYTES,
} from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import { tunable } from '../../common/tunables.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { CompactionOrder, GenerationOrder, PreparedGeneration, SealInfo } from './api.ts';
import type { Block } from './block.ts';
import { inBlocks } from './context.ts';
import type { Donors } from './donor.ts';
import { type EnterParts, enterGeneration } from './enter-generation.ts';
import { GenerationWriter, type NextFile } from './generation-writer.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { makeRoom } from './make-room.ts';
import { OldGenerations } from './old-generations.ts';
import { Pace } from './pace.ts';
import type { Trash } from './trash.ts';

interface Prepared {
  readonly order: CompactionOrder;
  readonly file: NextFile;
  /** What the records were sealed as when it was made. */
  readonly seal: SealInfo;
  /** Monotonic. */
  readonly atMs: number;
}

/**
 * The compaction of blocks: a next file without the purged records is made beside the present one, and takes its place
 * when the leader says that every replica has made the same. Reads, and operations on names, go on all the time.
 *
 * What is prepared is known to this process alone. Whatever becomes of it, the present file is untouched until the next
 * one is committed, and a preparation that nobody commits is given up.
 */
export class Compactor {
  readonly #parts: EnterParts & { readonly trash: Trash };
  /** Which the last block was found to be allowed: a block alone is over before that is found. */
  #bytesPerSecond: number | undefined;
  readonly #prepared = new Map<BlockId, Prepared>();
  /** What is being prepared, and whether it is still wanted. */
  readonly #running = new Map<BlockId, { wanted: boolean }>();
  readonly #old: OldGenerations;

  constructor({ context, cache, trash }: Omit<EnterParts, 'old'> & { readonly trash: Trash }) {
    this.#old = new OldGenerations(context);
    this.#parts = { context, cache, trash, old: this.#old };
  }

  get old(): OldGenerations {
    return this.#old;
  }

  /** Of files beside those in use: next ones that are whole, and earlier ones that are kept for a while. */
  get bytes(): number {
    let bytes = this.#old.bytes;
    for (const { file } of this.#prepared.values()) bytes += file.length;
    return bytes;
  }

  /** Whether a next file of the block is whole, or being made. */
  isUnderWay(block: BlockId): boolean {
    return this.#prepared.has(block) || this.#running.has(block);
  }

  /** As `BlockStore.prepareCompaction`; one at a time for each block. */
  async prepare(
    held: Block,
    order: CompactionOrder,
    donors: Donors,
    isInTheWay: () => boolean,
  ): Promise<PreparedGeneration> {
    const { context, cache } = this.#parts;
    const { block, generation } = order;
    checkOrder(held, order);
    const known = this.#prepared.get(block);
    if (known !== undefined && isSame(known.order, order) && isStill(held, known.seal))
      return factsOf(known.file);
    if (this.#prepared.size + this.#running.size >= PREPARED_GENERATIONS_MAX)
      throw new TfsError('OVERLOADED', 'this DataServer has as many compactions under way as it takes', {
        retryAfterMs: 1000,
      });
    const run = { wanted: true };
    this.#running.set(block, run);
    const path = `${blockFileName(block, generation, 'blk')}.tmp`;
    try {
      await this.#discard(block);
      // That a record may go has to be durable here before it goes.
      await held.ops.append([]);
      const state = await held.ops.warm();
      checkOrder(held, order);
      const seal = held.seal!;
      const gone = state.slotFlags.map((_, slot) => slotFlagsOf(state, slot as Slot) & NameFlag.PURGED);
      const isLive = (slot: number): boolean => (gone[slot] ?? 0) === 0;
      const file = await cache.use(held, async (index) => {
        await makeRoom(this.#parts, liveBytes(index, isLive), 'a compaction');
        const assertWanted = (): void => {
          if (!run.wanted) throw new TfsError('CONFLICT', `the compaction of block ${block} was abandoned`);
        };
        const leastBytesPerSecond = COMPACT_BYTES_PER_SECOND_MIN;
        const firstBytesPerSecond = this.#bytesPerSecond;
        const yielding = { isInTheWay, leastBytesPerSecond, firstBytesPerSecond };
        const pace = new Pace(context.clock, order.bytesPerSecond, yielding);
        const target = { path, generation, isLive, pace, assertWanted };
        const made = await GenerationWriter.run(context, { block: held, index }, target, donors);
        this.#bytesPerSecond = pace.bytesPerSecond;
        assertWanted();
        return made;
      });
      if (!isStill(held, seal)) throw resealed(block);
      this.#prepared.set(block, { order, file, seal, atMs: context.clock.monotonic() });
      return factsOf(file);
    } catch (error) {
      await context.discard(inBlocks(path));
      throw error;
    } finally {
      this.#running.delete(block);
    }
  }

  /** As `BlockStore.commitGeneration`. */
  async commit(held: Block, order: GenerationOrder): Promise<void> {
    await held.exclusively(async () => {
      const { block } = held;
      const { seal } = held;
      if (held.generation === order.generation && seal !== undefined && isAgreed(seal, order)) return;
      const prepared = this.#prepared.get(block);
      const fits =
        prepared !== undefined &&
        prepared.order.generation === order.generation &&
        held.generation + 1 === order.generation &&
        isStill(held, prepared.seal) &&
        isAgreed(prepared.file, order);
      if (!fits) {
        mark('generation-refused');
        throw new TfsError(
          'CONFLICT',
          `block ${block}: nothing like generation ${order.generation} of ${order.length} bytes is prepared here`,
        );
      }
      this.#prepared.delete(block);
      try {
        await enterGeneration(this.#parts, held, prepared.file, order.epoch);
      } catch (error) {
        await this.#parts.context.discard(inBlocks(prepared.file.path));
        throw error;
      }
    });
  }

  /** Gives up what is prepared, or is being prepared; the block stays as it is. */
  async abandon(block: BlockId): Promise<void> {
    const running = this.#running.get(block);
    if (running !== undefined) running.wanted = false;
    await this.#discard(block);
  }

  async #discard(block: BlockId): Promise<void> {
    const prepared = this.#prepared.get(block);
    if (prepared === undefined) return;
    this.#prepared.delete(block);
    await this.#parts.context.discard(inBlocks(prepared.file.path));
  }

  /** Removes old files whose time has come, and gives up what nobody has committed. To be called now and then. */
  async sweep(): Promise<void> {
    const { clock } = this.#parts.context;
    for (const [block, { atMs }] of [...this.#prepared])
      if (clock.monotonic() - atMs >= tunable.preparedMsMax) await this.abandon(block);
    await this.#old.sweep();
  }
}

/** @throws TfsError CONFLICT when this replica is not what the order is for */
function checkOrder(held: Block, { generation, version, seq }: CompactionOrder): void {
  held.sound();
  const refuse = (why: string): TfsError =>
    new TfsError('CONFLICT', `block ${held.block} is not compacted: ${why}`, { retryAfterMs: 500 });
  if (held.state !== BlockState.SEALED || (held.flags & BlockFlag.QUARANTINED) !== 0)
    throw refuse('it waits for its seal');
  if (held.generation + 1 !== generation)
    throw refuse(`it is of generation ${held.generation}, and ${generation} is to be made`);
  if (compareVersions(held.version, version) !== 0 || held.prepared !== undefined)
    throw refuse('its configuration is another one');
  if (held.seq < seq) throw refuse(`it holds operations up to ${held.seq}, not ${seq}`);
  if (held.ops.damaged) throw refuse('its ops log is damaged');
}

function liveBytes(index: LoadedIndex, isLive: (slot: number) => boolean): number {
  let bytes = SUPERBLOCK_BYTES;
  for (let slot = 0; slot < index.count; slot++) if (isLive(slot)) bytes += index.spanOf(slot);
  return bytes;
}

const factsOf = ({ length, slots, digest }: NextFile): PreparedGeneration => ({ length, slots, digest });

const isAgreed = (a: PreparedGeneration, b: PreparedGeneration): boolean =>
  a.length === b.length && a.slots === b.slots && a.digest.equals(b.digest);

/** A later leader may have sealed the block anew, with more records or fewer than are in a file that was made before. */
const isStill = ({ state, seal }: Block, before: SealInfo): boolean =>
  state === BlockState.SEALED && seal !== undefined && isAgreed(seal, before);

const resealed = (block: BlockId): TfsError =>
  new TfsError('CONFLICT', `block ${block} was sealed anew while it was compacted`, { retryAfterMs: 500 });

const isSame = (a: CompactionOrder, b: CompactionOrder): boolean =>
  a.generation === b.generation && compareVersions(a.version, b.version) === 0 && a.seq === b.seq;
