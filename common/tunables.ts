import { assert } from './errors.ts';
import * as limits from './limits.ts';

/**
 * Bounds of limits.ts that a test may make smaller, so that in a short run with few bytes what is rare becomes common: a
 * log that is folded, a page of a report that is not the last one, work that was given up and comes back. They are read
 * here, at the place of use; production never calls {@link tune}, so each has its value of limits.ts. What a class takes
 * as an option is not here, and neither is what a format fixes.
 */
const PRODUCTION = {
  /** Bytes of one write and of one piece of a copy: records queue up for the next batch, copies take several steps. */
  batchBytesMax: limits.BATCH_BYTES_MAX,
  /** Records of one batch. */
  batchRecordsMax: limits.BATCH_RECORDS_MAX,
  /** Bytes that a replica asks another one for at a time: what it lacks comes in several answers. */
  fetchBytes: limits.FETCH_BYTES,
  /** Bytes of one read of a walk: records lie across its windows. */
  walkBufferBytes: limits.WALK_BUFFER_BYTES,
  /** Bytes of payload that are read and verified whole: smaller pictures are read by chunk. */
  wholeReadBytesMax: limits.WHOLE_READ_BYTES_MAX,
  /** Bytes of one piece of a picture that a client reads: its pieces come from different replicas. */
  readPieceBytes: limits.READ_PIECE_BYTES,
  /** Bytes of one read of a scrub. */
  scrubPieceBytes: limits.SCRUB_PIECE_BYTES,
  /** Queued bytes from which on a session is not the first choice for the next record. */
  shortBacklogBytes: limits.SHORT_BACKLOG_BYTES,
  /** Bytes of uploads in flight on one DataServer: more are refused as an overload. */
  uploadBytesInFlightMax: limits.UPLOAD_BYTES_IN_FLIGHT_DATASERVER_MAX,

  /** Bytes of an ops log before it is folded into a new file. */
  opsLogBytesMax: limits.OPS_LOG_BYTES_MAX,
  /** Bytes that are kept for operations on a full disk. */
  opsReserveBytes: limits.OPS_RESERVE_BYTES,
  /** Operations whose id is remembered: a repeat that comes later is a new operation. */
  recentOpsMax: limits.RECENT_OPS_MAX,
  /** Operations that a member may be behind and still be sent only those. */
  opsTailOpsMax: limits.OPS_TAIL_OPS_MAX,
  /** Ops logs whose state stays in memory: others are read again. */
  opsLogsWarmMax: limits.OPS_LOGS_WARM_MAX,
  /** Blocks whose sequencing state is kept while nothing is ordered. */
  opsLanesKeptMax: limits.OPS_LANES_KEPT_MAX,
  /** Slots of one PURGE_INTENT: a purge is several operations. */
  purgeSlotsPerOpMax: limits.PURGE_SLOTS_PER_OP_MAX,
  /** Second names that are given out in one block: then the bytes are stored afresh. */
  aliasesPerBlockMax: limits.ALIASES_PER_BLOCK_MAX,
  /** Entries of the drop log that stay. */
  dropLogEntriesMax: limits.DROP_LOG_ENTRIES_MAX,

  /** Block counters reserved at a time. */
  counterReserve: limits.COUNTER_RESERVE,
  /** Block counters of one series that are given out: then another series is drawn. */
  countersPerSeries: limits.COUNTERS_PER_SERIES,
  /** What the map of a NameServer counts deleted bytes in: a block with fewer is not compacted. */
  deadUnitBytes: limits.DEAD_UNIT_BYTES,
  /** Blocks in one frame of a report. */
  reportEntriesPerFrameMax: limits.REPORT_ENTRIES_PER_FRAME_MAX,
  /** Blocks of one primary that wait for their seal: no more are opened for it. */
  unsettledBlocksPerServerMax: limits.UNSETTLED_BLOCKS_PER_SERVER_MAX,
  /** Seals under way at a time. */
  sealsRunningMax: limits.SEALS_RUNNING_MAX,
  /** Work in the planner's list. */
  wantedMax: limits.WANTED_MAX,
  /** Rows of the map in one step of the planner: a round takes several. */
  plannedRowsPerStepMax: limits.PLANNED_ROWS_PER_STEP_MAX,
  /** Blocks in one step of the planner. */
  plannedBlocksPerStepMax: limits.PLANNED_BLOCKS_PER_STEP_MAX,
  /** Jobs that wait in the queue of one DataServer. */
  queuedJobsPerServerMax: limits.QUEUED_JOBS_PER_SERVER_MAX,
  /** Of these, for urgent work. */
  queuedUrgentPlaces: limits.QUEUED_URGENT_PLACES,
  /** Blocks whose place a client keeps: others are asked for again. */
  locationCacheBlocksMax: limits.LOCATION_CACHE_BLOCKS_MAX,

  /** The age at which a primary ends a session by itself. */
  openBlockAgeMsMax: limits.OPEN_BLOCK_AGE_MS_MAX,
  /** Beyond that age the leader has the block sealed. */
  openBlockOverdueMs: limits.OPEN_BLOCK_OVERDUE_MS,
  /** How long a block may have fewer replicas than could be had. */
  smallBlockMs: limits.SMALL_BLOCK_MS,
  /** A block that was given out and that nobody reports is asked about after this. */
  openingMsMax: limits.OPENING_MS_MAX,
  /** A primary that was silent for this long has its OPEN blocks sealed. */
  primarySilentMsMax: limits.PRIMARY_SILENT_MS_MAX,
  /** A peer that failed a write is not chosen for this long, if it is not trusted again before. */
  suspectLinkMs: limits.SUSPECT_LINK_MS,
  /** A slow disk that has left its write sets leaves none again for this long. */
  slowDiskAgainMs: limits.SLOW_DISK_AGAIN_MS,
  /** The first time that no block is placed on a pair of servers whose sessions fail. */
  pairHoldMsMin: limits.PAIR_HOLD_MS_MIN,
  /** The longest such time. */
  pairHoldMsMax: limits.PAIR_HOLD_MS_MAX,
  /** Restarts within this explain failures only so often. */
  pairRestartsMs: limits.PAIR_RESTARTS_MS,
  /** One FENCE. */
  fenceMsMax: limits.FENCE_MS_MAX,
  /** One SEAL. */
  sealMsMax: limits.SEAL_MS_MAX,
  /** Between two tries of a seal, at most. */
  sealRetryMsMax: limits.SEAL_RETRY_MS_MAX,
  /** Replicas that contradict what was sealed are looked at again after this. */
  sealContradictedRetryMs: limits.SEAL_CONTRADICTED_RETRY_MS,
  /** Between two self promotions of one NameServer, at most. */
  selfPromoteMsMax: limits.SELF_PROMOTE_MS_MAX,
  /** Between two tries to attach a returned replica, at most. */
  attachRetryMsMax: limits.ATTACH_RETRY_MS_MAX,
  /** A whole table is asked for because it differs, at most this often. */
  driftReportMsMin: limits.DRIFT_REPORT_MS_MIN,

  /** One repair. */
  repairMsMax: limits.REPAIR_MS_MAX,
  /** Between two tries of a repair, at most. */
  repairRetryMsMax: limits.REPAIR_RETRY_MS_MAX,
  /** Records that nobody had are asked for again after this. */
  repairLostRetryMs: limits.REPAIR_LOST_RETRY_MS,
  /** A compaction that failed is tried again after this, doubled each time. */
  compactRetryMsMin: limits.COMPACT_RETRY_MS_MIN,
  /** At most after this. */
  compactRetryMsMax: limits.COMPACT_RETRY_MS_MAX,
  /** A block of which too little could be purged is asked about again after this. */
  compactAgainMs: limits.COMPACT_AGAIN_MS,
  /** Where its sequencer knows that it takes longer, after at most this. */
  compactAgainMsMax: limits.COMPACT_AGAIN_MS_MAX,
  /** One member makes its next generation. */
  prepareGenerationMsMax: limits.PREPARE_GENERATION_MS_MAX,
  /** All steps of a compaction, as the job that asked for it sees it. */
  compactMsMax: limits.COMPACT_MS_MAX,
  /** A next generation that nobody asked for is given up after this. */
  preparedMsMax: limits.PREPARED_MS_MAX,
  /** The file that a compaction has replaced is kept this long. */
  oldGenerationMs: limits.OLD_GENERATION_MS,

  /** A job is given up after this and the time of its bytes. */
  jobMsMin: limits.JOB_MS_MIN,
  /** The leader waits this much longer. */
  jobGrantSlackMs: limits.JOB_GRANT_SLACK_MS,
  /** The place of a job that is done is kept this long for the report of what it has made. */
  jobReportedMs: limits.JOB_REPORTED_MS,
  /** Work that failed too often is left alone for this long. */
  jobParkedMs: limits.JOB_PARKED_MS,
  /** A job that was queued and not taken is queued again after this. */
  queuedAgainMs: limits.QUEUED_AGAIN_MS,
  /** How often the leader fills the queues. */
  queueFillMs: limits.QUEUE_FILL_MS,
  /** Between two tries to let go of a replica, at most. */
  dropRetryMsMax: limits.DROP_RETRY_MS_MAX,

  /** What was replaced because it was damaged is kept this long. */
  trashMs: limits.TRASH_MS_DEFAULT,
  /** How often the trash is looked through. */
  trashPurgeMs: limits.TRASH_PURGE_MS,
  quarantinedAgainMs: limits.QUARANTINED_AGAIN_MS,
  /** After a start, until the first scrub. */
  scrubFirstMs: limits.SCRUB_FIRST_MS,
  /** Between two looks whether a pass is due. */
  scrubLookMs: limits.SCRUB_LOOK_MS,
  /** Between two looks at what is overdue. */
  overdueLookMs: limits.OVERDUE_LOOK_MS,
  /** A scrub that was ordered rests no longer than this. */
  scrubJobRestMsMax: limits.SCRUB_JOB_REST_MS_MAX,
  /** A block that was compared is not compared again before this. */
  digestCheckAgainMs: limits.DIGEST_CHECK_AGAIN_MS,
  /** One that disagrees is left alone no longer than this. */
  digestCheckAgainMsMax: limits.DIGEST_CHECK_AGAIN_MS_MAX,
};

