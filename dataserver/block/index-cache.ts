import { TfsError, toTfsError } from '../../common/errors.ts';
import { tunable } from '../../common/tunables.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { loadSealed } from './load.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { recovered } from './recover.ts';

/**
 * Keeps the indexes of sealed blocks, and their open files, within a budget. A hand goes round the loaded blocks and
 * drops one that was not read since it last passed: a read costs no bookkeeping but a flag.
 */
export class IndexCache {
  readonly #context: StoreContext;
  readonly #bytesMax: number;
  readonly #filesMax: number;
  /** Sealed blocks with an index, in the order the hand visits them. */
  #ring: Block[] = [];
  #hand = 0;
  #bytes = 0;
  readonly #sizes = new Map<Block, number>();
  /** Blocks whose ops are folded in memory although they are sealed. */
  #warm: Block[] = [];
  readonly #closing = new Set<Promise<void>>();

  constructor(context: StoreContext, budgets: { readonly indexBytes: number; readonly openFiles: number }) {
    this.#context = context;
    this.#bytesMax = budgets.indexBytes;
    this.#filesMax = Math.max(1, budgets.openFiles);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Loads the index if it is not in memory, and keeps it there until the work is done.
   *
   * @throws TfsError DONT_KNOW for a quarantined block; IO, CORRUPT
   */
  async use<T>(block: Block, work: (index: LoadedIndex) => Promise<T>): Promise<T> {
    block.users++;
    try {
      const index = block.index ?? (await this.#load(block));
      index.touched = true;
      index.hold();
      try {
        return await work(index);
      } finally {
        index.release();
      }
    } finally {
      if (--block.users === 0) this.trim();
    }
  }

  #load(block: Block): Promise<LoadedIndex> {
    if ((block.flags & BlockFlag.QUARANTINED) !== 0) {
      const why = `block ${block.block} is quarantined on this DataServer: its files cannot be trusted`;
      return Promise.reject(new TfsError('DONT_KNOW', why));
    }
    if (block.state !== BlockState.SEALED) return recovered(this.#context, block);
    block.loading ??= this.#loadSealed(block).finally(() => {
      block.loading = undefined;
    });
    return block.loading;
  }

  async #loadSealed(block: Block): Promise<LoadedIndex> {
    const index = await loadSealed(this.#context, block);
    this.put(block);
    this.warmed(block);
    return index;
  }

  /** A sealed block has an index now, or one of another size. */
  put(block: Block): void {
    const bytes = block.index!.bytes;
    const before = this.#sizes.get(block);
    if (before === undefined) this.#ring.push(block);
    this.#bytes += bytes - (before ?? 0);
    this.#sizes.set(block, bytes);
    this.trim(block);
  }

  /**
   * Another file has taken the place of the sealed block's: reads that have begun end on the old one, everyone else gets
   * the new index, at once.
   */
  replace(block: Block, index: LoadedIndex): void {
    const old = block.index;
    block.index = index;
    this.put(block);
    if (old === undefined) return;
    old.retire();
    this.#settle(this.#closed(old));
  }

  /** The block is not sealed any more: its file is closed when those who read it have done so. */
  forget(block: Block): void {
    const at = this.#ring.indexOf(block);
    if (at < 0) return;
    this.#ring.splice(at, 1);
    if (at < this.#hand) this.#hand--;
    block.index!.retire();
    this.#drop(block);
  }

  /** The ops state of a sealed block has come into memory. */
  warmed(block: Block): void {
    if (!this.#warm.includes(block)) this.#warm.push(block);
    for (let i = 0; this.#warm.length > tunable.opsLogsWarmMax && i < this.#warm.length; ) {
      const candidate = this.#warm[i]!;
      if (candidate === block || candidate.ops.touched || !candidate.ops.idle) {
        candidate.ops.touched = false;
        i++;
        continue;
      }
      this.#warm.splice(i, 1);
      this.#settle(candidate.ops.cool());
    }
  }

  /** Closes what is loaded, after the reads that are under way. */
  async close(): Promise<void> {
    for (const block of this.#ring) this.#drop(block);
    this.#ring = [];
    await Promise.all(this.#closing);
  }

  /** Drops what is beyond the budget and not in use; called again when some use has ended. */
  trim(keep?: Block): void {
    // Two rounds: the first takes the marks away, the second the blocks.
    let visits = 2 * this.#ring.length;
    while ((this.#bytes > this.#bytesMax || this.#ring.length > this.#filesMax) && visits-- > 0) {
      if (this.#hand >= this.#ring.length) this.#hand = 0;
      const block = this.#ring[this.#hand]!;
      const index = block.index!;
      const inUse = block.users > 0 || index.held;
      if (block === keep || index.touched || inUse || block.state !== BlockState.SEALED) {
        index.touched = false;
        this.#hand++;
        continue;
      }
      this.#ring.splice(this.#hand, 1);
      this.#drop(block);
    }
  }

  #drop(block: Block): void {
    const index = block.index!;
    block.index = undefined;
    this.#bytes -= this.#sizes.get(block) ?? 0;
    this.#sizes.delete(block);
    this.#settle(this.#closed(index));
  }

  async #closed(index: LoadedIndex): Promise<void> {
    await index.idle();
    // Waits for reads in flight.
    await index.file.close();
  }

  #settle(work: Promise<void>): void {
    const done: Promise<void> = work
      .catch((error: unknown) => {
        this.#context.log.warn({ err: toTfsError(error) }, 'cannot close a file');
      })
      .finally(() => this.#closing.delete(done));
    this.#closing.add(done);
  }
}
