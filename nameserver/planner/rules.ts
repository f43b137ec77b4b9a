import { balance } from './balance.ts';
import { replicate } from './replicate.ts';
import type { Rule } from './rule.ts';

/** All that the planner looks for. A new kind of work is a file beside these and a line here. */
export const RULES: readonly Rule[] = [replicate, balance];
