import { tunable } from '../../common/tunables.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { isGood } from '../block-facts.ts';
import { type BlockPage, idOf, SUSPECT_BIT, Whole } from '../block-page.ts';
import { type CompactionSight, planCompaction } from '../compaction-plan.ts';
import { isGarbageRich } from '../garbage-scan.ts';
import { Replica, stateOf } from '../replica-word.ts';
import { NOTHING, type Rule, type ServerTables } from './rule.ts';
import type { PlanSight } from './sight.ts';
import { type BlockPlan, Priority } from './work.ts';

/**
 * Sealed blocks of which so much was deleted that it is worth rewriting them. The work is the sequencer's, because it
 * knows what may go already; it asks the leader to have the steps done, who commands them directly (see `compaction.ts`).
 *
 * A compaction that some replica has committed is none of this: it is finished without a queue.
 */
export const compact: Rule = {
  kind: 'compact',

  glance(page, row, tables) {
    const dead = page.dead[row]!;
    if (dead === 0 || (page.state[row]! & ~SUSPECT_BIT) !== Whole.SEALED) return 0;
    const length = page.length[row]!;
    const deadBytes = dead * tunable.deadUnitBytes;
    if (!isGarbageRich(deadBytes, length, tables.garbagePercent)) return 0;
    const block = idOf(page.number, row);
    if (!canTakePart(page, row, tables) || tables.isLeftAlone(block) || tables.isErased(block)) return 0;
    return priorityOf(deadBytes, length);
  },

  plan(facts, sight): BlockPlan {
    const { block, length, deadBytes } = facts;
    if (facts.whole !== Whole.SEALED || !isGarbageRich(deadBytes, length, sight.garbagePercent))
      return NOTHING;
    // Which takes the garbage with it, whatever may go yet.
    if (sight.isErased(block)) return NOTHING;
    const { kind } = compact;
    const share = `${Math.floor((100 * deadBytes) / length)} % of it is deleted`;
    const blocked = (why: string): BlockPlan => ({
      work: [],
      blocked: [{ kind, why: `${share}; ${why}` }],
    });
    const plan = planCompaction(facts, compactionSight(sight));
    if (plan.kind === 'finish') return NOTHING;
    if (plan.kind === 'refuse') return blocked(plan.why);
    const { opsPrimary: target } = plan;
    const place = { kind, block, server: target };
    if (sight.isLeftAlone(block))
      return blocked('too little of that may go yet: it is looked at again later');
    if (sight.isParked(place)) return blocked(`it failed on server ${target} several times`);
    if (sight.isUnderWay(place) || sight.making(block).length > 0) return NOTHING;
    const priority = priorityOf(deadBytes, length);
    return { work: [{ kind, block, target, priority, reason: share, bytes: length }], blocked: [] };
  },
};

/** Of a hundred, by tens. */
const priorityOf = (deadBytes: number, length: number): number =>
  Priority.COMPACT + 9 - Math.min(9, Math.floor((10 * deadBytes) / length));

/** Nearly as {@link planCompaction} says: what is only wanted, and cannot be, is not to be counted all the time. */
function canTakePart(page: BlockPage, row: number, { isThere, canWrite }: ServerTables): boolean {
  let members = 0;
  for (let i = 0; i < page.wordCount(row); i++) {
    const word = page.word(row, i);
    if ((word & Replica.MEMBER) === 0) continue;
    const server = word & 0xffff;
    if (isThere[server] === 0 || canWrite[server] === 0 || stateOf(word) !== BlockState.SEALED) return false;
    if (!isGood(word) || (word & (Replica.BEHIND | Replica.OUTDATED)) !== 0) return false;
    members++;
  }
  return members >= page.target(row);
}

/** What the planner sees, as a compaction asks. */
export const compactionSight = ({ servers, isViewComplete }: PlanSight): CompactionSight => ({
  isViewComplete: () => isViewComplete,
  isCurrent: (server) => servers.get(server)?.isCurrent ?? false,
  canWrite: (server) => servers.get(server)?.canWrite ?? false,
});
