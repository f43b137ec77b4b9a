/**
 * Branches that are rarely taken and matter when they are. A test that is about them asks which were reached: a bug on a
 * branch that no run takes is found by none. The list is closed; each name is marked in one place or a few that mean
 * the same.
 */
export const MARKS = {
  // Writing
  'session-ended-slow-member': 'a member did not answer a batch in time',
  'session-ended-connection-lost': 'the connection to a member was lost',
  'session-ended-own-disk': 'the own disk failed a batch, or did not store it in time',
  'session-ended-fenced': 'the leader fenced a block that was being written',
  'session-ended-age': 'a session was over because of its age',
  'session-stalled': 'answers were late because this process was stopped',
  'append-refused': 'an append came to a replica whose session is over',
  'append-disk-full': 'a full disk ended a session',
  'record-stored-again': 'a record whose session ended was stored in another block',
  'retry-elsewhere': 'a primary gave a record back to the client',
  'pair-held': 'two servers get no common blocks for a while',
  'put-on-another-server': 'a client stored a picture on another server than the first',

  // Sealing
  'seal-adopted': 'the SEAL of an earlier leader was adopted',
  'seal-adopted-complete': 'a complete SEAL was adopted without waiting for anybody',
  'seal-by-watermark': 'a watermark proved more than any replica holds in valid records',
  'seal-without-missing': 'a seal was decided without a member that did not answer',
  'seal-none-clean': 'a seal was decided from copies of which none is known to be whole',
  'seal-contradicted': 'a replica holds what an adopted SEAL denies',
  'seal-heals-lost': 'records that were sealed as lost were found',
  'seal-forgotten': 'no member holds a block: it never came to be',
  'seal-under-later-leader': 'a seal that an earlier reign began was tried again',
  'seal-record-fetched': 'records below the length came from another member',
  'seal-record-lost': 'records verify on no member and were sealed as lost',
  'lost-record-found':
    'records that a replica is sealed without, because its disk did not read them, read again',
  'seal-surplus-aside': 'records beyond the sealed length were set aside',
  'seal-taken-back': 'a replica gave its SEAL up for one that stands above it',
  'sealed-again': 'a replica stored a SEAL over another one, whose index file is still there',
  'seal-without-read-only': 'a block was sealed without a replica on a disk that takes no writes',
  'seal-cut-refused': 'a seal below a watermark was refused',
  'creation-awaited': 'a block was fenced while it was being made',
  'creation-refused': 'a block was to be made that had been fenced before',
  'fence-tail-unreadable': 'what was written last did not read back at the fence',
  'recovered-hole': 'acknowledged records did not verify after a restart',
  'recovered-torn': 'records of a torn write were dropped after a restart',
  'sweep-small-block': 'a block with few replicas was sealed because more could be had',
  'sweep-primary-silent': 'a block was sealed because its primary was silent',

  // Operations
  'op-id-replayed': 'an operation that is in the log already was asked for again',
  'delete-without-time': 'a deletion waited for a leader that knows what time it is',
  'ops-gap-filled': 'a member that was behind got what it lacked before anything newer',
  'ops-sync-renewed':
    'replicas between two configurations got a new one, although no operation waited for it',
  'replica-gone-back': 'a replica reported fewer operations than before',
  'ops-reread': 'operations were read back from a log for a member that was far behind',
  'ops-refused-version': 'a member refused operations of another configuration',
  'ops-refused-place': 'a log holds another operation in that place',
  'ops-later-version': 'a configuration began while a batch was on its way: it was looked for again',
  'ops-log-folded': 'a log was folded into a new file',
  'ops-log-torn': 'the end of an ops log was torn and cut',
  'ops-from-reserve': 'operations were written to the space that is kept for them',
  'ops-merged': 'a configuration began with a union of different logs',
  'ops-tombstone-wins': 'two sequencers of one version disagreed: the name stayed deleted or hidden',
  'ops-abandoned': 'operations that were never acknowledged were left out of a union',
  'ops-purge-undone': 'a purge that had no effect was left out of a union',
  'mutate-looked-again': 'what had been done already was not part of the new configuration',
  'sequencer-taken-over': 'another member became the sequencer because of an operation',
  'sequencer-gave-up': 'a sequencer whose disk failed had another member take its place',
  'undelete-behind-purge': 'an undelete came behind the purge of its bytes',
  'alias-behind-purge': 'a second name came behind the purge of its bytes',
  'purge-found-less': 'less could be purged when its turn came than when it was asked for',

  // Configurations
  'configured-without-member': 'a block goes on without a member',
  'configuration-told': 'a replica outside of the configuration asked for another one, and heard of it',
  'configuration-gone-back': 'a configuration that had only begun went with the server that held it',
  'configuration-begun-anew':
    'nobody held the newest configuration any more: all of its members began another',
  'configuration-waits': 'a member is left out later, because it may think itself current',
  'configuration-refused': 'too few members answer for a configuration',
  'replica-attached': 'a returned replica was taken into the configuration',

  // Deduplication
  'put-replayed': 'a retry of a stored record got the same name',
  'alias-replayed': 'a retry of a second name got the same name',
  'dedup-not-durable': 'a hit did not count: its record is not known to be on every member',
  'dedup-not-sequencer': 'a hit did not count: another server sequences its block, or a member is away',
  'dedup-aliases-full': 'a hit did not count: its block has no room for a second name',

  // Replicas and disks
  'block-suspect': 'a replica was found damaged',
  'suspect-before-start':
    'a start knew of a replica that it had been found damaged before, and was not repaired',
  'block-quarantined': 'a replica cannot be used after a restart',
  'block-readable-again': 'a replica that could not be used was read after all',
  'disk-read-only': 'a write, sync or change of names failed: the store only reads',
  'disk-room-from-trash': 'the trash went because a new file needs its space',
  'mount-gone': 'the directory is not the disk any more that was opened',
  'mount-taken': 'another process serves the mount',
  'hollow-block-removed': 'a superblock without a log, left of a copy that was being made, was removed',
  'orphan-log-aside': 'an ops log without its block file was set aside',
  'drop-finished': 'files of a dropped replica were removed by the next start',
  'generation-discarded': 'a next generation that was not committed was removed by the next start',
  'index-file-ignored': 'an index file was not that of the block, and was built again',
  'replica-repaired': 'a damaged replica was made whole',
  'replica-copied': 'a replica was made where there was none',
  'replica-copied-anew': 'a replica that does not fit the others was copied as a whole',
  'replica-generation-copied': 'a replica got a generation that it had missed as a file',
  'replica-refused': 'an order for a replica was refused: it is another one by now',
  'replica-came-back': 'a block was taken in again that had been dropped',
  'drop-refused-generation': 'a replica of a later generation was not dropped',
  'drop-refused-unreadable': 'a replica that cannot be read was not dropped',
  'drop-refused-unsealed': 'a replica that waits for its seal was not dropped',
  'drop-refused-newer': 'a replica of a newer configuration was not dropped',
  'drop-refused-joining': 'a replica that is being taken in was not dropped',
  'drop-refused-member': 'a member of the configuration was not dropped',
  'drop-refused-holds': 'a replica was not retired: it holds something',
  'drop-refused-former-member': 'a replica was not retired: somebody who was left out may hold more',
  'generation-refused': 'a generation was not committed: nothing like it is prepared',

  // Reading
  'answer-provisional': 'a replica that is not confirmed as current answered',
  'answer-dont-know': 'a replica that is not confirmed as current did not say "not found"',
  'answer-cannot-tell': 'a replica that is damaged or waits for its seal did not say "not found"',
  'read-provisional-used': 'a client took an answer that nobody confirmed',
  'read-provisional-confirmed': 'a client had a provisional answer confirmed by another replica',
  'read-other-replica': 'a client asked another replica because of damage',

  // NameServers
  'promise-refused': 'a DataServer refused a command of an earlier reign',
  'election-self-promoted': 'a NameServer led without the lock',
  'election-lock-returned': 'the lock went back to the leader that had not lost anything but it',
  'election-deposed': 'a leader met a higher reign',
  'election-let-go': 'a leader that was cut off from everybody let the lock go',
  'election-handed-over': 'a leader handed over to one that sees more',
  'reign-drawn-again': 'a higher reign was heard of while one was stored',
  'safe-mode-entered': 'a view was complete and is not',
  'safe-mode-left': 'a view became complete',
  'view-doubted': 'the store of a NameServer turned out to be older than the cluster',
  'locate-dont-know': 'a NameServer could not say that a block does not exist',
  'locate-round-failed': 'a leader could not prove that it leads',
  'series-drawn': 'a new series of block ids was drawn',
  'series-given-up': 'a series was given up: its store is an old copy',
  'sequencer-set-back': 'a member held an operation that the sequencer, which gave it out, does not hold',
  'sequencer-log-cut': 'a sequencer lacked the last operation of its log, which did not read when it started',
  'restored-copy-refused': 'a DataServer whose disk was set back was not let in',
  'second-process-refused': 'a second process of one DataServer was not let in',
  'report-missing-blocks': 'a DataServer does not have blocks any more that it had reported',
  'report-drifted': 'a whole table was asked for because it differed',

  // Work
  'compaction-abandoned': 'a member could not make the next generation',
  'compaction-minority': 'a member made another file than the others',
  'compaction-undecided': 'no file was made by most members',
  'compaction-finished': 'a generation that some had committed was finished on the others',
  'digests-disagree-records': 'sound replicas hold different records',
  'digests-disagree-ops': 'sound replicas hold different operations',
  'block-left-out': 'a member was left out so that its replica can go',
  'block-dropped': 'a replica that its block does not need was let go of',
  'block-retired': 'a block that held nothing is gone',
  'job-refused': 'a job came that is not wanted any more',
  'job-failed': 'a job failed, or did not end in time',
  'job-parked': 'a job failed too often and was left alone',
  'job-without-queue': 'work that cannot wait was done without a queue',
} as const satisfies Record<string, string>;

export type MarkName = keyof typeof MARKS;

let counts: Map<MarkName, number> | undefined;
let listener: ((name: MarkName, times: number) => void) | undefined;

/** This branch was taken. Costs a look at one variable unless somebody collects; not for what happens all the time. */
export function mark(name: MarkName): void {
  if (counts === undefined) return;
  const times = (counts.get(name) ?? 0) + 1;
  counts.set(name, times);
  listener?.(name, times);
}

/** For tests only: counts from now on, for all that runs in this process, from zero. */
export function collectMarks(): void {
  counts = new Map();
}

/**
 * For tests only: somebody wants to know at once, and how often it has been by then, until this is called again with
 * nothing, or {@link forgetMarks}. Says nothing while nobody collects.
 */
export function listenToMarks(told: typeof listener): void {
  listener = told;
}

/** How often each was reached since {@link collectMarks}; what was not is not in it. Empty while nobody collects. */
export function marksReached(): ReadonlyMap<MarkName, number> {
  return new Map(counts);
}

/** Whether it was since {@link collectMarks}. */
export const wasReached = (name: MarkName): boolean => counts?.has(name) === true;

/** Counts no more, and forgets. */
export function forgetMarks(): void {
  counts = undefined;
  listener = undefined;
}
