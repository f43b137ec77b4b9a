import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { TfsError } from '../errors.ts';
import { JOB_LOCK_MS, QUEUE_CALL_MS_MAX } from '../limits.ts';
import type { Log } from '../log.ts';
import type { JobHandler, JobTaker } from '../seams/job-queue.ts';
import { BullConnection, forAMoment } from './bull-connection.ts';
import { BullTaker } from './bull-taker.ts';

const RECONNECT_MS_MAX = 2_000;
const CLOSE_MS_MAX = 1_000;

export interface BullLinkOptions {
  readonly url: string;
  /** 32 hex digits: several clusters may share a Redis. */
  readonly clusterUuid: string;
  readonly log: Log;
  /** Shorter in tests. */
  readonly lockMs?: number;
}

/** What is taken from a queue, and how. */
export interface TakeOptions {
  readonly concurrency: number;
  readonly handle: JobHandler;
  /** How long a job that failed so often waits, where its options say that this tells it. */
  readonly backoffMs?: (attempts: number) => number;
  /** A job whose worker went away so often is parked; once when absent. */
  readonly stallsMax?: number;
}

/**
 * A Redis that may be down, hang, come back empty, or be set to throw keys away, and queues in it. The queue library waits
 * without end for a Redis that is not there, so every call looks first whether the connection is up, and none is waited for
 * longer than {@link QUEUE_CALL_MS_MAX}.
 */
export class BullLink {
  /** What the names of all keys of the cluster begin with. */
  readonly prefix: string;
  readonly #redis: BullConnection;
  readonly #log: Log;
  readonly #lockMs: number;
  readonly #queues = new Map<string, Queue>();
  readonly #takers = new Set<BullTaker>();
  #trouble = '';
  #closed = false;

  /** Begins to connect and does not wait for it. */
  static open(options: BullLinkOptions): BullLink {
    return new BullLink(options);
  }

  private constructor({ url, clusterUuid, log, lockMs = JOB_LOCK_MS }: BullLinkOptions) {
    this.#redis = new BullConnection(url, {
      // Demanded by the library, whose workers block on a call for as long as there is no job.
      maxRetriesPerRequest: null,
      enableOfflineQueue: false,
      connectTimeout: 2_000,
      retryStrategy: (tries) => Math.min(100 * tries, RECONNECT_MS_MAX),
    });
    this.#log = log;
    this.#lockMs = lockMs;
    // The braces put all keys of the cluster into one slot of a Redis Cluster.
    this.prefix = `{tfs-${clusterUuid}}`;
    // Each failed dial is one; the caller hears of it by its own calls.
    this.#redis.on('error', (error: Error) => {
      this.#trouble = `: ${error.message}`;
    });
    this.#redis.on('ready', () => {
      this.#trouble = '';
    });
  }

  /** Whether the connection is up; what it leads to may hang all the same. */
  get isUp(): boolean {
    return !this.#closed && this.#redis.status === 'ready';
  }

  /** @throws TfsError UNAVAILABLE when Redis is not there or does not answer in time: it may have been done all the same */
  async bounded<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = this.#redis;
    if (this.#closed) throw new TfsError('CLOSED', 'the job queue is closed');
    if (redis.status !== 'ready')
      throw new TfsError('UNAVAILABLE', `Redis is not there (${redis.status}${this.#trouble})`);
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new TfsError('UNAVAILABLE', `Redis did not answer within ${QUEUE_CALL_MS_MAX} ms`)),
        QUEUE_CALL_MS_MAX,
      );
    });
    const answer = work(redis).catch((cause: unknown) => {
      throw new TfsError('UNAVAILABLE', `Redis: ${(cause as Error).message}`, { cause });
    });
    try {
      return await Promise.race([answer, expired]);
    } finally {
      clearTimeout(timer);
      // Where it was not waited for, nobody hears how it ended.
      answer.catch(() => undefined);
    }
  }

  /** As {@link bounded}, with a queue. */
  async with<T>(name: string, use: (queue: Queue) => Promise<T>): Promise<T> {
    try {
      return await this.bounded(() => use(this.queue(name)));
    } catch (error) {
      // One whose first words with Redis failed fails for ever: the next call makes another.
      const queue = this.#queues.get(name);
      this.#queues.delete(name);
      if (queue !== undefined) void closed(queue);
      throw error;
    }
  }

  /** Takes jobs of that queue until the taker is closed; also after an outage. */
  take(name: string, options: TakeOptions): JobTaker {
    const taker = new BullTaker({
      ...options,
      redis: this.#redis,
      prefix: this.prefix,
      name,
      log: this.#log,
      lockMs: this.#lockMs,
      onClosed: () => this.#takers.delete(taker),
    });
    this.#takers.add(taker);
    return taker;
  }

  /** A queue as the library knows it; its calls are bounded by nothing. */
  queue(name: string): Queue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new Queue(name, { connection: this.#redis, prefix: this.prefix });
      // Whoever calls it hears of it.
      queue.on('error', () => undefined);
      this.#queues.set(name, queue);
    }
    return queue;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#takers].map((taker) => taker.close()));
    await Promise.all([...this.#queues.values()].map(closed));
    this.#redis.endAll();
  }
}

const closed = (queue: Queue): Promise<void> => forAMoment(CLOSE_MS_MAX, queue.close());
