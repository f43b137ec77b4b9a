import {
  SCRUB_AIM_PERCENT,
  SCRUB_BYTES_PER_SECOND_MIN,
  SCRUB_READS_EXTRA_MS_MIN,
  SCRUB_READS_PERCENT_MAX,
  SCRUB_REST_MS_MAX,
  SCRUB_REST_MS_MIN,
} from '../../common/limits.ts';

/**
 * Bytes a second at which a pass is over in time.
 *
 * @param leftBytes to be read in it
 * @param sinceMs since it began
 * @param most bytes a second, however little time is left
 */
export function rateFor(leftBytes: number, sinceMs: number, passMs: number, most: number): number {
  const leftMs = (passMs * SCRUB_AIM_PERCENT) / 100 - sinceMs;
  const wanted = leftMs > 0 ? (leftBytes * 1000) / leftMs : Number.POSITIVE_INFINITY;
  return Math.min(most, Math.max(SCRUB_BYTES_PER_SECOND_MIN, wanted));
}

/** What 99 of 100 reads of pictures on this disk take; undefined where there were too few lately. */
export interface ReadTimes {
  /** While nothing was scrubbed. */
  readonly quietMs: number | undefined;
  /** Beside a scrub. */
  readonly besideMs: number | undefined;
}

/** Whether those who read pictures wait for the scrub. */
export function disturbs({ quietMs, besideMs }: ReadTimes): boolean {
  if (quietMs === undefined || besideMs === undefined) return false;
  const allowedMs = Math.max((quietMs * SCRUB_READS_PERCENT_MAX) / 100, quietMs + SCRUB_READS_EXTRA_MS_MIN);
  return besideMs > allowedMs;
}

/**
 * How long to rest after the next piece, from how long it was after the last one: longer at once when it disturbs,
 * shorter little by little, so that it finds the pace that does not.
 */
export function restMs(lastMs: number, times: ReadTimes): number {
  if (disturbs(times)) return Math.min(SCRUB_REST_MS_MAX, Math.max(SCRUB_REST_MS_MIN, lastMs * 2));
  const shorter = lastMs * 0.8;
  return shorter < SCRUB_REST_MS_MIN ? 0 : shorter;
}

/** A bucket of bytes that fills at a rate, and holds no more than one piece: what was not used is not made up for. */
export class Bucket {
  #freeAtMs = Number.NEGATIVE_INFINITY;

  /** Takes `bytes`. @returns how long to wait before they may be used */
  take(bytes: number, bytesPerSecond: number, nowMs: number): number {
    const startMs = Math.max(nowMs, this.#freeAtMs);
    this.#freeAtMs = startMs + (bytes * 1000) / bytesPerSecond;
    return startMs - nowMs;
  }
}
