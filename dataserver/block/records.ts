import type { BlockId, Cookie, Slot } from '../../common/ids.ts';
import type { RecordRef } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { readCookies } from './cookies.ts';
import type { IndexCache } from './index-cache.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { mayHoldContent, recordRefs, sha1sOf, slotsWith } from './record-refs.ts';

export interface RecordsParts {
  readonly context: StoreContext;
  readonly cache: IndexCache;
  /** @throws TfsError DONT_KNOW, CLOSED */
  readonly held: (block: BlockId) => Block;
}

/**
 * What the blocks of a store have records of, for those who look for records and not for pictures. An unknown block is
 * DONT_KNOW, and one that does not read at all IO, from every method.
 */
export class Records {
  readonly #parts: RecordsParts;

  constructor(parts: RecordsParts) {
    this.#parts = parts;
  }

  /**
   * What the SHA-1 index of the disk is rebuilt from: every record of a block, in slot order, without payloads. Where the
   * disk did not take again what a killed process had left, its last records may be in the kernel's memory alone, and gone
   * with the next start: an entry must not lead to those that nobody knows to be anywhere.
   */
  async *refs(block: BlockId): AsyncGenerator<RecordRef> {
    const held = this.#parts.held(block);
    const { index, sha1s } = await this.#withSha1s(held);
    const isDurable = held.tail?.durable ?? true;
    yield* recordRefs(index, sha1s, isDurable ? index.length : held.provenLength);
  }

  /**
   * Slots of which the block's file holds a record with that SHA-1, whatever became of its names.
   *
   * @param sha1 20 bytes
   */
  async slotsWith(block: BlockId, sha1: Buffer): Promise<Slot[]> {
    const held = this.#parts.held(block);
    const wasLoaded = held.index !== undefined;
    // Most blocks have nothing of it: that is seen without loading them.
    if (!wasLoaded && !(await mayHoldContent(this.#parts.context, held, sha1))) return [];
    const { index, sha1s } = await this.#withSha1s(held);
    const slots = slotsWith(index, sha1s, sha1);
    if (!wasLoaded) held.untouch();
    return slots;
  }

  /**
   * Of names whose cookie stands in their records alone, whatever their state; absent where there is no record, or where it
   * does not read here.
   */
  async cookiesOf(block: BlockId, slots: readonly Slot[]): Promise<ReadonlyMap<Slot, Cookie>> {
    const held = this.#parts.held(block);
    const wasLoaded = held.index !== undefined;
    const cookies = await this.#parts.cache.use(held, (index) => readCookies(index, slots));
    if (!wasLoaded) held.untouch();
    return cookies;
  }

  /** Whether the block's file holds the bytes of one of these slots. */
  async holdsAny(block: BlockId, slots: readonly Slot[]): Promise<boolean> {
    return this.#parts.cache.use(this.#parts.held(block), async (index) =>
      slots.some((slot) => slot < index.count && !index.isLeftOut(slot)),
    );
  }

  /** Both of one file: while the second is read, a compaction may put another one in its place. */
  async #withSha1s(held: Block): Promise<{ readonly index: LoadedIndex; readonly sha1s: Buffer }> {
    const { cache, context } = this.#parts;
    for (;;) {
      const found = await cache.use(held, async (index) => {
        const sha1s = await sha1sOf(context, held, index);
        return { index, sha1s };
      });
      if (!found.index.retired) return found;
    }
  }
}
