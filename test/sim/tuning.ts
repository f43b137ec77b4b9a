import { OPEN_BLOCK_AGE_MS_MAX, OPEN_BLOCK_OVERDUE_MS } from '../../common/limits.ts';
import type { Tunables } from '../../common/tunables.ts';
import type { SeededRandom } from '../kit/seeded-random.ts';

/** What takes minutes or hours takes seconds in a cluster that lives for two minutes. */
const SHORT: Partial<Tunables> = {
  smallBlockMs: 8_000,
  openingMsMax: 10_000,
  primarySilentMsMax: 8_000,
  suspectLinkMs: 10_000,
  slowDiskAgainMs: 10_000,
  pairHoldMsMin: 6_000,
  pairHoldMsMax: 15_000,
  pairRestartsMs: 30_000,
  sealRetryMsMax: 5_000,
  sealContradictedRetryMs: 10_000,
  selfPromoteMsMax: 10_000,
  attachRetryMsMax: 5_000,
  driftReportMsMin: 5_000,
  repairMsMax: 30_000,
  repairRetryMsMax: 5_000,
  repairLostRetryMs: 10_000,
  compactRetryMsMin: 1_000,
  compactRetryMsMax: 10_000,
  compactAgainMs: 5_000,
  compactAgainMsMax: 10_000,
  prepareGenerationMsMax: 20_000,
  compactMsMax: 40_000,
  preparedMsMax: 30_000,
  oldGenerationMs: 3_000,
  jobMsMin: 40_000,
  jobGrantSlackMs: 2_000,
  jobReportedMs: 6_000,
  jobParkedMs: 15_000,
  queuedAgainMs: 10_000,
  dropRetryMsMax: 5_000,
  trashMs: 20_000,
  trashPurgeMs: 5_000,
  quarantinedAgainMs: 10_000,
  scrubFirstMs: 5_000,
  scrubLookMs: 5_000,
  overdueLookMs: 5_000,
  digestCheckAgainMs: 10_000,
  digestCheckAgainMsMax: 20_000,
  deadUnitBytes: 100,
  // Of it the whole is allocated at once.
  locationCacheBlocksMax: 256,
};

/** Bounds that are met in hours, or never, on the machines of today; each is small in some of the seeds. */
const RARE: readonly (readonly [Partial<Tunables>, ...Partial<Tunables>[]])[] = [
  [{ batchBytesMax: 4096 }, { batchBytesMax: 16_384 }],
  [{ batchRecordsMax: 1 }, { batchRecordsMax: 3 }],
  [{ fetchBytes: 4096 }, { fetchBytes: 16_384 }],
  // No smaller: a walk would be nothing but reads.
  [{ walkBufferBytes: 16_384 }],
  [{ scrubPieceBytes: 16_384 }],
  [{ shortBacklogBytes: 1000 }],
  [{ opsLogBytesMax: 1000 }, { opsLogBytesMax: 4000 }],
  [{ recentOpsMax: 4 }, { recentOpsMax: 32 }],
  [{ opsTailOpsMax: 1 }, { opsTailOpsMax: 8 }],
  [{ opsLogsWarmMax: 1 }, { opsLogsWarmMax: 4 }],
  [{ opsLanesKeptMax: 1 }],
  [{ purgeSlotsPerOpMax: 1 }, { purgeSlotsPerOpMax: 5 }],
  [{ aliasesPerBlockMax: 2 }],
  [{ counterReserve: 1 }, { counterReserve: 4 }],
  [{ countersPerSeries: 8 }, { countersPerSeries: 40 }],
  [{ reportEntriesPerFrameMax: 2 }],
  [{ unsettledBlocksPerServerMax: 6 }],
  [{ sealsRunningMax: 1 }],
  // No smaller: it is how many jobs there can be in two seconds, and a server that is replaced lacks a hundred blocks.
  [{ wantedMax: 8 }],
  [{ plannedRowsPerStepMax: 65_536, plannedBlocksPerStepMax: 4 }],
  [{ queuedJobsPerServerMax: 2, queuedUrgentPlaces: 1 }],
  [{ locationCacheBlocksMax: 2 }],
  [{ openBlockAgeMsMax: 10_000, openBlockOverdueMs: 3_000 }],
];
const RARE_SHARE = 0.2;

/**
 * What lasts as long as in production again when all faults are over: where every block is sealed after some seconds, servers
 * open and let go of empty blocks all the time, and are never all at rest in one moment.
 */
export const AT_REST: Partial<Tunables> = {
  openBlockAgeMsMax: OPEN_BLOCK_AGE_MS_MAX,
  openBlockOverdueMs: OPEN_BLOCK_OVERDUE_MS,
};

/** Draws the bounds of a seed. */
export function drawTunables(random: SeededRandom): Partial<Tunables> {
  let drawn = SHORT;
  for (const choices of RARE) {
    const choice = random.pick(choices);
    if (random.float() < RARE_SHARE) drawn = { ...drawn, ...choice };
  }
  return drawn;
}
