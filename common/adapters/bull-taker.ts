import { type Job, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Log } from '../log.ts';
import type { JobHandler, JobTaker } from '../seams/job-queue.ts';
import { forAMoment } from './bull-connection.ts';

export interface BullTakerOptions {
  readonly redis: Redis;
  readonly prefix: string;
  /** Of the queue. */
  readonly name: string;
  readonly concurrency: number;
  readonly handle: JobHandler;
  /** How long a job waits that failed so often, where its options leave that to the worker. */
  readonly backoffMs?: (attempts: number) => number;
  /** A job whose worker went away so often is parked; once when absent. */
  readonly stallsMax?: number;
  readonly log: Log;
  /** A worker that shows no sign of life for this long has lost its jobs. */
  readonly lockMs: number;
  readonly onClosed: () => void;
}

const LOOK_MS = 2_000;
const CLOSE_MS_MAX = 3_000;
/** Between two looks. */
const ERRORS_MAX = 20;

/**
 * A worker of the library, replaced by another when it has ended by itself, as it does when its first words with Redis
 * fail, and when it does nothing but fail: a DataServer outlives many a Redis.
 */
export class BullTaker implements JobTaker {
  readonly #options: BullTakerOptions;
  readonly #timer: NodeJS.Timeout;
  #worker: Worker | undefined;
  #closed = false;
  #complaint = '';
  /** Of the present worker, since the last look. */
  #errors = 0;

  constructor(options: BullTakerOptions) {
    this.#options = options;
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#end(this.#worker);
    this.#options.onClosed();
  }

  #look(): void {
    this.#errors = 0;
    if (this.#worker?.isRunning() === true || this.#options.redis.status !== 'ready') return;
    void this.#end(this.#worker);
    this.#worker = this.#begin();
  }

  #begin(): Worker {
    const { redis, prefix, name, concurrency, handle, backoffMs, stallsMax = 1, log, lockMs } = this.#options;
    const worker = new Worker(name, (job) => handle(takenOf(job)), {
      connection: redis,
      prefix,
      concurrency,
      lockDuration: lockMs,
      stalledInterval: lockMs,
      maxStalledCount: stallsMax,
      ...(backoffMs === undefined ? {} : { settings: { backoffStrategy: backoffMs } }),
    });
    // It tries again by itself; a Redis that is away says the same all the time.
    worker.on('error', (error) => {
      if (worker === this.#worker && ++this.#errors >= ERRORS_MAX) this.#giveUp(worker);
      if (this.#complaint === error.message) return;
      this.#complaint = error.message;
      log.debug({ reason: error.message }, 'the job queue');
    });
    return worker;
  }

  /**
   * A worker with jobs to fetch asks again at once when that fails, and while Redis is away it fails at once: nothing else
   * in this process would ever have its turn again. So the closing must begin here and now.
   */
  #giveUp(worker: Worker): void {
    this.#worker = undefined;
    void forAMoment(CLOSE_MS_MAX, worker.close(true));
  }

  /**
   * Jobs that run have a moment to end; then it is closed by force. A friendly close of the library waits for them and for
   * Redis before it stops its timers, and where it waits for ever they keep the process alive.
   */
  async #end(worker: Worker | undefined): Promise<void> {
    if (worker === undefined) return;
    if (this.#options.redis.status === 'ready' && worker.isRunning())
      await forAMoment(CLOSE_MS_MAX, worker.pause());
    await forAMoment(CLOSE_MS_MAX, worker.close(true));
  }
}

function takenOf(job: Job): Parameters<JobHandler>[0] {
  return {
    id: job.id ?? '',
    payload: job.data,
    progress: (percent) => {
      // Where it is lost, somebody sees an older figure.
      job.updateProgress(percent).catch(() => undefined);
    },
  };
}
