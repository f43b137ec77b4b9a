import type { Job, Queue } from 'bullmq';
import { TfsError } from '../errors.ts';
import type { ServerId } from '../ids.ts';
import { JOB_ATTEMPTS_MAX, JOB_BACKOFF_MS, PARKED_JOBS_KEPT_MAX, PARKED_JOBS_KEPT_MS } from '../limits.ts';
import type {
  JobCounts,
  JobHandler,
  JobListing,
  JobQueues,
  JobTaker,
  QueuedJob,
  SeenJob,
} from '../seams/job-queue.ts';
import { BullLink, type BullLinkOptions } from './bull-link.ts';
import { evictionPolicyIn } from './redis-policy.ts';

/** For people and for the library's own board. */
const JOB_NAME = 'job';

export type BullQueuesOptions = BullLinkOptions;

/** One queue for each DataServer, see {@link BullLink}. */
export class BullQueues implements JobQueues {
  readonly #link: BullLink;

  /** Begins to connect and does not wait for it. */
  static open(options: BullQueuesOptions): BullQueues {
    return new BullQueues(BullLink.open(options));
  }

  private constructor(link: BullLink) {
    this.#link = link;
  }

  async check(): Promise<void> {
    const policy = await this.#link.bounded(async (redis) => evictionPolicyIn(await redis.info('memory')));
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
    await this.#link.with(nameOf(server), (queue) => queue.addBulk(entries));
  }

  async counts(server: ServerId): Promise<JobCounts> {
    const of = await this.#link.with(nameOf(server), (queue) =>
      queue.getJobCounts('wait', 'prioritized', 'delayed', 'active', 'failed'),
    );
    return {
      waiting: (of['wait'] ?? 0) + (of['prioritized'] ?? 0) + (of['delayed'] ?? 0),
      running: of['active'] ?? 0,
      parked: of['failed'] ?? 0,
    };
  }

  async list(server: ServerId, listing: JobListing, max: number): Promise<SeenJob[]> {
    const jobs = await this.#link.with(nameOf(server), async (queue) => {
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
    return this.#link.take(nameOf(server), options);
  }

  /** What the queues of these servers are to the library itself: for its board. Empty while Redis is not there. */
  native(servers: readonly ServerId[]): Queue[] {
    return this.#link.isUp ? servers.map((server) => this.#link.queue(nameOf(server))) : [];
  }

  close(): Promise<void> {
    return this.#link.close();
  }
}

const nameOf = (server: ServerId): string => `dataserver-${server}`;

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
