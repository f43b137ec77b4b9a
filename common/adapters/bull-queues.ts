import { type Job, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { TfsError } from '../errors.ts';
import type { ServerId } from '../ids.ts';
import {
  JOB_ATTEMPTS_MAX,
  JOB_BACKOFF_MS,
  JOB_LOCK_MS,
  PARKED_JOBS_KEPT_MAX,
  PARKED_JOBS_KEPT_MS,
  QUEUE_CALL_MS_MAX,
} from '../limits.ts';
import type { Log } from '../log.ts';
import type {
  JobCounts,
  JobHandler,
  JobListing,
  JobQueues,
  JobTaker,
  QueuedJob,
  SeenJob,
} from '../seams/job-queue.ts';
import { BullConnection, forAMoment } from './bull-connection.ts';
import { BullTaker } from './bull-taker.ts';
import { evictionPolicyIn } from './redis-policy.ts';

const RECONNECT_MS_MAX = 2_000;
const CLOSE_MS_MAX = 1_000;
/** For people and for the library's own board. */
const JOB_NAME = 'job';

export interface BullQueuesOptions {
  readonly url: string;
  /** 32 hex digits: several clusters may share a Redis. */
  readonly clusterUuid: string;
  readonly log: Log;
  /** Shorter in tests. */
  readonly lockMs?: number;
}

/**
 * Queues in a Redis that may be down, hang, come back empty, or be set to throw keys away. The library waits without end
 * for a Redis that is not there, so every call looks first whether the connection is up, and none is waited for longer
 * than {@link QUEUE_CALL_MS_MAX}.
 */
export class BullQueues implements JobQueues {
  readonly #redis: BullConnection;
  readonly #prefix: string;
  readonly #log: Log;
  readonly #lockMs: number;
  readonly #queues = new Map<ServerId, Queue>();
  readonly #takers = new Set<BullTaker>();
  #trouble = '';
  #closed = false;

  /** Begins to connect and does not wait for it. */
  static open(options: BullQueuesOptions): BullQueues {
    return new BullQueues(options);
  }

  private constructor({ url, clusterUuid, log, lockMs = JOB_LOCK_MS }: BullQueuesOptions) {
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
    this.#prefix = `{tfs-${clusterUuid}}`;
    // Each failed dial is one; the caller hears of it by its own calls.
    this.#redis.on('error', (error: Error) => {
      this.#trouble = `: ${error.message}`;
    });
    this.#redis.on('ready', () => {
      this.#trouble = '';
    });
  }

  async check(): Promise<void> {
    const policy = await this.#bounded(async (redis) => evictionPolicyIn(await redis.info('memory')));
    if (policy === undefined || policy === 'noeviction') return;
    throw new TfsError(
      'CONFIG',
      `Redis has maxmemory-policy ${policy}: when its memory is full it throws jobs away. Set it to noeviction: ` +
        'redis-cli config set maxmemory-policy noeviction (and in its redis.conf)',
    );
  }

  async add(server: ServerId, jobs: readonly QueuedJob[]): Promise<void> {
    const entries = jobs.map(({ id, priority, payload }) => ({
      name: JOB_NAME,
      data: payload,
      opts: {
        jobId: id,
        priority,
        attempts: JOB_ATTEMPTS_MAX,
        backoff: { type: 'exponential', delay: JOB_BACKOFF_MS },
        removeOnComplete: true,
        removeOnFail: { count: PARKED_JOBS_KEPT_MAX, age: PARKED_JOBS_KEPT_MS / 1000 },
      },
    }));
    await this.#with(server, (queue) => queue.addBulk(entries));
  }

  async counts(server: ServerId): Promise<JobCounts> {
    const of = await this.#with(server, (queue) =>
      queue.getJobCounts('wait', 'prioritized', 'delayed', 'active', 'failed'),
    );
    return {
      waiting: (of['wait'] ?? 0) + (of['prioritized'] ?? 0) + (of['delayed'] ?? 0),
      running: of['active'] ?? 0,
      parked: of['failed'] ?? 0,
    };
  }

  async list(server: ServerId, listing: JobListing, max: number): Promise<SeenJob[]> {
    const jobs = await this.#with(server, async (queue) => {
      if (listing === 'running') return queue.getActive(0, max - 1);
      if (listing === 'parked') return queue.getFailed(0, max - 1);
      return [
        ...(await queue.getPrioritized(0, max - 1)),
        ...(await queue.getWaiting(0, max - 1)),
        ...(await queue.getDelayed(0, max - 1)),
      ].slice(0, max);
    });
    // One that was finished and removed meanwhile is undefined, whatever its type says.
    return (jobs as (Job | undefined)[]).flatMap((job) =>
      job === undefined ? [] : [seen(job, server, listing)],
    );
  }

  work(server: ServerId, options: { readonly concurrency: number; readonly handle: JobHandler }): JobTaker {
    const taker = new BullTaker({
      ...options,
      redis: this.#redis,
      prefix: this.#prefix,
      name: nameOf(server),
      log: this.#log,
      lockMs: this.#lockMs,
      onClosed: () => this.#takers.delete(taker),
    });
    this.#takers.add(taker);
    return taker;
  }

  /** What the queues of these servers are to the library itself: for its board. Empty while Redis is not there. */
  native(servers: readonly ServerId[]): Queue[] {
    return this.#redis.status === 'ready' ? servers.map((server) => this.#queue(server)) : [];
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#takers].map((taker) => taker.close()));
    await Promise.all([...this.#queues.values()].map(closed));
    this.#redis.endAll();
  }

  #queue(server: ServerId): Queue {
    let queue = this.#queues.get(server);
    if (queue === undefined) {
      queue = new Queue(nameOf(server), { connection: this.#redis, prefix: this.#prefix });
      // Whoever calls it hears of it.
      queue.on('error', () => undefined);
      this.#queues.set(server, queue);
    }
    return queue;
  }

  async #with<T>(server: ServerId, use: (queue: Queue) => Promise<T>): Promise<T> {
    try {
      return await this.#bounded(() => use(this.#queue(server)));
    } catch (error) {
      // One whose first words with Redis failed fails for ever: the next call makes another.
      const queue = this.#queues.get(server);
      this.#queues.delete(server);
      if (queue !== undefined) void closed(queue);
      throw error;
    }
  }

  async #bounded<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
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
}

const nameOf = (server: ServerId): string => `dataserver-${server}`;

const closed = (queue: Queue): Promise<void> => forAMoment(CLOSE_MS_MAX, queue.close());

function seen(job: Job, server: ServerId, state: JobListing): SeenJob {
  return {
    id: job.id ?? '',
    server,
    state,
    priority: job.priority,
    percent: typeof job.progress === 'number' ? job.progress : 0,
    attempts: job.attemptsMade,
    ageMs: Math.max(0, Date.now() - job.timestamp),
    note: job.failedReason ?? '',
  };
}
