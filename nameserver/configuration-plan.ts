import type { ServerId } from '../common/ids.ts';
import { REPLICAS_MAX } from '../common/limits.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockFacts, ReplicaFacts } from './block-facts.ts';
import { Whole } from './block-page.ts';

/** One DataServer as the planning of a block's configuration sees it. */
export interface MemberSight {
  /** It can be commanded now. */
  readonly reachable: boolean;
  /** What fails together. */
  readonly domain: string;
  /** It is to be emptied: what is there stays a member until others can take its place, and does not become one. */
  readonly drained: boolean;
  /** Its disk takes writes, as far as is known: with another no configuration can begin. */
  readonly writable: boolean;
  /** Left out, it could not believe for another moment that what it does not know does not exist. */
  readonly harmless: boolean;
}

export interface ConfigurationAsk {
  readonly facts: BlockFacts;
  /** Members that somebody could not reach. */
  readonly failed: ReadonlySet<ServerId>;
  readonly sight: (server: ServerId) => MemberSight;
  readonly minWrite: number;
  /** Failure domains of all servers that are not to be emptied, there or away; enough for every block when absent. */
  readonly domainsInAll?: number;
  /** No configuration of fewer members, where that is more than `minWrite`. */
  readonly membersMin?: number;
  /** Members that it is to have for a while, where that is more than the block wants: then also two in one domain. */
  readonly wanted?: number;
  /** Begin a version even with the same members. */
  readonly renew?: boolean;
}

export type ConfigurationPlan =
  /** The present one will do. */
  | { readonly kind: 'keep' }
  | { readonly kind: 'configure'; readonly members: readonly ServerId[]; readonly opsPrimary: ServerId }
  /** These have to learn first, or to be silent long enough, that they are not current. */
  | { readonly kind: 'wait'; readonly doubt: readonly ServerId[] }
  | { readonly kind: 'refuse'; readonly why: string };

/**
 * Who is to belong to a block's configuration: the members that hold the newest one and can be reached, and returned
 * replicas that are sealed like them, up to the wanted number, each in a domain of its own. Members only come from
 * replicas that exist; making new ones is another matter.
 *
 * Where the cluster has fewer domains than copies are wanted, nothing is dropped (drop-plan.ts), so what a server brings
 * back when another has taken its place would stay for ever without being of use: there all belong to the block. As soon
 * as there are enough domains, the copy in a new one joins, and those that share a domain go.
 *
 * A configuration that a server reported may be gone again: it was in the page cache alone, its sync had failed, and a power
 * failure took it. Where each of its members is there with an older one, nothing was acknowledged under it, because that
 * needs all of them, durably. They all go on in a newer one, which is made of all their logs: so also where one of them holds it
 * after all, and what it last said of itself was older than that.
 *
 * A member that has gone back is no proof of what was acknowledged, see {@link ReplicaFacts.goneBack}.
 *
 * A member is left out only when it is harmless: until then it might say "not found" about what the others acknowledge
 * without it.
 */
export function planConfiguration({
  facts,
  failed,
  sight,
  minWrite,
  domainsInAll = Number.POSITIVE_INFINITY,
  membersMin = 0,
  wanted = 0,
  renew = false,
}: ConfigurationAsk): ConfigurationPlan {
  const isUsable = ({ server, state }: ReplicaFacts) =>
    state !== 0 && sight(server).reachable && sight(server).writable && !failed.has(server);
  const members = facts.replicas.filter((replica) => replica.member);
  const current = members.filter((replica) => !replica.stale && isUsable(replica));
  const isHeard = ({ goneBack, confirmed }: ReplicaFacts) => !goneBack || confirmed;
  // Every member is there, and none has all of the newest: what none of them has was never in force, as above, or nobody
  // can give it back.
  const isNone = members.every((one) => one.stale && isHeard(one) && isUsable(one) && isWhole(facts, one));
  // What one that has gone back lacks may have been acknowledged. A member that has not gone back has it, so both may go on
  // together; where all have, all of them have to be there, or gone for good.
  const goneBack = members.filter((one) => one.goneBack && one.confirmed && isUsable(one));
  const areAll = members.every((one) => goneBack.includes(one) || (one.state === 0 && one.lost));
  const kept = isNone
    ? members
    : members.filter(
        (one) => current.includes(one) || ((current.length > 0 || areAll) && goneBack.includes(one)),
      );
  const domains = new Set(kept.map(({ server }) => sight(server).domain));
  const chosen = kept.map(({ server }) => server);
  // Nobody is left who holds the newest configuration: what the others hold may be missing something acknowledged.
  if (kept.length === 0)
    return {
      kind: 'refuse',
      why: `no member of block ${facts.block} that holds its newest configuration answers and takes writes`,
    };
  const { targetReplicas } = facts;
  const isNarrow = domainsInAll < targetReplicas;
  for (const replica of facts.replicas) {
    const { server } = replica;
    const isReturned = !kept.includes(replica) && (replica.stale || !replica.member);
    const { domain, drained } = sight(server);
    // Those that share a domain are one copy of those that are wanted.
    const isEnough = wanted > targetReplicas ? chosen.length >= wanted : domains.size >= targetReplicas;
    // Unless operations would have to wait without it.
    if (drained ? chosen.length >= minWrite : isEnough || chosen.length >= REPLICAS_MAX) continue;
    const isInItsWay = domains.has(domain) && wanted <= targetReplicas && !isNarrow;
    if (!isReturned || !isWhole(facts, replica) || !isUsable(replica) || isInItsWay) continue;
    domains.add(domain);
    chosen.push(server);
  }
  if (chosen.length < minWrite)
    return {
      kind: 'refuse',
      why: `${chosen.length} members of block ${facts.block} answer and take writes, and operations need ${minWrite} (cluster.minWrite)`,
    };
  if (chosen.length < membersMin)
    return {
      kind: 'refuse',
      why: `block ${facts.block} would have ${chosen.length} members instead of ${membersMin}`,
    };
  const opsPrimary = kept.some(({ server }) => server === facts.opsPrimary) ? facts.opsPrimary! : chosen[0]!;
  const isSame =
    members.length === chosen.length &&
    members.every(({ server, stale }) => !stale && chosen.includes(server)) &&
    opsPrimary === facts.opsPrimary;
  if (isSame && !renew) return { kind: 'keep' };
  const doubt = members.map(({ server }) => server).filter((server) => !chosen.includes(server));
  if (doubt.some((server) => !sight(server).harmless)) return { kind: 'wait', doubt };
  return { kind: 'configure', members: chosen, opsPrimary };
}

/**
 * Only operations are brought together here; its records must be those of the others already. Where no replica is good,
 * because records verify on none, a suspect one may belong to the block like the others.
 */
const isWhole = (facts: BlockFacts, { state, good, readable, outdated }: ReplicaFacts): boolean =>
  (good || (readable && facts.replicas.every((other) => other.state === 0 || !other.good))) &&
  !outdated &&
  state === BlockState.SEALED &&
  facts.whole === Whole.SEALED;
