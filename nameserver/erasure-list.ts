import type { BlockId } from '../common/ids.ts';
import { NOTED_ERASURES_SLOTS_MAX } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { ErasedSlot } from '../common/wire/erase.ts';

interface Noted {
  readonly slots: readonly ErasedSlot[];
  attempts: number;
  dueAtMs: number;
}

/**
 * Records whose erasure was ordered and could not be done yet, so that it is done as soon as it can be, though nobody
 * asks again. In memory alone: whoever ordered it is told that it is not done, and orders it again.
 */
export class ErasureList {
  readonly #clock: Clock;
  readonly #noted = new Map<BlockId, Noted>();
  #slots = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#noted.size;
  }

  has(block: BlockId): boolean {
    return this.#noted.has(block);
  }

  of(block: BlockId): readonly ErasedSlot[] | undefined {
    return this.#noted.get(block)?.slots;
  }

  /**
   * What was agreed to last counts. Where there is no room nothing more is noted, and whoever asked asks again.
   *
   * @returns all that is to go from the block, noted or not
   */
  note(block: BlockId, slots: readonly ErasedSlot[]): readonly ErasedSlot[] {
    const before = this.of(block) ?? [];
    const all = [...new Map([...before, ...slots].map((one) => [one.slot, one])).values()];
    if (this.#slots - before.length + all.length > NOTED_ERASURES_SLOTS_MAX) return all;
    this.end(block);
    this.#slots += all.length;
    this.#noted.set(block, { slots: all, attempts: 0, dueAtMs: this.#clock.monotonic() });
    return all;
  }

  /** It is done, or is not to be done. */
  end(block: BlockId): void {
    this.#slots -= this.of(block)?.length ?? 0;
    this.#noted.delete(block);
  }

  /** It could not be done: it is tried again later. */
  failed(block: BlockId): void {
    const noted = this.#noted.get(block);
    if (noted === undefined) return;
    const retryMs = tunable.compactRetryMsMin * 2 ** Math.min(noted.attempts++, 16);
    noted.dueAtMs = this.#clock.monotonic() + Math.min(tunable.compactRetryMsMax, retryMs);
  }

  /** The first that may be tried now, with what is to go. */
  get due(): readonly [BlockId, readonly ErasedSlot[]] | undefined {
    const now = this.#clock.monotonic();
    for (const [block, { slots, dueAtMs }] of this.#noted) if (dueAtMs <= now) return [block, slots];
    return undefined;
  }
}
