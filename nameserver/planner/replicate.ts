import type { ServerId } from '../../common/ids.ts';
import { type BlockFacts, isEmpty, isGood, type ReplicaFacts } from '../block-facts.ts';
import { type BlockPage, INLINE_REPLICAS, idOf, SUSPECT_BIT, Whole } from '../block-page.ts';
import { Replica, stateOf } from '../replica-word.ts';
import { NOTHING, type Rule, type ServerTables } from './rule.ts';
import type { PlanSight, ServerSight } from './sight.ts';
import { chooseTarget } from './target.ts';
import { type BlockPlan, Priority } from './work.ts';

/**
 * Sealed blocks with fewer copies, in failure domains of their own, than are wanted.
 *
 * What counts as a copy: a replica, or a member that is to have one, on a server that is not given up. One that is
 * damaged or missing is made whole in its place by the repairer, one that is away comes back; neither needs another.
 *
 * Where records verify on no replica, none is good, and never will be: what is left of the block is copied from those that
 * are suspect, or the next disk that fails would take more of it.
 */
export const replicate: Rule = {
  kind: 'replicate',

  glance(page, row, tables) {
    // One without a record is retired, replica by replica.
    if ((page.state[row]! & ~SUSPECT_BIT) !== Whole.SEALED || page.isEmpty(row)) return 0;
    const { distinct, counted, good, suspect, receiving } = copiesIn(page, row, tables);
    if (distinct >= page.target(row) || receiving >= tables.receivingDomains) return 0;
    if (good === 0 && (suspect === 0 || !tables.isLossy(idOf(page.number, row)))) return 0;
    return priorityOf(good === 0 ? suspect : good, counted, page.target(row));
  },

  plan(facts, sight): BlockPlan {
    const { block, targetReplicas, replicas } = facts;
    if (facts.whole !== Whole.SEALED || isEmpty(facts)) return NOTHING;
    const counted = replicas.filter((replica) => isCounted(replica, sight)).map(({ server }) => server);
    const making = sight.making(block).filter((server) => !counted.includes(server));
    const taken = new Set([...counted, ...making].map((server) => domainOf(server, sight)));
    if (taken.size >= targetReplicas) return NOTHING;
    const there = replicas.filter((replica) => isThereNow(replica, sight));
    const good = there.filter((replica) => replica.good).length;
    const sources = good === 0 && sight.isLossy(block) ? there.length : good;
    const why = reasonOf(facts, { counted, distinct: taken.size, making, sight });
    const { kind } = replicate;
    if (sources === 0)
      return { work: [], blocked: [{ kind, why: `${why}; no copy that could be copied can be had now` }] };
    const holders = new Set([...replicas.map(({ server }) => server), ...making]);
    const target = chooseTarget({ block, bytes: facts.length, holders, taken, sight });
    if (typeof target === 'string') return { work: [], blocked: [{ kind, why: `${why}; ${target}` }] };
    const priority = priorityOf(sources, counted.length + making.length, targetReplicas);
    return { work: [{ kind, block, target, priority, reason: why, bytes: facts.length }], blocked: [] };
  },
};

function priorityOf(good: number, counted: number, wanted: number): number {
  if (good === 1 && wanted > 1) return Priority.ONE_COPY;
  return counted < wanted ? Priority.UNDER_REPLICATED : Priority.WRONG_DOMAIN;
}

interface Copies {
  /** Failure domains with a copy that counts. */
  distinct: number;
  /** Copies that count. */
  counted: number;
  /** Copies that can be had now and have everything that was acknowledged. */
  good: number;
  /** Copies that can be had now, and that lack records, or may. */
  suspect: number;
  /** Of the failure domains with a copy: in how many a server takes new ones. */
  receiving: number;
}

/** One for all: it lives only from one look to the next. */
const COPIES: Copies = { distinct: 0, counted: 0, good: 0, suspect: 0, receiving: 0 };
const SEEN = new Uint16Array(16);
const BAD = Replica.SUSPECT | Replica.QUARANTINED;

function copiesIn(page: BlockPage, row: number, tables: ServerTables): Copies {
  const { counts, isThere, canWrite, domain, receives } = tables;
  const count = page.shape[row]! & 15;
  let [distinct, counted, good, suspect, receiving] = [0, 0, 0, 0, 0];
  for (let i = 0; i < count; i++) {
    const word = i < INLINE_REPLICAS ? page.words[row * INLINE_REPLICAS + i]! : page.word(row, i);
    const server = word & 0xffff;
    if (isThere[server] === 1 && isGood(word)) good++;
    else if (isThere[server] === 1 && isSuspectOnly(word)) suspect++;
    if (counts[server] === 0 || (stateOf(word) === 0 && (word & Replica.MEMBER) === 0)) continue;
    if ((word & BAD) !== 0 && canWrite[server] === 0 && isThere[server] === 1) continue;
    counted++;
    const number = domain[server]!;
    let known = 0;
    while (known < distinct && SEEN[known] !== number) known++;
    if (known < distinct) continue;
    SEEN[distinct++] = number;
    if (receives[number] === 1) receiving++;
  }
  COPIES.distinct = distinct;
  COPIES.counted = counted;
  COPIES.good = good;
  COPIES.suspect = suspect;
  COPIES.receiving = receiving;
  return COPIES;
}

/** It would be good, but for what does not verify. */
const isSuspectOnly = (word: number): boolean =>
  (word & BAD) === Replica.SUSPECT && isGood(word & ~Replica.SUSPECT);

function isCounted({ server, state, member, good }: ReplicaFacts, sight: PlanSight): boolean {
  const seen = sight.servers.get(server);
  if (seen === undefined || seen.givenUp !== undefined || (state === 0 && !member)) return false;
  // Damaged on a disk that takes no writes: nobody can make it whole there.
  return good || seen.canWrite || !seen.isCurrent;
}

function isThereNow(
  { server, state, member, stale, confirmed, readable }: ReplicaFacts,
  sight: PlanSight,
): boolean {
  const isThere = sight.servers.get(server)?.isCurrent ?? false;
  return isThere && state !== 0 && member && readable && confirmed && !stale;
}

const whyNotCounted = (server: ServerSight | undefined): string =>
  server === undefined
    ? 'no part of the cluster any more'
    : (server.givenUp ?? 'damaged, on a disk that takes no writes');

const domainOf = (server: ServerId, { servers }: PlanSight): string =>
  servers.get(server)?.domain ?? `of server ${server}`;

function reasonOf(
  { replicas, targetReplicas }: BlockFacts,
  {
    counted,
    distinct,
    making,
    sight,
  }: {
    readonly counted: readonly ServerId[];
    readonly distinct: number;
    readonly making: readonly ServerId[];
    readonly sight: PlanSight;
  },
): string {
  const lost = replicas
    .filter(({ server }) => !counted.includes(server))
    .map(({ server }) => `server ${server}: ${whyNotCounted(sight.servers.get(server))}`);
  const copies = counted.length + making.length;
  const shared = copies > distinct ? `, ${copies} copies in all` : '';
  const because = lost.length > 0 ? ` (${lost.sort().join('; ')})` : '';
  return `copies in ${distinct} of ${targetReplicas} wanted failure domains${shared}${because}`;
}
