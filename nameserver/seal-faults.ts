/**
 * Bugs that can be planted to prove that a test would catch them. Production code never has one on: they are handed
 * in by tests, and each is asked for at the very line it breaks.
 */
export type SealFaultName =
  /** Seals at the length that every member has, and not at the longest. */
  'seal-at-minimum';

export interface SealFaults {
  has(name: SealFaultName): boolean;
}

export const NO_FAULTS: SealFaults = { has: () => false };
