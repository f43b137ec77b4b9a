import { PLANTED_BUG_NAMES, type PlantedBugName } from '../kit/planted-bugs.ts';
import { type InvariantName, Violation } from './observed.ts';
import type { FaultKind, PlanOptions, Shape } from './plan.ts';

const POWER: readonly FaultKind[] = ['cluster-power', 'host-power', 'kill-at-step'];
const TWO_LEADERS: readonly FaultKind[] = [
  'isolate-nameserver',
  'pause-nameserver',
  'lock-granted-twice',
  'kill-dataserver',
  'partition',
];

/** Small and busy: most bugs show in what a few servers do within half a minute. */
const SMALL: Shape = {
  servers: 4,
  clients: 3,
  replicas: 3,
  blockBytes: 64 * 1024,
  spanMs: 25_000,
  faultEveryMs: 1_500,
};

/**
 * One copy besides that of the disk that lies, in a cluster that soon gives up a server that is away: what the disk says
 * is what counts.
 */
const TWO_COPIES: Shape = { replicas: 2, servers: 3, deadMs: 3_000, openBlocks: 1, blockBytes: 256 * 1024 };

/** Blocks that are soon sealed, and compacted as soon as there is something to gain. */
const COMPACTING: Shape = {
  openBlocks: 1,
  garbagePercent: 10,
  tunables: {
    openBlockAgeMsMax: 3_000,
    openBlockOverdueMs: 3_000,
    compactAgainMs: 2_000,
    deadUnitBytes: 100,
  },
};

interface Aim extends PlanOptions {
  /** Not {@link SMALL}: whatever the seed draws. */
  readonly isDrawn?: boolean;
}

/** For each bug, what differs from {@link SMALL}. */
const SPECIAL: Readonly<Record<PlantedBugName, Aim>> = {
  'ack-before-datasync': { only: POWER },
  'no-directory-sync': { only: POWER },
  'retry-after-failed-datasync': {
    only: ['disk-eio-sync'],
    load: { put: 8, get: 1, delete: 0.2, undelete: 0, hide: 0, reveal: 0 },
    shape: { servers: 6, faultEveryMs: 500 },
  },
  'seal-at-minimum': {
    only: ['lost-write', 'host-power', 'kill-dataserver'],
    load: { put: 2, get: 5, delete: 0.5, undelete: 0, hide: 0, reveal: 0, bytesMax: 3_000 },
    shape: { servers: 3, openBlocks: 1, faultEveryMs: 700 },
  },
  'no-fence-check': { isDrawn: true },
  'append-after-restart': { only: ['kill-dataserver', 'host-power', 'kill-at-step', 'cluster-power'] },
  'promise-not-persisted': { only: TWO_LEADERS },
  'drop-counts-unpromised': {
    only: [
      'kill-nameserver',
      'isolate-nameserver',
      'isolate-dataserver',
      'host-power',
      'one-way',
      'disk-hangs',
    ],
    shape: { replicas: 2, deadMs: 4_000, spanMs: 40_000 },
  },
  'drop-on-a-jobs-word': {
    only: ['queue-repeats', 'queue-late', 'host-power', 'disk-wiped', 'isolate-dataserver'],
    shape: { deadMs: 4_000, spanMs: 40_000 },
  },
  'reference-counter': {
    only: ['kill-dataserver'],
    load: { put: 6, get: 1, delete: 4, undelete: 3, hide: 0, reveal: 0, bytesMax: 10_000 },
    shape: { ...COMPACTING, undeleteWindowMs: 4_000, faultEveryMs: 8_000 },
  },
  'alias-without-barrier': {
    operations: 1_000,
    // A content is read to be compared before it gets a second name; while its disk does not answer, its only name goes,
    // and its bytes. An upload waits for some seconds: blocks are sealed and purged as soon as can be.
    only: ['file-hangs'],
    load: { put: 2, get: 0, delete: 6, undelete: 0, hide: 0, reveal: 0, same: 0, again: 1, repeat: 0 },
    shape: {
      ...COMPACTING,
      servers: 2,
      replicas: 2,
      spanMs: 15_000,
      undeleteWindowMs: 1,
      concurrency: 16,
      faultEveryMs: 300,
      garbagePercent: 1,
      tunables: {
        ...COMPACTING.tunables,
        aliasesPerBlockMax: 256,
        openBlockAgeMsMax: 1_000,
        openBlockOverdueMs: 30_000,
        compactAgainMs: 200,
        compactAgainMsMax: 400,
        compactRetryMsMin: 200,
        queueFillMs: 50,
      },
    },
  },
  'dedup-against-unacked': {
    only: ['kill-dataserver', 'isolate-dataserver', 'cut-connections', 'kill-at-step', 'one-way'],
    load: { same: 0.6, repeat: 0.3 },
  },
  'stale-404': {
    only: ['isolate-dataserver', 'partition', 'one-way'],
    load: { put: 2, get: 9, delete: 4, undelete: 4, hide: 0, reveal: 0, same: 0.5 },
    shape: { reads: 'available', faultEveryMs: 2_000, undeleteWindowMs: 60_000 },
  },
  'unsalted-checksum': {
    only: ['misdirected-write'],
    // Of one length: what is at a place in one block fits there in each.
    operations: 1_500,
    load: { put: 5, get: 5, delete: 0, undelete: 0, hide: 0, reveal: 0, same: 0, repeat: 0, bytesMax: 8 },
    shape: { openBlocks: 2, scrubPassMs: 0, faultEveryMs: 700 },
  },
  'truncate-at-first-bad': {
    only: ['damaged-and-alone'],
    load: { put: 8, get: 1, delete: 0.2, undelete: 0, hide: 0, reveal: 0 },
    shape: TWO_COPIES,
  },
  'eio-as-torn': {
    only: ['damaged-and-alone'],
    load: { put: 8, get: 1, delete: 0.2, undelete: 0, hide: 0, reveal: 0 },
    shape: TWO_COPIES,
  },
  '404-in-safe-mode': {
    only: ['nameservers-wiped', 'host-power', 'isolate-dataserver'],
    load: { put: 3, get: 9 },
    shape: { replicas: 1, tunables: { locationCacheBlocksMax: 2 } },
  },
  'reused-job-id': {
    only: ['queue-loses', 'disk-wiped', 'host-power', 'isolate-dataserver'],
    shape: { deadMs: 4_000, spanMs: 40_000 },
  },
  'compaction-by-clock': {
    only: ['clock-jump'],
    load: { put: 5, get: 1, delete: 5, undelete: 4, hide: 0, reveal: 0, bytesMax: 10_000 },
    shape: { ...COMPACTING, undeleteWindowMs: 60_000 },
  },
  'index-ahead-trusted': {
    operations: 1_200,
    only: ['isolate-dataserver', 'partition', 'kill-nameserver', 'isolate-nameserver', 'kill-at-mark'],
    load: { put: 8, get: 1, delete: 0, undelete: 0, hide: 0, reveal: 0, bytesMax: 3_000 },
    shape: {
      servers: 3,
      deadMs: 2_000,
      openBlocks: 2,
      concurrency: 16,
      faultEveryMs: 1_000,
      killAtMarks: ['sealed-again'],
    },
  },
  'restored-snapshot-admitted': {
    only: ['snapshot-restored', 'host-power', 'kill-dataserver'],
    shape: { ...TWO_COPIES, faultEveryMs: 2_000 },
  },
  'op-id-of-partial-record': {
    only: ['isolate-dataserver', 'one-way', 'partition', 'kill-dataserver'],
    load: { put: 8, get: 1, repeat: 1 },
    shape: { servers: 3, concurrency: 6 },
  },
  'alias-takes-next-slot': { only: ['kill-dataserver'], load: { same: 0.5 } },
  'tombstone-over-undelete': {
    only: ['isolate-dataserver', 'stop-dataserver'],
    load: { put: 2, get: 2, delete: 5, undelete: 5, hide: 0, reveal: 0 },
    shape: { undeleteWindowMs: 60_000, faultEveryMs: 4_000 },
  },
  'configuration-of-one': { only: ['host-power', 'stop-dataserver', 'isolate-dataserver', 'partition'] },
  'series-reused': {
    only: ['nameservers-wiped', 'host-power'],
    shape: { servers: 6, replicas: 1 },
  },
};

