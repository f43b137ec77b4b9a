/**
 * Bugs that can be planted to prove that a test would catch them. Production code never has one on: they are handed
 * in by the test kit, and each is asked for at the very line it breaks.
 */
export type NameServerFaultName =
  /** Seals at the length that every member has, and not at the longest. */
  | 'seal-at-minimum'
  /** Counts copies on servers that may obey another leader as good enough to drop one. */
  | 'drop-counts-unpromised'
  /** Says of a block that it does not know that there is none, whoever has not reported yet. */
  | 'absent-in-safe-mode'
  /** Gives a job the id of the same work in an earlier round. */
  | 'reuse-job-id'
  /** Lets a disk in that shows less than it showed before. */
  | 'admit-set-back'
  /** Gives a block a configuration of fewer members than may acknowledge. */
  | 'configure-below-min-write'
  /** Draws a series of block ids above those in its own store, whatever DataServers hold. */
  | 'series-from-store-alone';

export interface NameServerFaults {
  has(name: NameServerFaultName): boolean;
}

export const NO_FAULTS: NameServerFaults = { has: () => false };
