import { balance } from './balance.ts';
import { compact } from './compact.ts';
import { purge } from './purge.ts';
import { replicate } from './replicate.ts';
import type { BlockRule, Rule, ServerRule } from './rule.ts';
import { scrub } from './scrub.ts';

/** What the planner looks for in the map. A new kind of work is a file beside these and a line here. */
export const RULES: readonly Rule[] = [purge, replicate, compact, balance];
/** What DataServers ask for. */
export const SERVER_RULES: readonly ServerRule[] = [scrub];
export const ALL_RULES: readonly BlockRule[] = [...RULES, ...SERVER_RULES];
