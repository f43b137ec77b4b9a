import type { ServerId } from '../ids.ts';

/** What stands in a queue: a hint that something may be to do. */
export interface QueuedJob {
  /** Lower-case letters, digits and dashes. Never used again: a queue ignores an id that it has seen. */
  readonly id: string;
  /** Lower first, from 1. */
  readonly priority: number;
  /** JSON. */
  readonly payload: object;
}

/** A job as a worker gets it. Nothing in it is to be believed: anybody who reaches the queue can have written it. */
export interface TakenJob {
  readonly id: string;
  readonly payload: unknown;
  /** Tells whoever looks how far it is; lost without a word where the queue does not answer. */
  progress(percent: number): void;
}

/** @returns what became of it, for whoever looks; rejects when it is to be tried again */
export type JobHandler = (job: TakenJob) => Promise<string>;

export interface JobCounts {
  /** To be taken, and to be tried again after a while. */
  readonly waiting: number;
  readonly running: number;
  /** Failed {@link JOB_ATTEMPTS_MAX} times: out of the way of the others, for a person to look at. */
  readonly parked: number;
}

export type JobListing = 'running' | 'waiting' | 'parked';

/** One job, for a person. */
export interface SeenJob {
  readonly id: string;
  readonly server: ServerId;
  readonly state: JobListing;
  readonly priority: number;
  /** 0..100 */
  readonly percent: number;
  readonly attempts: number;
  /** Since it was queued. */
  readonly ageMs: number;
  /** Of the last attempt, or what it waits for; empty for none. */
  readonly note: string;
}

/**
 * One queue of jobs for each DataServer that works. It carries intent and never authority: nothing is lost when it is
 * emptied, nothing harmed when it repeats, reorders or delays for a day what was put into it.
 *
 * Contract:
 * - Every call but {@link work} settles within {@link QUEUE_CALL_MS_MAX}; rejected with UNAVAILABLE when the queue does not
 *   answer. What was asked may have been done all the same, or be done later.
 * - A job is handed to a worker at least once, if the queue does not lose it; perhaps to several at the same time.
 * - Of two waiting jobs that with the lower priority usually comes first.
 * - A job whose handler rejects is tried again after a while, and parked after {@link JOB_ATTEMPTS_MAX} attempts. Neither
 *   keeps other jobs from being taken.
 */
export interface JobQueues {
  /**
   * Whether work may be put into it.
   *
   * @throws TfsError UNAVAILABLE when it does not answer; CONFIG when it throws jobs away as its memory fills up
   */
  check(): Promise<void>;
  add(server: ServerId, jobs: readonly QueuedJob[]): Promise<void>;
  counts(server: ServerId): Promise<JobCounts>;
  /** At most `max` of them, the next or the newest first. */
  list(server: ServerId, listing: JobListing, max: number): Promise<SeenJob[]>;
  /** Takes jobs of this server's queue, `concurrency` at a time, until the worker is closed; also after an outage. */
  work(server: ServerId, options: { readonly concurrency: number; readonly handle: JobHandler }): JobTaker;
  close(): Promise<void>;
}

export interface JobTaker {
  /** Takes no more; waits a little for handlers that run, and for the queue. */
  close(): Promise<void>;
}
