import { allKilledFigure } from './figures/all-killed.ts';
import { dataServerDead } from './figures/dataserver-dead.ts';
import { flips } from './figures/flips.ts';
import { leaderKills } from './figures/leader-kills.ts';
import { leaderStopped } from './figures/leader-stopped.ts';
import { redisDownFigure } from './figures/redis-down.ts';
import type { Figure } from './figures/report.ts';
import { scrub } from './figures/scrub.ts';

/** What docs/reliability.md is filled with, by name. */
export const FIGURES: Readonly<Record<string, Figure>> = {
  'leader-kills': leaderKills,
  'leader-stopped': leaderStopped,
  'redis-down': redisDownFigure,
  'ds-dead': dataServerDead,
  'all-killed': allKilledFigure,
  flips,
  scrub,
};
