import type { BlockId, ServerId } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import { tunable } from '../common/tunables.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockFacts } from './block-facts.ts';
import { Whole } from './block-page.ts';

/** Longer than a heartbeat takes: a state that only looks odd because reports cross is gone by then. */
export const ODD_MS_MIN = 1_500;
/** A primary that creates a block reports it within this. */
export const PRIMARY_ABSENT_MS_MAX = 10_000;

export interface Watched {
  readonly whole: Whole;
  /** Monotonic: in this state since. */
  readonly sinceMs: number;
  /** Monotonic: since when every replica that is wanted could be had, undefined while not. */
  readonly fullSinceMs: number | undefined;
  /** Monotonic: since when the primary has been silent, undefined while it is not. */
  readonly silentSinceMs: number | undefined;
}

export interface Sight {
  readonly nowMs: number;
  /** Whether the whole table of this server is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** Whether the server has said that it stops. */
  readonly isLeaving: (server: ServerId) => boolean;
  /** Whether a new block of this primary would get all its replicas. */
  readonly isFullSetPossible: (primary: ServerId) => boolean;
  /** Default that of tunables.ts. */
  readonly primarySilentMsMax?: number;
}

/**
 * Looks at one block that is not sealed everywhere. Pure, and driven by the state of things alone, so that no lost
 * message leaves a block behind for ever.
 *
 * @returns what to remember of it until the next look, and why it has to be sealed if it has
 */
export function look(
  facts: BlockFacts,
  before: Watched | undefined,
  sight: Sight,
): { readonly watched: Watched; readonly seal: string | undefined } {
  const { nowMs, isCurrent, isLeaving, isFullSetPossible } = sight;
  const { primarySilentMsMax = tunable.primarySilentMsMax } = sight;
  const sinceMs = before?.whole === facts.whole ? before.sinceMs : nowMs;
  const forMs = nowMs - sinceMs;
  const members = facts.replicas.filter((replica) => replica.member);
  const isSmall = facts.whole === Whole.OPEN && members.length < facts.targetReplicas;
  const canBeFull = isSmall && facts.opsPrimary !== undefined && isFullSetPossible(facts.opsPrimary);
  const fullSinceMs = canBeFull ? (before?.fullSinceMs ?? nowMs) : undefined;
  const { opsPrimary } = facts;
  const isSilent = facts.whole === Whole.OPEN && opsPrimary !== undefined && !isCurrent(opsPrimary);
  const silentSinceMs = isSilent ? (before?.silentSinceMs ?? nowMs) : undefined;
  const watched: Watched = { whole: facts.whole, sinceMs, fullSinceMs, silentSinceMs };
  return { watched, seal: reason() };

  function reason(): string | undefined {
    switch (facts.whole) {
      case Whole.SEALED:
        return undefined;
      case Whole.UNSEALED:
        return forMs >= ODD_MS_MIN && isThereToSeal() ? 'not all of its replicas are sealed' : undefined;
      case Whole.OPENING:
        return forMs >= tunable.openingMsMax && members.every(({ server }) => isCurrent(server))
          ? 'nobody reports it'
          : undefined;
      case Whole.OPEN:
        return reasonToEnd();
    }
  }

  /** Those who are away are sealed when they are back; until then there is nothing to do for the others. */
  function isThereToSeal(): boolean {
    const held = facts.replicas.filter(({ state }) => state !== 0);
    if (held.length === 0) return members.every(({ server }) => isCurrent(server));
    const present = held.filter(({ server, readable }) => readable && isCurrent(server));
    const lengths = new Set(present.flatMap(({ sealedAt }) => sealedAt ?? []));
    return lengths.size > 1 || present.some(({ state }) => state !== BlockState.SEALED);
  }

  /** Its write session is alive, for all that is known. */
  function reasonToEnd(): string | undefined {
    if (members.some(({ server }) => isLeaving(server))) return 'a member of it stops';
    const primary = members.find(({ server }) => server === opsPrimary);
    const isLeft = primary?.state !== BlockState.OPEN && primary && isCurrent(primary.server);
    if (isLeft && forMs >= PRIMARY_ABSENT_MS_MAX) return 'its primary does not have it';
    if (silentSinceMs !== undefined && nowMs - silentSinceMs >= primarySilentMsMax) {
      mark('sweep-primary-silent');
      return 'its primary is away';
    }
    // The damage is made good from the other members when it is sealed, and only then.
    if (facts.replicas.some(({ server, good, state }) => !good && state !== 0 && isCurrent(server)))
      return 'a replica of it is damaged';
    if (forMs >= tunable.openBlockAgeMsMax + tunable.openBlockOverdueMs)
      return 'it has been open for too long';
    if (fullSinceMs === undefined || nowMs - fullSinceMs < tunable.smallBlockMs) return undefined;
    mark('sweep-small-block');
    return 'it has fewer replicas than are possible now';
  }
}

export interface SweepDeps extends Omit<Sight, 'nowMs'> {
  readonly unsettled: ReadonlySet<BlockId>;
  readonly facts: (block: BlockId) => BlockFacts | undefined;
  readonly enqueue: (block: BlockId, why: string) => void;
  readonly isQueued: (block: BlockId) => boolean;
}

/** Looks at every unsettled block again and again. */
export class Sweep {
  #watched = new Map<BlockId, Watched>();
  #oldestUnsealedMs = 0;
  readonly #deps: SweepDeps;

  constructor(deps: SweepDeps) {
    this.#deps = deps;
  }

  /** How long the block that waits longest for its seal has waited, as of the last run; 0 when none does. */
  get oldestUnsealedMs(): number {
    return this.#oldestUnsealedMs;
  }

  run(nowMs: number): void {
    const { unsettled, facts, enqueue, isQueued } = this.#deps;
    const next = new Map<BlockId, Watched>();
    let oldestUnsealedMs = 0;
    for (const block of [...unsettled]) {
      const seen = facts(block);
      if (seen === undefined) continue;
      const { watched, seal } = look(seen, this.#watched.get(block), { ...this.#deps, nowMs });
      next.set(block, watched);
      if (watched.whole === Whole.UNSEALED)
        oldestUnsealedMs = Math.max(oldestUnsealedMs, nowMs - watched.sinceMs);
      if (seal !== undefined && !isQueued(block)) enqueue(block, seal);
    }
    this.#watched = next;
    this.#oldestUnsealedMs = oldestUnsealedMs;
  }
}
