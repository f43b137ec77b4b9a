import { TfsError } from '../../common/errors.ts';
import type { ServerId } from '../../common/ids.ts';
import { JOB_ATTEMPTS_MAX, JOB_BACKOFF_MS } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type {
  JobCounts,
  JobHandler,
  JobListing,
  JobQueues,
  JobTaker,
  QueuedJob,
  SeenJob,
} from '../../common/seams/job-queue.ts';

/** How often out of a hundred times. */
export interface QueueFaults {
  readonly loses?: number;
  readonly repeats?: number;
  readonly reorders?: number;
  readonly delaysByADay?: number;
}

interface Entry {
  readonly job: QueuedJob;
  readonly queuedAtMs: number;
  dueAtMs: number;
  attempts: number;
  state: JobListing;
  note: string;
}

const POLL_MS = 100;
const DAY_MS = 24 * 3600 * 1000;

/** Queues in memory, on the test's clock, that lose, repeat, reorder and delay what is put into them, as they are told. */
export class MemoryQueues implements JobQueues {
  /** Nobody gets an answer. */
  isDown = false;
  /** Its memory fills up, and then it throws jobs away. */
  evicts = false;
  faults: QueueFaults = {};
  /** Every job that was ever put into it. */
  readonly added: { readonly server: ServerId; readonly job: QueuedJob }[] = [];
  readonly #clock: Clock;
  readonly #percent: () => number;
  readonly #entries = new Map<ServerId, Entry[]>();
  readonly #seen = new Set<string>();

  /** @param percent uniform in [0, 100) */
  constructor(clock: Clock, percent: () => number = () => 99.9) {
    this.#clock = clock;
    this.#percent = percent;
  }

  async check(): Promise<void> {
    this.#requireUp();
    if (this.evicts) throw new TfsError('CONFIG', 'the queue throws jobs away');
  }

  async add(server: ServerId, jobs: readonly QueuedJob[]): Promise<void> {
    this.#requireUp();
    const now = this.#clock.monotonic();
    for (const job of jobs) {
      this.added.push({ server, job });
      if (this.#seen.has(`${server} ${job.id}`)) continue;
      this.#seen.add(`${server} ${job.id}`);
      if (this.#isSo(this.faults.loses)) continue;
      this.#push(server, job, now);
      while (this.#isSo(this.faults.repeats)) this.#push(server, job, now);
    }
  }

  async counts(server: ServerId): Promise<JobCounts> {
    this.#requireUp();
    const of = (state: JobListing) => this.#of(server).filter((entry) => entry.state === state).length;
    return { waiting: of('waiting'), running: of('running'), parked: of('parked') };
  }

  async list(server: ServerId, listing: JobListing, max: number): Promise<SeenJob[]> {
    this.#requireUp();
    const now = this.#clock.monotonic();
    return this.#of(server)
      .filter(({ state }) => state === listing)
      .slice(0, max)
      .map(({ job, state, attempts, queuedAtMs, note }) => ({
        id: job.id,
        server,
        state,
        priority: job.priority,
        percent: 0,
        attempts,
        ageMs: now - queuedAtMs,
        note,
      }));
  }

  work(server: ServerId, { concurrency, handle }: { concurrency: number; handle: JobHandler }): JobTaker {
    let running = 0;
    const timer = this.#clock.every(POLL_MS, () => {
      while (running < concurrency) {
        const entry = this.isDown ? undefined : this.#next(server);
        if (entry === undefined) return;
        entry.state = 'running';
        entry.attempts++;
        running++;
        void this.#handle(server, entry, handle).finally(() => running--);
      }
    });
    return { close: async () => timer.cancel() };
  }

  /** A process that has taken all of its jobs dies: the queue holds them for it, as it seems here for ever. */
  strand(server: ServerId): void {
    for (const entry of this.#of(server)) entry.state = 'running';
  }

  /** FLUSHALL. */
  flush(): void {
    this.#entries.clear();
  }

  async close(): Promise<void> {}

  async #handle(server: ServerId, entry: Entry, handle: JobHandler): Promise<void> {
    const { id, payload } = entry.job;
    try {
      await handle({ id, payload: JSON.parse(JSON.stringify(payload)), progress: () => undefined });
      this.#remove(server, entry);
    } catch (error) {
      entry.note = (error as Error).message;
      entry.dueAtMs = this.#clock.monotonic() + JOB_BACKOFF_MS * 2 ** (entry.attempts - 1);
      entry.state = entry.attempts < JOB_ATTEMPTS_MAX ? 'waiting' : 'parked';
    }
  }

  #next(server: ServerId): Entry | undefined {
    const now = this.#clock.monotonic();
    const due = this.#of(server).filter(({ state, dueAtMs }) => state === 'waiting' && dueAtMs <= now);
    due.sort((a, b) => a.job.priority - b.job.priority);
    return this.#isSo(this.faults.reorders) ? due.at(-1) : due[0];
  }

  #push(server: ServerId, job: QueuedJob, now: number): void {
    const dueAtMs = now + (this.#isSo(this.faults.delaysByADay) ? DAY_MS : 0);
    this.#of(server).push({ job, queuedAtMs: now, dueAtMs, attempts: 0, state: 'waiting', note: '' });
  }

  #of(server: ServerId): Entry[] {
    let entries = this.#entries.get(server);
    if (entries === undefined) {
      entries = [];
      this.#entries.set(server, entries);
    }
    return entries;
  }

  #remove(server: ServerId, entry: Entry): void {
    const entries = this.#of(server);
    const i = entries.indexOf(entry);
    if (i >= 0) entries.splice(i, 1);
  }

  #isSo(percent = 0): boolean {
    return percent > 0 && this.#percent() < percent;
  }

  #requireUp(): void {
    if (this.isDown) throw new TfsError('UNAVAILABLE', 'the queue is down');
  }
}
