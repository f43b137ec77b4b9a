import { tunable } from '../../common/tunables.ts';

export interface Rates {
  /** Of all jobs of one DataServer together. */
  readonly bytesPerSecond: number;
  /** Of all DataServers together; undefined for no bound. */
  readonly clusterBytesPerSecond: number | undefined;
}

/** What one DataServer may take of it. @param servers that could be working at the same time */
export function shareOf({ bytesPerSecond, clusterBytesPerSecond }: Rates, servers: number): number {
  if (clusterBytesPerSecond === undefined) return bytesPerSecond;
  return Math.max(1, Math.min(bytesPerSecond, Math.floor(clusterBytesPerSecond / Math.max(1, servers))));
}

/** A job of so many bytes is over, or given up, by then: with others beside it, and on a disk that is busy. */
export const jobMsMax = (bytes: number, bytesPerSecond: number): number =>
  tunable.jobMsMin + Math.ceil((4000 * bytes) / bytesPerSecond);
