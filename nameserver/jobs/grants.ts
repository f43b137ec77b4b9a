import type { BlockId, Incarnation, ServerId } from '../../common/ids.ts';
import { TASKS } from '../../common/jobs.ts';
import type { Place } from '../planner/work.ts';

/** Work that a DataServer was told to do and may be doing. */
export interface Grant extends Place {
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
 * What is under way in this reign: of each task one on a replica, so that nobody makes one copy too many. A grant ends by
 * itself, later than the one who has it gives up.
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

  of({ kind, block, server }: Place): Grant | undefined {
    const grants = this.#byBlock.get(block);
    return grants?.find((grant) => grant.server === server && TASKS[grant.kind] === TASKS[kind]);
  }

  /** Servers that make a copy of the block. */
  makersOf(block: BlockId): readonly ServerId[] {
    const grants = this.#byBlock.get(block);
    if (grants === undefined) return NOBODY;
    return grants.filter(({ kind }) => TASKS[kind] === 'copy').map(({ server }) => server);
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
