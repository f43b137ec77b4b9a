import { createHash, randomUUID } from 'node:crypto';
import type { BullLink } from '../../../common/adapters/bull-link.ts';
import {
  PARKED_JOBS_KEPT_MAX,
  PARKED_JOBS_KEPT_MS,
  PURGE_ATTEMPTS_MAX,
  PURGE_DONE_KEPT_MS,
  PURGES_QUEUED_MAX,
} from '../../../common/limits.ts';
import type { JobTaker } from '../../../common/seams/job-queue.ts';
import { type Purge, purgeBackoffMs, purgeId } from './outstanding.ts';

const JOB_NAME = 'purge';
const HOUR_MS = 3600_000;
/** A worker may be killed as often as it likes: a purge is parked for its age, and for nothing else. */
const STALLS_MAX = 1_000_000;
const COMPLETED_KEPT_S = 120;
/** Looked up in one command. */
const LOOKUPS_MAX = 1_000;
/** Of the SHA-256 of an id: two are never the same. */
const DIGEST_BYTES = 15;

/**
 * The purges that all gateway workers share: one queue for each cache, and what was done, in Redis. It is a convenience:
 * whatever it loses, repeats or delays, each worker knows what is outstanding and puts it there again.
 *
 * Every call settles within a few seconds; rejected with UNAVAILABLE when Redis does not answer.
 */
export class PurgeQueue {
  readonly #link: BullLink;

  constructor(link: BullLink) {
    this.#link = link;
  }

  get isUp(): boolean {
    return this.#link.isUp;
  }

  /** Another one than before: whatever was in this Redis is gone. */
  era(): Promise<string> {
    const key = `${this.#link.prefix}:purge-era`;
    return this.#link.bounded(async (redis) => {
      await redis.set(key, randomUUID(), 'NX');
      return (await redis.get(key)) ?? '';
    });
  }

  /** How many more the queue of that cache takes. */
  async room(cache: string): Promise<number> {
    return this.#link.with(nameOf(cache), async (queue) => {
      const counts = await queue.getJobCounts('wait', 'delayed', 'active');
      return Math.max(0, PURGES_QUEUED_MAX - Object.values(counts).reduce((sum, count) => sum + count, 0));
    });
  }

  /** Adds those that are not there yet. @param purges of that cache, those first that are to go first */
  async add(cache: string, purges: readonly Purge[]): Promise<void> {
    if (purges.length > 0) await this.#link.with(nameOf(cache), (queue) => queue.addBulk(purges.map(jobOf)));
  }

  /** Those that some worker has done. */
  async doneOf(purges: readonly Purge[]): Promise<string[]> {
    const done: string[] = [];
    for (const [key, group] of byHour(this.#link.prefix, purges))
      for (let at = 0; at < group.length; at += LOOKUPS_MAX) {
        const part = group.slice(at, at + LOOKUPS_MAX);
        const found = await this.#link.bounded((redis) => redis.smismember(key, ...part.map(digestOf)));
        part.forEach((purge, i) => {
          if (found[i] === 1) done.push(purgeId(purge));
        });
      }
    return done;
  }

  async markDone(purge: Purge): Promise<void> {
    const key = keyOf(this.#link.prefix, purge);
    await this.#link.bounded((redis) =>
      redis.multi().sadd(key, digestOf(purge)).pexpire(key, PURGE_DONE_KEPT_MS).exec(),
    );
  }

  /** @param handle rejects when it is to be tried again later */
  take(cache: string, concurrency: number, handle: (payload: unknown) => Promise<string>): JobTaker {
    return this.#link.take(nameOf(cache), {
      concurrency,
      handle: ({ payload }) => handle(payload),
      backoffMs: purgeBackoffMs,
      stallsMax: STALLS_MAX,
    });
  }

  /** Purges that were tried for a day, in vain. */
  async parked(cache: string): Promise<number> {
    return this.#link.with(nameOf(cache), (queue) => queue.getFailedCount());
  }
}

const nameOf = (cache: string): string => `purge-${cache}`;

const jobOf = (purge: Purge) => ({
  name: JOB_NAME,
  data: purge,
  opts: {
    jobId: purgeId(purge),
    attempts: PURGE_ATTEMPTS_MAX,
    backoff: { type: 'custom' },
    // For workers that looked whether it is done before it was, and add it afterwards.
    removeOnComplete: { count: PURGES_QUEUED_MAX, age: COMPLETED_KEPT_S },
    removeOnFail: { count: PARKED_JOBS_KEPT_MAX, age: PARKED_JOBS_KEPT_MS / 1000 },
  },
});

/** One set for each hour of changes: it goes as a whole, and a member takes 40 bytes. */
const keyOf = (prefix: string, { atMs }: Purge): string => `${prefix}:purged:${Math.floor(atMs / HOUR_MS)}`;

const digestOf = (purge: Purge): Buffer =>
  createHash('sha256').update(purgeId(purge)).digest().subarray(0, DIGEST_BYTES);

function byHour(prefix: string, purges: readonly Purge[]): Map<string, Purge[]> {
  const hours = new Map<string, Purge[]>();
  for (const purge of purges) {
    const key = keyOf(prefix, purge);
    const group = hours.get(key);
    if (group === undefined) hours.set(key, [purge]);
    else group.push(purge);
  }
  return hours;
}
