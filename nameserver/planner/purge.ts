import { idOf } from '../block-page.ts';
import { planCompaction } from '../compaction-plan.ts';
import { compactionSight } from './compact.ts';
import { NOTHING, type Rule } from './rule.ts';
import { type BlockPlan, Priority } from './work.ts';

/**
 * Blocks with records whose erasure was ordered, and could not be done at once: which records the leader has noted, and
 * nobody else says. Before everything else, because a law wants them gone.
 */
export const purge: Rule = {
  kind: 'purge',

  glance: (page, row, { isErased }) => (isErased(idOf(page.number, row)) ? Priority.PURGE : 0),

  plan(facts, sight): BlockPlan {
    const { block, length: bytes } = facts;
    if (!sight.isErased(block)) return NOTHING;
    const { kind } = purge;
    const reason = 'a picture in it is to be erased';
    const blocked = (why: string): BlockPlan => ({ work: [], blocked: [{ kind, why: `${reason}; ${why}` }] });
    const plan = planCompaction(facts, compactionSight(sight));
    if (plan.kind === 'finish') return blocked('a compaction that was begun is finished first');
    if (plan.kind === 'refuse') return blocked(plan.why);
    const { opsPrimary: target } = plan;
    const place = { kind, block, server: target };
    if (sight.isParked(place)) return blocked(`it failed on server ${target} several times`);
    if (sight.isUnderWay(place) || sight.making(block).length > 0) return NOTHING;
    return { work: [{ kind, block, target, priority: Priority.PURGE, reason, bytes }], blocked: [] };
  },
};