/** Bytes where the name says so, milliseconds where it has `Ms`, else numbers of things. */
export type Tunables = { readonly [Name in keyof typeof PRODUCTION]: number };

const inUse: { -readonly [Name in keyof Tunables]: Tunables[Name] } = { ...PRODUCTION };

/** What holds now. Read it where it is used, not once for all. */
export const tunable: Tunables = inUse;

/**
 * For tests only: sets some of them, whatever else was set before stays. Not under a store, server or client that runs.
 *
 * @throws Error, as of a failed assertion, for what is not there, for what is not larger than 0, and for values that do not go
 *   together; then nothing has changed
 */
export function tune(values: Partial<Tunables>): void {
  for (const [name, value] of Object.entries(values)) {
    assert(Object.hasOwn(PRODUCTION, name), `there is a tunable ${name}`);
    assert(Number.isSafeInteger(value) && value > 0, `${name} is a whole number above 0`);
  }
  assertRelations({ ...inUse, ...values });
  Object.assign(inUse, values);
}

/** For tests only: all of them as in production. */
export function untune(): void {
  Object.assign(inUse, PRODUCTION);
}

function assertRelations(t: Tunables): void {
  assert(t.readPieceBytes % limits.CHUNK_BYTES === 0, 'pieces of a picture start on a checksum boundary');
  assert(t.wholeReadBytesMax >= limits.CHUNK_BYTES, 'what has one checksum is read whole');
  assert(t.walkBufferBytes >= 4096, 'a window of a walk holds the header of any record of 60 MiB');
  assert(t.scrubPieceBytes >= 4096, 'a piece of a scrub holds the header of any record of 30 MiB');
  assert(t.countersPerSeries <= limits.COUNTERS_PER_SERIES, 'a counter has 16 bits');
  assert(t.aliasesPerBlockMax <= limits.ALIASES_PER_BLOCK_MAX, 'the table of second names has room');
  assert(t.recentOpsMax <= limits.RECENT_OPS_MAX, 'a snapshot has room for the ids');
  assert(
    t.reportEntriesPerFrameMax <= limits.REPORT_ENTRIES_PER_FRAME_MAX,
    'a page of a report fits a frame',
  );
  assert(t.queuedUrgentPlaces < t.queuedJobsPerServerMax, 'a queue has places for work that can wait');
  assert(
    t.primarySilentMsMax > limits.SERVER_DOWN_AFTER_MS,
    'a primary counts as down before its blocks are taken from it',
  );
  assert(t.pairHoldMsMin <= t.pairHoldMsMax, 'a pair is held longer each time');
  assert(t.compactMsMax <= t.jobMsMin, 'a compaction ends before the job that asked for it is given up');
  assert(
    t.preparedMsMax > t.prepareGenerationMsMax,
    'what one member has made waits for the slowest of the others',
  );
  for (const [min, max] of [
    [t.compactRetryMsMin, t.compactRetryMsMax],
    [limits.SEAL_RETRY_MS_MIN, t.sealRetryMsMax],
    [limits.SELF_PROMOTE_MS, t.selfPromoteMsMax],
    [limits.ATTACH_RETRY_MS_MIN, t.attachRetryMsMax],
    [limits.REPAIR_RETRY_MS_MIN, t.repairRetryMsMax],
    [limits.DROP_RETRY_MS_MIN, t.dropRetryMsMax],
    [t.digestCheckAgainMs, t.digestCheckAgainMsMax],
  ] as const)
    assert(min <= max, 'what is tried again is tried later each time');
  assert(
    t.batchBytesMax <= t.uploadBytesInFlightMax,
    'what waits for a commit can fill a batch, also where it is one record',
  );
}

assertRelations(inUse);
