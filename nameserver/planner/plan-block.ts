import type { BlockFacts } from '../block-facts.ts';
import type { BlockRule } from './rule.ts';
import { ALL_RULES } from './rules.ts';
import type { PlanSight } from './sight.ts';
import type { BlockPlan } from './work.ts';

/**
 * What one block needs, most urgent first: for the list of all work, for a worker that asks whether its job is still
 * wanted, and for a person who asks why.
 */
export function planBlock(
  facts: BlockFacts,
  sight: PlanSight,
  rules: readonly BlockRule[] = ALL_RULES,
): BlockPlan {
  const plans = rules.map((rule) => rule.plan(facts, sight));
  return {
    work: plans.flatMap(({ work }) => work).sort((a, b) => a.priority - b.priority),
    blocked: plans.flatMap(({ blocked }) => blocked),
  };
}
