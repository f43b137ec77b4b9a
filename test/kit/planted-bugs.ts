import type { FaultName, Faults } from '../../dataserver/block/faults.ts';
import type { NameServerFaultName, NameServerFaults } from '../../nameserver/faults.ts';

/** A bug that the suite must catch, as it is turned on in the real code. */
export interface PlantedBug {
  /** What it does, and what comes of that. */
  readonly breaks: string;
  /** Switches of every DataServer. */
  readonly dataserver?: readonly FaultName[];
  /** Switches of both NameServers. */
  readonly nameserver?: readonly NameServerFaultName[];
  /** What has to happen for it to show, for mixes that aim at it. */
  readonly needs: string;
  /** Tests of parts that catch it, where there are such; without, only a whole cluster can. */
  readonly caughtBy?: readonly string[];
}

const EXPLORER = 'test/dataserver/block/planted-bugs.test.ts';
const SEALS = 'test/dataserver/seal-campaign.test.ts';
const OPS = 'test/dataserver/ops-world.test.ts';
const COMPACTIONS = 'test/nameserver/compaction-world.test.ts';
const SWITCHES = 'test/kit/planted-bugs.test.ts';

/** One for each way in which stores like this one have lost or brought back what they must not. */
export const PLANTED_BUGS = {
  'ack-before-datasync': {
    breaks: 'records, and operations, are acknowledged when they are written and not yet durable',
    dataserver: ['skip-datasync'],
    needs: 'a power failure of all members of a block',
    caughtBy: [EXPLORER],
  },
  'no-directory-sync': {
    breaks: 'a new name is relied upon that a power failure takes back: a block, a log, a generation',
    dataserver: ['skip-directory-sync'],
    needs: 'a power failure of all members of a block soon after it was made, folded or compacted',
    caughtBy: [EXPLORER],
  },
  'retry-after-failed-datasync': {
    breaks: 'a sync that failed is called again, which finds clean pages that were never written',
    dataserver: ['retry-after-failed-datasync'],
    needs: 'a disk whose sync fails, and then a power failure',
    caughtBy: [EXPLORER],
  },
  'seal-at-minimum': {
    breaks:
      'a block is sealed at the length that every member has: what one lacks of what was acknowledged is cut',
    nameserver: ['seal-at-minimum'],
    needs: 'a member whose copy is damaged near its end, or that lost what it had synced',
    caughtBy: [SEALS],
  },
  'no-fence-check': {
    breaks:
      'a member takes appends behind its answer to a fence: they are acknowledged and not part of the seal',
    dataserver: ['append-behind-fence'],
    needs: 'a primary that is cut off from the leader, or paused, while the leader seals',
    caughtBy: [SEALS],
  },
  'append-after-restart': {
    breaks: 'a session goes on with a member that was restarted: what that one lost is not noticed',
    dataserver: ['append-after-restart', 'session-outlives-connection'],
    needs: 'a member that is killed, or loses power, between two batches of a session',
    caughtBy: [EXPLORER, SEALS],
  },
  'promise-not-persisted': {
    breaks: 'a DataServer forgets with its process whom it promised to obey, and obeys an older leader',
    dataserver: ['promise-in-memory'],
    needs: 'two leaders that cannot see each other, and a restart of a DataServer',
    caughtBy: [SWITCHES],
  },
  'drop-counts-unpromised': {
    breaks: 'a leader counts copies on servers that another leader may have drop them',
    nameserver: ['drop-counts-unpromised'],
    needs: 'two leaders, and a block with more copies than are wanted',
    caughtBy: ['test/nameserver/drop-world.test.ts'],
  },
  'drop-on-a-jobs-word': {
    breaks: 'a job that comes again, or a day late, has its DataServer let go of a replica that is needed',
    dataserver: ['drop-on-job'],
    needs: 'copies that were made by jobs, and a queue that repeats or delays',
    caughtBy: [SWITCHES],
  },
  'reference-counter': {
    breaks: 'bytes go when a counter of their names is 0, which a delete that was taken back has moved',
    dataserver: ['purge-by-counter'],
    needs: 'deletes, undeletes and second names in one block, and its compaction',
    caughtBy: [SWITCHES],
  },
  'alias-without-barrier': {
    breaks: 'a second name is acknowledged for bytes whose purge came before it',
    dataserver: ['ack-alias-of-purged'],
    needs: 'the same content uploaded while its block is purged',
    caughtBy: [OPS, COMPACTIONS],
  },
  'dedup-against-unacked': {
    breaks: 'a second name is acknowledged for a record that not every member has',
    dataserver: ['index-before-ack', 'dedup-unproven'],
    needs: 'a content uploaded again while its first upload waits for a member, or after it was given up',
    caughtBy: [SWITCHES],
  },
  'stale-404': {
    breaks: 'a replica that nobody has confirmed as current says "not found" of what it lacks',
    dataserver: ['stale-says-not-found'],
    needs: 'reads from a replica that was away, or is cut off, while names changed',
    caughtBy: [SWITCHES],
  },
  'unsalted-checksum': {
    breaks: 'a record of another block, or of an earlier use of the file, passes for one of this block',
    dataserver: ['unsalted-checksum'],
    needs: 'files that are used again, or a disk that writes a record to the wrong file',
    caughtBy: [EXPLORER],
  },
  'truncate-at-first-bad': {
    breaks: 'recovery takes damage in acknowledged records for the end of the block',
    dataserver: ['truncate-at-first-bad'],
    needs: 'bit rot in blocks that were being written, and a restart of all their members',
    caughtBy: [EXPLORER],
  },
  'eio-as-torn': {
    breaks: 'a sector that cannot be read counts as the end of a file',
    dataserver: ['eio-as-torn'],
    needs: 'unreadable sectors in blocks or logs, and a restart',
    caughtBy: [EXPLORER],
  },
  '404-in-safe-mode': {
    breaks: 'a leader that has not heard of every block says that one does not exist',
    nameserver: ['absent-in-safe-mode'],
    needs:
      'NameServers that lost their store, or blocks that are not in it yet, and reads before all have reported',
    caughtBy: [SWITCHES],
  },
  'reused-job-id': {
    breaks: 'work that failed once is never queued again, because the queue has seen its id',
    nameserver: ['reuse-job-id'],
    needs: 'jobs that fail as often as they are tried, and then could succeed',
    caughtBy: ['test/nameserver/jobs/campaign.test.ts'],
  },
  'compaction-by-clock': {
    breaks: 'what may be undeleted is purged because the clock of one DataServer is ahead',
    dataserver: ['trust-own-clock'],
    needs: 'a clock that jumps ahead on the sequencer of a block with deleted names',
    caughtBy: ['test/dataserver/compaction.test.ts'],
  },
  'index-ahead-trusted': {
    breaks: 'an index file that names records which the seal has cut is believed',
    dataserver: ['trust-index-ahead'],
    needs: 'a block that is sealed again, shorter, and a restart before its index file is written',
    caughtBy: [EXPLORER],
  },
  'restored-snapshot-admitted': {
    breaks: 'a disk that was set back to an older copy counts as the replica that it was',
    nameserver: ['admit-set-back'],
    needs: 'a DataServer that is restored from a snapshot',
    caughtBy: [SWITCHES, 'test/dataserver/restored-snapshot.test.ts'],
  },
  'op-id-of-partial-record': {
    breaks: 'a retry gets the name of a record that not every member has',
    dataserver: ['index-before-ack', 'replay-unproven'],
    needs: 'an upload that its primary gave up, and a retry of it there before the block is sealed',
    caughtBy: [SWITCHES],
  },
  'alias-takes-next-slot': {
    breaks: 'a second name is the number that the next record gets',
    dataserver: ['alias-is-next-slot'],
    needs: 'the same content uploaded twice',
    caughtBy: [SWITCHES],
  },
  'tombstone-over-undelete': {
    breaks: 'when logs are merged a delete wins over an undelete that was acknowledged after it',
    dataserver: ['tombstone-always-wins'],
    needs: 'a delete and an undelete of one name, and a member that was away for some of the operations',
    caughtBy: [SWITCHES],
  },
  'configuration-of-one': {
    breaks: 'an operation is acknowledged that one server alone holds',
    dataserver: ['ack-below-min-write'],
    nameserver: ['configure-below-min-write'],
    needs: 'all members of a block but one away, an operation, and then that one away, or lost',
    caughtBy: [SWITCHES],
  },
  'series-reused': {
    breaks: 'a NameServer that lost its store gives block ids out again',
    nameserver: ['series-from-store-alone'],
    needs: 'NameServers that lost their store, and servers without the first blocks',
    caughtBy: [SWITCHES, 'test/nameserver/series.test.ts'],
  },
} as const satisfies Record<string, PlantedBug>;

/** Switches that belong to none of these: for tests of single parts. */
export const FURTHER_SWITCHES: readonly FaultName[] = [
  'rename-before-datasync',
  'ack-op-before-datasync',
  'trust-page-cache',
  'fence-overtakes-append',
  'seal-below-watermark',
  'ack-op-on-some',
  'drop-unreadable-live',
  'commit-before-datasync',
  'purge-ignores-alias',
  'begin-without-merging',
  'ack-under-next-version',
  'unlink-before-drop-log',
];

export type PlantedBugName = keyof typeof PLANTED_BUGS;
export const PLANTED_BUG_NAMES = Object.keys(PLANTED_BUGS) as readonly PlantedBugName[];

/** For `DataServerOptions.faults`. */
export function dataServerFaults(name: PlantedBugName): Faults {
  const { dataserver = [] }: PlantedBug = PLANTED_BUGS[name];
  return { has: (fault) => dataserver.includes(fault) };
}

/** For `NameServerOptions.faults`. */
export function nameServerFaults(name: PlantedBugName): NameServerFaults {
  const { nameserver = [] }: PlantedBug = PLANTED_BUGS[name];
  return { has: (fault) => nameserver.includes(fault) };
}
