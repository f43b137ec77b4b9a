import type { ClusterMap } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { DigestCheck } from './digest-check.ts';
import type { Repairer } from './repair.ts';
import type { SealCoordinator } from './seal.ts';
import type { ShortCount } from './short-count.ts';
import type { Sweep } from './sweep.ts';

/** How the blocks of the cluster are, in figures. */
export function blockFigures(parts: {
  readonly map: BlockMap;
  readonly short: ShortCount;
  readonly sweep: Sweep;
  readonly sealer: SealCoordinator;
  readonly repairer: Repairer;
  readonly digests: DigestCheck;
}): ClusterMap['blocks'] {
  const { map, short, sweep, sealer, repairer, digests } = parts;
  const { byCopies, absent, stale, quarantined } = short.counts;
  const { ageMs } = short;
  return {
    ...map.counts,
    underReplicated: short.value,
    byCopies: ageMs === undefined ? [] : [...byCopies],
    absent,
    stale,
    quarantined,
    oldestUnsealedMs: Math.round(sweep.oldestUnsealedMs),
    contradicted: sealer.contradicted,
    lostRecords: repairer.lostRecords,
    disagreeing: digests.disagreeing,
    countedAgoMs: ageMs === undefined ? -1 : Math.round(ageMs),
  };
}
