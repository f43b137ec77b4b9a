import type { BlockId, ServerId } from '../common/ids.ts';
import { BlockState } from '../common/wire/messages.ts';
import { type BlockFacts, isEmpty, type ReplicaFacts } from './block-facts.ts';

export interface RepairSight {
  /** Whether the server obeys, and its whole table is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** Whether its disk takes writes. */
  readonly canWrite: (server: ServerId) => boolean;
  /** Whether its disk has just failed to read a replica that waits for its seal, while others have theirs. */
  readonly isUnread?: (block: BlockId, server: ServerId) => boolean;
}

export interface RepairPlan {
  /** Has the bad replica, or should have one. */
  readonly target: ServerId;
  readonly isAbsent: boolean;
  /** The block was compacted, and this replica not with it. */
  readonly isOutdated: boolean;
  /** Best first: what is whole and up to date before what is suspect, which still has good records. */
  readonly sources: readonly ServerId[];
  /** Everyone who may have a record of this block is among them: what they lack is lost. */
  readonly isEveryone: boolean;
}

/**
 * Which replicas of a sealed block are to be made whole, each in its place, and from whom. A block that is sealed
 * nowhere is left to its seal, which makes good what is damaged before it; but a replica that cannot even be read for its
 * seal never gets there.
 */
export function planRepairs(facts: BlockFacts, sight: RepairSight): RepairPlan[] {
  const { block, replicas } = facts;
  const { isCurrent, canWrite, isUnread = () => false } = sight;
  const isUnsealable = ({ server, state }: ReplicaFacts): boolean =>
    state === BlockState.RECOVERED && isUnread(block, server);
  const sources = sourcesOf(facts, isCurrent).map(({ server }) => server);
  // A block without a record is retired, replica by replica: what is gone stays gone.
  const isLeaving = isEmpty(facts);
  return replicas
    .filter(({ state }) => state !== 0 || !isLeaving)
    .filter((replica) => isBad(replica) || isUnsealable(replica))
    .filter(({ server }) => isCurrent(server) && canWrite(server))
    .flatMap(({ server: target, state, outdated: isOutdated }) => {
      const others = sources.filter((server) => server !== target);
      // Damage beside the records, such as to its superblock, a replica can make good alone.
      const from = others.length > 0 ? others : sources;
      const isEveryone = replicas.every(({ server }) => server === target || others.includes(server));
      return from.length > 0
        ? [{ target, isAbsent: state === 0, isOutdated, sources: from, isEveryone }]
        : [];
    });
}

/** Replicas to copy from, best first. */
export const sourcesOf = (
  { replicas }: BlockFacts,
  isCurrent: (server: ServerId) => boolean,
): readonly ReplicaFacts[] =>
  replicas
    .filter(
      ({ server, state, readable, outdated }) =>
        state === BlockState.SEALED && readable && !outdated && isCurrent(server),
    )
    .sort((a, b) => rankOf(a) - rankOf(b));

/** A member that does not hold the block, what cannot be read, what is sealed and damaged, or of an earlier generation. */
function isBad({ member, state, readable, good, outdated }: ReplicaFacts): boolean {
  if (state === 0) return member;
  if (outdated) return state !== BlockState.OPEN;
  return !readable || (state === BlockState.SEALED && !good);
}

/** Whole before suspect before that: the newest configuration and operations, which an ops log can be taken from. */
export const rankOf = ({ good, stale, behind }: ReplicaFacts): number =>
  (good ? 0 : 4) + (stale ? 2 : 0) + (behind ? 1 : 0);
