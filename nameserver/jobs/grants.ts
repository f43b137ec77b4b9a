import type { BlockId, Incarnation, ServerId } from '../../common/ids.ts';
import type { JobKind } from '../../common/jobs.ts';

/** Work that a DataServer was told to do and may be doing. */
export interface Grant {
  readonly kind: JobKind;
  readonly block: BlockId;
  readonly server: ServerId;
  readonly incarnation: Incarnation;
  readonly reason: string;
  readonly priority: number;
  readonly bytes: number;
  /** Monotonic. */
  readonly sinceMs: number;
  /** Monotonic: by then it is over, or was given up there. */
  untilMs: number;
  /** It has ended well, and the map does not show it yet. */
  isDone: boolean;
}

const NOBODY: readonly ServerId[] = [];

/**
 * What is under way in this reign. A block's replica is made by one DataServer at a time, so that nobody makes one copy
 * too many; and a grant ends by itself, later than the one who has it gives up.
 */
export class Grants {
  readonly #byBlock = new Map<BlockId, Grant[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  *all(): Generator<Grant> {
    for (const grants of this.#byBlock.values()) yield* grants;
  }

  of(block: BlockId, server: ServerId): Grant | undefined {
    return this.#byBlock.get(block)?.find((grant) => grant.server === server);
  }

  /** Servers at work on the block. */
  serversOf(block: BlockId): readonly ServerId[] {
    return this.#byBlock.get(block)?.map(({ server }) => server) ?? NOBODY;
  }

  add(grant: Grant): void {
    const grants = this.#byBlock.get(grant.block);
    if (grants === undefined) this.#byBlock.set(grant.block, [grant]);
    else grants.push(grant);
    this.#size++;
  }

  /** @returns whether it was there */
  end(grant: Grant): boolean {
    const grants = this.#byBlock.get(grant.block);
    const i = grants?.indexOf(grant) ?? -1;
    if (grants === undefined || i < 0) return false;
    grants.splice(i, 1);
    if (grants.length === 0) this.#byBlock.delete(grant.block);
    this.#size--;
    return true;
  }

  clear(): void {
    this.#byBlock.clear();
    this.#size = 0;
  }
}
