import { TfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import { FORBIDDEN_CREATIONS_MAX } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';

/**
 * Blocks that are being made, and those that must not be. A leader that is told that a block is not here may seal and
 * retire what others have of it; were it made here afterwards, its primary would write to what is gone elsewhere.
 *
 * In memory alone: the orders that it is meant for are those of primaries and connections of this process.
 */
export class Creations {
  readonly #running = new Map<BlockId, Promise<void>>();
  readonly #forbidden = new Set<BlockId>();

  /** @throws TfsError CONFLICT for one that must not be made */
  async run(block: BlockId, make: () => Promise<void>): Promise<void> {
    if (this.#forbidden.has(block)) {
      mark('creation-refused');
      throw new TfsError('CONFLICT', `block ${block} was fenced before it was made here`);
    }
    const run = make();
    this.#running.set(block, run);
    try {
      await run;
    } finally {
      this.#running.delete(block);
    }
  }

  /** Resolves when none is under way, and none begins any more. */
  async forbid(block: BlockId): Promise<void> {
    this.#forbidden.delete(block);
    this.#forbidden.add(block);
    if (this.#forbidden.size > FORBIDDEN_CREATIONS_MAX) {
      const [oldest] = this.#forbidden;
      this.#forbidden.delete(oldest!);
    }
    const run = this.#running.get(block);
    if (run === undefined) return;
    mark('creation-awaited');
    await run.catch(() => undefined);
  }
}
