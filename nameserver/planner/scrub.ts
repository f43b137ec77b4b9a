import { BlockState } from '../../common/wire/messages.ts';
import type { ServerRule } from './rule.ts';
import { type Blocked, type BlockPlan, Priority, type Work } from './work.ts';

/**
 * Replicas that their DataServer should have read through long ago: it was away, or readers were always in the way. Each
 * DataServer reads all of its replicas at its own pace, whatever a queue says; this only hurries it where it is late.
 */
export const scrub: ServerRule = {
  kind: 'scrub',

  asked: ({ overdue }) => overdue.keys(),

  plan({ block, length: bytes, replicas }, sight): BlockPlan {
    const { kind } = scrub;
    const work: Work[] = [];
    const blocked: Blocked[] = [];
    for (const { server: target, state, good } of replicas) {
      const seen = sight.servers.get(target);
      const ageMs = seen?.overdue.get(block);
      // What is damaged is repaired, and read for that.
      if (ageMs === undefined || state !== BlockState.SEALED || !good) continue;
      const place = { kind, block, server: target };
      const reason = `not read through for ${spanOf(ageMs)}`;
      if (seen?.isCurrent !== true)
        blocked.push({ kind, why: `${reason} on server ${target}, which is not there now` });
      else if (sight.isParked(place))
        blocked.push({ kind, why: `${reason} on server ${target}; it failed there several times` });
      else if (!sight.isUnderWay(place))
        work.push({ kind, block, target, priority: Priority.SCRUB, reason, bytes });
    }
    return { work, blocked };
  },
};

const UNITS = [
  { ms: 24 * 3600 * 1000, name: 'days' },
  { ms: 3600 * 1000, name: 'hours' },
  { ms: 60_000, name: 'minutes' },
] as const;

function spanOf(ageMs: number): string {
  const { ms, name } = UNITS.find((unit) => ageMs >= 2 * unit.ms) ?? { ms: 1000, name: 'seconds' };
  return `${Math.floor(ageMs / ms)} ${name}`;
}
