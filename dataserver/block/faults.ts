import { blockSeed } from '../../common/format/record.ts';
import type { Superblock } from '../../common/format/superblock.ts';

/**
 * Bugs that can be planted to prove that a test would catch them. Production code never has one on: they are handed
 * in by the test kit, and each is asked for at the very line it breaks.
 */
export type FaultName =
  /** Acknowledges what the disk has not made durable. */
  | 'skip-datasync'
  /** Renames and forgets to make the new name durable. */
  | 'skip-directory-sync'
  /** Gives a file its name before its contents are durable. */
  | 'rename-before-datasync'
  /** Seeds the header checksums with nothing that belongs to this block. */
  | 'unsalted-checksum'
  /** Recovery takes the first bad record for the end, whatever lies behind it. */
  | 'truncate-at-first-bad'
  /** Lets a block that was open when the process died be written again. */
  | 'append-after-restart'
  /** Believes an index file that does not describe the sealed block. */
  | 'trust-index-ahead'
  /** Takes a disk that cannot read for a file that ends. */
  | 'eio-as-torn'
  /** Keeps the newest state of the ops log in memory only. */
  | 'ack-op-before-datasync'
  /** Builds on what a killed process wrote and did not sync. */
  | 'trust-page-cache'
  /** Answers a fence while an append is on its way to the disk. */
  | 'fence-overtakes-append'
  /** Takes appends behind a fence. */
  | 'append-behind-fence'
  /** Seals at whatever length it is told, and cuts what a watermark proves. */
  | 'seal-below-watermark'
  /** Acknowledges an operation that only some members hold. */
  | 'ack-op-on-some'
  /** Leaves a record that lives and does not read out of the next generation. */
  | 'drop-unreadable-live'
  /** Commits a next generation that is not durable. */
  | 'commit-before-datasync'
  /** Purges a record of which one name lives. */
  | 'purge-ignores-alias'
  /** Purges and dates by the own clock alone. */
  | 'trust-own-clock'
  /** Gives out a second name for bytes that were about to go before it. */
  | 'ack-alias-of-purged'
  /** Begins a configuration with the own log alone. */
  | 'begin-without-merging'
  /** Takes an operation for part of a configuration because it was in the own log before that. */
  | 'ack-under-next-version'
  /** Removes the files of a replica before the drop is in the log. */
  | 'unlink-before-drop-log'
  /** Goes on after a failed fdatasync as if the next good one made up for it. */
  | 'retry-after-failed-datasync'
  /** Goes on with a write session when the connection to a member of it is lost, and comes back. */
  | 'session-outlives-connection'
  /** Promises in memory alone. */
  | 'promise-in-memory'
  /** Lets go of a replica because a queue had a job for it that is not wanted. */
  | 'drop-on-job'
  /** Purges by a counter of names that only goes down when one is deleted. */
  | 'purge-by-counter'
  /** Enters a record into the SHA-1 index when the own disk has it. */
  | 'index-before-ack'
  /** Gives out a second name for a record that may not be on every member. */
  | 'dedup-unproven'
  /** Gives a retry the name of a record that may not be on every member. */
  | 'replay-unproven'
  /** Says "not found" of what a replica lacks that nobody has confirmed. */
  | 'stale-says-not-found'
  /** Tells the client the next slot as the second name of a record. */
  | 'alias-is-next-slot'
  /** A delete in any log wins over an undelete that came later. */
  | 'tombstone-always-wins'
  /** Acknowledges an operation that fewer members hold than have to. */
  | 'ack-below-min-write';

export interface Faults {
  has(name: FaultName): boolean;
}

export const NO_FAULTS: Faults = { has: () => false };

const NO_SALT = Buffer.alloc(16);

/** What all header checksums of a block start from. */
export const seedOf = (faults: Faults, superblock: Superblock): number =>
  blockSeed(seededAs(superblock, faults));

/** What the header checksums of a block are seeded from. */
export function seededAs(superblock: Superblock, faults: Faults): Superblock {
  if (!faults.has('unsalted-checksum')) return superblock;
  return {
    ...superblock,
    salt: NO_SALT,
    block: 0 as Superblock['block'],
    session: 0 as Superblock['session'],
  };
}
