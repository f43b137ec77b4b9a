import type { ServerId } from '../../common/ids.ts';
import { BALANCE_PERCENT_MAX } from '../../common/limits.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { BlockFacts } from '../block-facts.ts';
import { type BlockPage, idOf, SUSPECT_BIT, Whole } from '../block-page.ts';
import { Replica, stateOf } from '../replica-word.ts';
import { NOTHING, type Rule, type ServerTables } from './rule.ts';
import type { PlanSight, ServerSight } from './sight.ts';
import { hash, unfit } from './target.ts';
import { type BlockPlan, Priority } from './work.ts';

/** Of so many times as many blocks as are too many some are moved: not every one of them can be. */
const CHOICE = 4;

/**
 * Sealed blocks that would better lie on emptier disks: of each disk that is fuller than the average some of
 * them. One is copied to the emptiest disk that may take it; the copy too many is then that on the fullest disk
 * of all that have it, and is let go of (see `drop-plan.ts`).
 *
 * It is the least urgent work, and each DataServer takes few jobs at a time, so a new disk fills slowly and gives its
 * uploads and reads no more trouble than any other job.
 */
export const balance: Rule = {
  kind: 'balance',

  glance(page, row, tables) {
    if ((page.state[row]! & ~SUSPECT_BIT) !== Whole.SEALED) return 0;
    const count = page.wordCount(row);
    if (count !== page.target(row)) return 0;
    const block = idOf(page.number, row);
    return isToMove(page, row, block, tables) ? Priority.BALANCE : 0;
  },

  plan(facts, sight): BlockPlan {
    const { block, targetReplicas, replicas } = facts;
    // What is short of copies, or of failure domains, or has a copy too many, is seen to first.
    if (facts.whole !== Whole.SEALED || replicas.length !== targetReplicas) return NOTHING;
    if (sight.making(block).length > 0 || !replicas.every((replica) => isSound(replica, sight)))
      return NOTHING;
    const domains = new Set(replicas.map(({ server }) => sight.servers.get(server)!.domain));
    if (domains.size < targetReplicas) return NOTHING;
    const surplus = surplusOf(sight.servers.values());
    const from = replicas
      .map(({ server }) => sight.servers.get(server)!)
      .filter(({ id }) => hash(block, id) <= (surplus.get(id) ?? 0))
      .sort((a, b) => b.usedPercent - a.usedPercent || a.id - b.id)[0];
    if (from === undefined) return NOTHING;
    const to = emptierThan(from, facts, sight);
    if (to === undefined) return NOTHING;
    const reason = `server ${from.id} is ${percent(from)} full and server ${to.id} ${percent(to)}`;
    const { kind } = balance;
    return {
      work: [{ kind, block, target: to.id, priority: Priority.BALANCE, reason, bytes: facts.length }],
      blocked: [],
    };
  },
};

/**
 * Which part of its blocks a disk may do without, by server: some times what lies above the average, where that is so far
 * above the emptiest disk that it is worth moving. Moving ends when the disks are even, not when these are moved.
 */
export function surplusOf(servers: Iterable<ServerSight>): Map<ServerId, number> {
  const counted = [...servers].filter(
    ({ givenUp, isCurrent, capacityBytes }) => givenUp === undefined && isCurrent && capacityBytes > 0,
  );
  const receiving = counted.filter(({ refuses }) => refuses === undefined);
  const emptiest = Math.min(...receiving.map(({ usedPercent }) => usedPercent));
  const capacity = counted.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0);
  const used = counted.reduce((sum, one) => sum + one.usedPercent * one.capacityBytes, 0);
  const average = used / capacity;
  const surplus = new Map<ServerId, number>();
  for (const { id, usedPercent } of counted)
    if (usedPercent > average && usedPercent - emptiest > BALANCE_PERCENT_MAX)
      surplus.set(id, Math.min(1, (CHOICE * (usedPercent - average)) / usedPercent));
  return surplus;
}

function isToMove(page: BlockPage, row: number, block: number, { surplus }: ServerTables): boolean {
  for (let i = 0; i < page.wordCount(row); i++) {
    const word = page.word(row, i);
    const part = surplus[word & 0xffff]!;
    if (part === 0 || stateOf(word) === 0 || (word & Replica.MEMBER) === 0) continue;
    if (hash(block, word & 0xffff) <= part) return true;
  }
  return false;
}

const isSound = (
  { server, member, state, good, stale, outdated }: BlockFacts['replicas'][number],
  { servers }: PlanSight,
): boolean => {
  const seen = servers.get(server);
  const isThere = seen?.isCurrent === true && seen.givenUp === undefined;
  return isThere && member && state === BlockState.SEALED && good && !stale && !outdated;
};

/** Afterwards the one must not be emptier than the other. */
function emptierThan(from: ServerSight, facts: BlockFacts, sight: PlanSight): ServerSight | undefined {
  const { block, length: bytes, replicas } = facts;
  const holders = new Set(replicas.map(({ server }) => server));
  const taken = new Set(
    replicas
      .filter(({ server }) => server !== from.id)
      .map(({ server }) => sight.servers.get(server)!.domain),
  );
  const ask = { block, bytes, holders, taken, sight };
  return [...sight.servers.values()]
    .filter((to) => {
      if (holders.has(to.id) || taken.has(to.domain) || unfit(to, ask) !== undefined) return false;
      const moved = (100 * bytes) / from.capacityBytes + (100 * bytes) / to.capacityBytes;
      return from.usedPercent - to.usedPercent > Math.max(BALANCE_PERCENT_MAX, moved);
    })
    .sort((a, b) => a.usedPercent - b.usedPercent || hash(block, a.id) - hash(block, b.id))[0];
}

const percent = ({ usedPercent }: ServerSight): string => `${Math.round(usedPercent)} %`;
