import type { ServerId } from '../common/ids.ts';
import { FULLER_PERCENT_MIN } from '../common/limits.ts';
import type { Drop } from '../common/wire/control.ts';
import { BlockState } from '../common/wire/messages.ts';
import { type BlockFacts, isEmpty, type ReplicaFacts } from './block-facts.ts';
import { Whole } from './block-page.ts';

export interface DropSight {
  /**
   * Whether the server has promised this reign, and said all that it holds since it did. What it says of its replicas is
   * true then, and stays true: it obeys nobody else's order to drop one.
   */
  readonly isCurrent: (server: ServerId) => boolean;
  /** Whether its disk takes writes. */
  readonly canWrite: (server: ServerId) => boolean;
  /** Whether it is to be emptied: its copies do not count. */
  readonly isDrained: (server: ServerId) => boolean;
  /** What fails together. */
  readonly domainOf: (server: ServerId) => string;
  /** Per cent of its disk that are used. */
  readonly usedPercent: (server: ServerId) => number;
}

export type DropPlan =
  | { readonly kind: 'keep' }
  /** First the block goes on without this member. */
  | { readonly kind: 'leave-out'; readonly server: ServerId }
  | { readonly kind: 'drop'; readonly server: ServerId; readonly reason: Drop['reason'] }
  /** The block holds nothing and goes with all of its replicas; none for one of which there are none any more. */
  | { readonly kind: 'retire'; readonly servers: readonly ServerId[] };

/**
 * Which replica of a block, if any, nobody needs. Only a leader with a complete view asks.
 *
 * A replica goes only while as many others as are wanted are there: in the block's configuration, sealed and sound,
 * holding every operation, each in a domain of its own, on a server whose disk works and that obeys this leader and no other. Two leaders can so never both count on what the other drops: a server that
 * has promised the one refuses the other's order.
 */
export function planDrop(facts: BlockFacts, sight: DropSight): DropPlan {
  const { whole, replicas, targetReplicas, opsPrimary } = facts;
  if (whole !== Whole.SEALED || opsPrimary === undefined) return KEEP;
  if (isEmpty(facts)) return planRetirement(facts, sight);
  const victim = chooseVictim(facts, sight);
  if (victim === undefined) return KEEP;
  const { server, member } = victim;
  if (member) return { kind: 'leave-out', server };
  const others = replicas.filter((replica) => replica.member && replica.server !== server);
  // What only might be a member soon does not count yet.
  if (
    domainsOf(
      others.filter((replica) => isCopy(replica, sight)),
      sight,
    ) < targetReplicas
  )
    return KEEP;
  return { kind: 'drop', server, reason: sight.isDrained(server) ? 'moved' : 'excess' };
}

/**
 * The one that can best be done without: on a server that is to be emptied; that is no copy anyway; in a domain that
 * others are in too; on the fullest disk; that is not in the configuration, which saves changing it. On a disk that takes
 * no writes nothing is dropped, but a block can go on without what is there.
 */
function chooseVictim(facts: BlockFacts, sight: DropSight): ReplicaFacts | undefined {
  const held = facts.replicas.filter(
    ({ state, server }) => state === BlockState.SEALED && sight.isCurrent(server),
  );
  const kept = held.filter((replica) => isCopy(replica, sight) || isCopyToBe(replica, sight));
  const percents = held.map(({ server }) => sight.usedPercent(server));
  const emptiest = Math.min(...percents);
  // Small differences are not worth a change of the configuration.
  const excessPercent = (server: ServerId): number => {
    const excess = sight.usedPercent(server) - emptiest;
    return excess > FULLER_PERCENT_MIN ? excess : 0;
  };
  const crowd = (server: ServerId): number =>
    kept.filter((other) => sight.domainOf(other.server) === sight.domainOf(server)).length;
  const weightOf = (replica: ReplicaFacts): readonly number[] => [
    sight.isDrained(replica.server) ? 1 : 0,
    kept.includes(replica) ? 0 : 1,
    crowd(replica.server) > 1 ? 1 : 0,
    excessPercent(replica.server),
    replica.member ? 0 : 1,
    replica.server,
  ];
  return held
    .filter(({ server, member, readable }) => {
      if (!readable || (!member && !sight.canWrite(server))) return false;
      const others = kept.filter((other) => other.server !== server);
      return domainsOf(others, sight) >= facts.targetReplicas;
    })
    .map((replica) => ({ replica, weight: weightOf(replica) }))
    .sort((a, b) => compare(b.weight, a.weight))[0]?.replica;
}

/** Everything that was acknowledged is there, and stays there if nothing happens. */
const isCopy = (replica: ReplicaFacts, sight: DropSight): boolean =>
  replica.member && !replica.stale && !replica.behind && isSound(replica, sight);

/** It would be, were it in the configuration: that brings its operations up to date. */
const isCopyToBe = (replica: ReplicaFacts, sight: DropSight): boolean =>
  !replica.member && isSound(replica, sight);

const isSound = ({ server, state, good, outdated, confirmed }: ReplicaFacts, sight: DropSight): boolean =>
  state === BlockState.SEALED &&
  good &&
  !outdated &&
  confirmed &&
  sight.isCurrent(server) &&
  sight.canWrite(server) &&
  !sight.isDrained(server);

const domainsOf = (replicas: readonly ReplicaFacts[], { domainOf }: DropSight): number =>
  new Set(replicas.map(({ server }) => domainOf(server))).size;

/** A replica on a server that is away would bring the block back: all of them go, or none. */
function planRetirement({ replicas }: BlockFacts, { isCurrent, canWrite }: DropSight): DropPlan {
  if (!replicas.every(({ server, state }) => isCurrent(server) && (state === 0 || canWrite(server))))
    return KEEP;
  const held = replicas.filter(({ state }) => state !== 0);
  if (!held.every(({ good, confirmed }) => good && confirmed)) return KEEP;
  return { kind: 'retire', servers: held.map(({ server }) => server) };
}

const KEEP: DropPlan = { kind: 'keep' };

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}
