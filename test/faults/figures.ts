import { allKilledFigure } from './figures/all-killed.ts';
import { dataServerDead } from './figures/dataserver-dead.ts';
import { diskLost } from './figures/disk-lost.ts';
import { fifthDisk } from './figures/fifth-disk.ts';
import { flips } from './figures/flips.ts';
import { halfDeleted } from './figures/half-deleted.ts';
import { compactionKills, replicationKills } from './figures/kill-sweeps.ts';
import { leaderKills } from './figures/leader-kills.ts';
import { leaderStopped } from './figures/leader-stopped.ts';
import { redisDownFigure } from './figures/redis-down.ts';
import { redisRepair } from './figures/redis-repair.ts';
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
  'fifth-disk': fifthDisk,
  'half-deleted': halfDeleted,
  'redis-repair': redisRepair,
  'disk-lost': diskLost,
  scrub,
  'compaction-kills': compactionKills,
  'replication-kills': replicationKills,
};