/** What each of them breaks: a violation of another kind is none of its doing. */
const SIGNS: Readonly<Record<PlantedBugName, readonly InvariantName[]>> = {
  'ack-before-datasync': ['I1'],
  'no-directory-sync': ['I1', 'durability'],
  'retry-after-failed-datasync': ['I1'],
  'seal-at-minimum': ['I2', 'I5', 'I15', 'convergence'],
  'no-fence-check': ['I6'],
  'append-after-restart': ['I1', 'I7'],
  'promise-not-persisted': ['I8'],
  'drop-counts-unpromised': ['I11'],
  'drop-on-a-jobs-word': ['I11'],
  'reference-counter': ['I2', 'I14'],
  'alias-without-barrier': ['I1', 'I2', 'I14'],
  'dedup-against-unacked': ['I1', 'I2'],
  'stale-404': ['I2'],
  'unsalted-checksum': ['I2', 'I3', 'I5', 'I15', 'convergence'],
  'truncate-at-first-bad': ['I2', 'I5', 'convergence'],
  'eio-as-torn': ['I2', 'I5', 'convergence'],
  '404-in-safe-mode': ['I2'],
  'reused-job-id': ['convergence'],
  'compaction-by-clock': ['I2', 'I14'],
  'index-ahead-trusted': ['I2', 'I3', 'I15'],
  'restored-snapshot-admitted': ['I1', 'I2', 'I5', 'I8', 'I9', 'I11', 'I12', 'convergence'],
  'op-id-of-partial-record': ['I1', 'I2'],
  'alias-takes-next-slot': ['I1'],
  'tombstone-over-undelete': ['I2'],
  'configuration-of-one': ['I1', 'I2'],
  'series-reused': ['I9'],
};

const aimAt = (bug: PlantedBugName): PlanOptions => {
  const { shape, isDrawn = false, ...rest } = SPECIAL[bug];
  return isDrawn ? rest : { operations: 400, ...rest, shape: { ...SMALL, ...shape } };
};

/**
 * What has to happen for a planted bug to show: seeds that look for it are drawn with these faults, with this load, on
 * this cluster. A bug that such seeds do not show would be found by no other.
 */
export const AIMS = Object.fromEntries(PLANTED_BUG_NAMES.map((bug) => [bug, aimAt(bug)])) as Readonly<
  Record<PlantedBugName, PlanOptions>
>;

/** Whether a seed failed in a way in which this bug makes seeds fail. */
export const isSignOf = (bug: PlantedBugName, error: unknown): boolean =>
  error instanceof Violation && SIGNS[bug].includes(error.kind);
