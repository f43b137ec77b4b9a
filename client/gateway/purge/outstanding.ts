import { LRUCache } from 'lru-cache';
import {
  PURGE_GIVEN_UP_MS,
  PURGE_RETRY_MS_MAX,
  PURGE_RETRY_MS_MIN,
  PURGES_DONE_KEPT_MAX,
  PURGES_OUTSTANDING_MAX,
} from '../../../common/limits.ts';
import type { PurgeReason } from './sender.ts';

/** One purge of one name from one cache, for one change of its state. */
export interface Purge {
  /** Of the cache. */
  readonly cache: string;
  /** 18 characters. */
  readonly name: string;
  readonly reason: PurgeReason;
  /** As the operation is dated; where no operation is known, when the gateway was told. ms since 1970 */
  readonly atMs: number;
}

export interface OutstandingPurge extends Purge {
  readonly id: string;
  /** When this worker learned of it, by the monotonic clock. */
  readonly sinceMs: number;
  /** When it was put into the queue last; undefined while it is not there. */
  queuedAtMs: number | undefined;
  /** By this worker itself, without a queue. */
  attempts: number;
  dueAtMs: number;
}

/** The same for every process that hears of the same change. */
export const purgeId = ({ cache, name, reason, atMs }: Purge): string => `${cache}-${name}-${reason}-${atMs}`;

/** How long a purge waits that failed so often, ms. */
export const purgeBackoffMs = (attempts: number): number =>
  Math.min(PURGE_RETRY_MS_MAX, PURGE_RETRY_MS_MIN * 2 ** Math.min(attempts - 1, 20));

/**
 * The purges that one worker knows of and does not know as done, the oldest first; and those that it knows as done, so that
 * what several DataServers tell, or one tells again, is purged once. Both are bounded. To lose either is harmless: what
 * is outstanding is told again by the DataServers for a day, and what is done is done once more.
 */
export class OutstandingPurges {
  readonly #purges = new Map<string, OutstandingPurge>();
  readonly #done: LRUCache<string, true>;
  readonly #max: number;
  /** How many, from the oldest on, {@link nextToCheck} has given out. */
  #checkedTo = 0;
  readonly #nowMs: () => number;

  /** @param nowMs monotonic */
  constructor(nowMs: () => number, max: number = PURGES_OUTSTANDING_MAX) {
    this.#nowMs = nowMs;
    this.#max = max;
    this.#done = new LRUCache({ max: PURGES_DONE_KEPT_MAX });
  }

  get size(): number {
    return this.#purges.size;
  }

  /** How many more there is room for. */
  get room(): number {
    return Math.max(0, this.#max - this.#purges.size);
  }

  /** @returns false when there is no room for it */
  add(purge: Purge): boolean {
    const id = purgeId(purge);
    if (this.#purges.has(id) || this.#done.has(id)) return true;
    if (this.room === 0) return false;
    const nowMs = this.#nowMs();
    const { cache, name, reason, atMs } = purge;
    this.#purges.set(id, {
      ...{ id, cache, name, reason, atMs },
      sinceMs: nowMs,
      queuedAtMs: undefined,
      attempts: 0,
      dueAtMs: nowMs,
    });
    return true;
  }

  done(id: string): void {
    this.#purges.delete(id);
    this.#done.set(id, true);
  }

  isDone(id: string): boolean {
    return this.#done.has(id);
  }

  /** This worker itself tried it in vain. */
  failed(id: string): void {
    const purge = this.#purges.get(id);
    if (purge !== undefined) purge.dueAtMs = this.#nowMs() + purgeBackoffMs(++purge.attempts);
  }

  /** To be looked up among what others have done: so many of them, and at the next call the next ones. */
  nextToCheck(max: number): OutstandingPurge[] {
    const from = this.#checkedTo < this.#purges.size ? this.#checkedTo : 0;
    const purges = this.#first(max, () => true, from);
    this.#checkedTo = from + purges.length;
    return purges;
  }

  /** Those that were put into the queue before that time, or never; the oldest first. */
  toBeQueued(cache: string, beforeMs: number, max: number): OutstandingPurge[] {
    return this.#first(
      max,
      (purge) => purge.cache === cache && (purge.queuedAtMs === undefined || purge.queuedAtMs <= beforeMs),
    );
  }

  /** Those that this worker is to try itself by now; the oldest first. */
  due(cache: string, nowMs: number, max: number): OutstandingPurge[] {
    return this.#first(max, (purge) => purge.cache === cache && purge.dueAtMs <= nowMs);
  }

  countOf(cache: string): number {
    let count = 0;
    for (const purge of this.#purges.values()) if (purge.cache === cache) count++;
    return count;
  }

  /** Nothing is in the queue any more. */
  queueIsGone(): void {
    for (const purge of this.#purges.values()) purge.queuedAtMs = undefined;
  }

  /** Takes out those that were tried for a day. */
  takeLapsed(): OutstandingPurge[] {
    const beforeMs = this.#nowMs() - PURGE_GIVEN_UP_MS;
    const lapsed: OutstandingPurge[] = [];
    for (const purge of this.#purges.values()) {
      // In the order in which they came.
      if (purge.sinceMs >= beforeMs) break;
      lapsed.push(purge);
    }
    for (const { id } of lapsed) this.#purges.delete(id);
    return lapsed;
  }

  #first(max: number, isWanted: (purge: OutstandingPurge) => boolean, from = 0): OutstandingPurge[] {
    const found: OutstandingPurge[] = [];
    let at = 0;
    for (const purge of this.#purges.values()) {
      if (found.length >= max) break;
      if (at++ >= from && isWanted(purge)) found.push(purge);
    }
    return found;
  }
}
