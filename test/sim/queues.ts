import { TfsError } from '../../common/errors.ts';
import type { ServerId } from '../../common/ids.ts';
import { JOB_ATTEMPTS_MAX, JOB_BACKOFF_MS } from '../../common/limits.ts';
import type { JobHandler, JobListing, JobQueues, QueuedJob, SeenJob } from '../../common/seams/job-queue.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { SimProcess } from './process.ts';
import type { Scheduler } from './scheduler.ts';

/** Shares of the jobs, 0..1. */
export interface QueueFaults {
  readonly loses?: number;
  readonly repeats?: number;
  readonly reorders?: number;
  /** Handed out up to {@link LATE_MS_MAX} late: as stale as a seed is long. */
  readonly delays?: number;
}

interface Entry {
  readonly job: QueuedJob;
  readonly queuedAtMs: number;
  dueAtMs: number;
  attempts: number;
  state: JobListing;
  note: string;
}

interface Taker {
  readonly process: SimProcess;
  readonly concurrency: number;
  readonly handle: JobHandler;
  running: number;
  isClosed: boolean;
}

const CALL_MS = 1;
const LOOK_MS = 500;
const LATE_MS_MAX = 120_000;
/** The library gives a job back this long after its worker was last heard of. */
const STALLED_MS = 30_000;

/** The queues of jobs, which outlive the processes that use them; and lose, repeat, reorder and delay what is put there. */
export class SimQueues {
  isDown = false;
  faults: QueueFaults = {};
  /** What was done to the jobs. */
  readonly counts = { added: 0, lost: 0, repeated: 0, reordered: 0, delayed: 0 };
  readonly #scheduler: Scheduler;
  readonly #random: SeededRandom;
  readonly #isReachable: (process: SimProcess) => boolean;
  readonly #entries = new Map<ServerId, Entry[]>();
  readonly #takers = new Map<ServerId, Set<Taker>>();
  readonly #looking = new Set<ServerId>();
  #seen = new Set<string>();

  constructor(scheduler: Scheduler, seed: number, isReachable: (process: SimProcess) => boolean) {
    this.#scheduler = scheduler;
    this.#random = new SeededRandom(seed);
    this.#isReachable = isReachable;
  }

  /** The queues as this process reaches them. */
  of(process: SimProcess): JobQueues {
    const call = <T>(what: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        process.at(CALL_MS, 'queue', () => {
          if (this.isDown || !this.#isReachable(process))
            reject(new TfsError('UNAVAILABLE', 'the queue does not answer'));
          else resolve(what());
        });
      });
    return {
      check: () => call(() => undefined),
      add: (server, jobs) => call(() => this.#add(server, jobs)),
      counts: (server) =>
        call(() => {
          const count = (state: JobListing) =>
            this.#of(server).filter((entry) => entry.state === state).length;
          return { waiting: count('waiting'), running: count('running'), parked: count('parked') };
        }),
      list: (server, listing, max) => call(() => this.#list(server, listing, max)),
      work: (server, { concurrency, handle }) => {
        const taker: Taker = { process, concurrency, handle, running: 0, isClosed: false };
        const takers = this.#takers.get(server) ?? new Set();
        this.#takers.set(server, takers.add(taker));
        const close = () => {
          taker.isClosed = true;
          takers.delete(taker);
        };
        process.onKilled.push(close);
        this.#offer(server);
        return { close: async () => close() };
      },
      close: async () => undefined,
    };
  }

  flush(): void {
    this.#entries.clear();
    this.#seen = new Set();
  }

  #add(server: ServerId, jobs: readonly QueuedJob[]): void {
    for (const job of jobs) {
      const id = `${server} ${job.id}`;
      if (this.#seen.has(id)) continue;
      this.#seen.add(id);
      this.counts.added++;
      if (this.#happens(this.faults.loses)) {
        this.counts.lost++;
        continue;
      }
      this.#push(server, job);
      for (let more = 3; more > 0 && this.#happens(this.faults.repeats); more--) {
        this.counts.repeated++;
        this.#push(server, job);
      }
    }
  }

  #push(server: ServerId, job: QueuedJob): void {
    let lateMs = 0;
    if (this.#happens(this.faults.delays)) {
      this.counts.delayed++;
      lateMs = this.#random.float() * LATE_MS_MAX;
    }
    const now = this.#scheduler.now;
    const entry: Entry = {
      job,
      queuedAtMs: now,
      dueAtMs: now + lateMs,
      attempts: 0,
      state: 'waiting',
      note: '',
    };
    this.#of(server).push(entry);
    this.#offerIn(server, lateMs + CALL_MS);
  }

  #list(server: ServerId, listing: JobListing, max: number): SeenJob[] {
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
        ageMs: this.#scheduler.now - queuedAtMs,
        note,
      }));
  }

  #offerIn(server: ServerId, ms: number): void {
    this.#scheduler.at(ms, undefined, 'offer', () => this.#offer(server));
  }

  /** While nobody can be reached there is one look at a time. */
  #lookAgain(server: ServerId): void {
    if (this.#looking.has(server) || this.#of(server).length === 0) return;
    this.#looking.add(server);
    this.#scheduler.at(LOOK_MS, undefined, 'offer', () => {
      this.#looking.delete(server);
      this.#offer(server);
    });
  }

  #offer(server: ServerId): void {
    for (const taker of this.#takers.get(server) ?? [])
      while (taker.running < taker.concurrency && !taker.isClosed) {
        if (this.isDown || !this.#isReachable(taker.process)) {
          this.#lookAgain(server);
          return;
        }
        const entry = this.#next(server);
        if (entry === undefined) return;
        entry.state = 'running';
        entry.attempts++;
        taker.running++;
        taker.process.onKilled.push(() =>
          this.#scheduler.at(STALLED_MS, undefined, 'stalled', () => {
            if (entry.state !== 'running') return;
            entry.state = 'waiting';
            this.#offer(server);
          }),
        );
        taker.process.at(CALL_MS, 'job', () => void this.#handle(server, entry, taker));
      }
  }

  async #handle(server: ServerId, entry: Entry, taker: Taker): Promise<void> {
    const { id, payload } = entry.job;
    try {
      await taker.handle({
        id,
        payload: JSON.parse(JSON.stringify(payload)),
        progress: () => undefined,
      });
      const entries = this.#of(server);
      const at = entries.indexOf(entry);
      if (at >= 0) entries.splice(at, 1);
    } catch (error) {
      entry.note = (error as Error).message;
      const againMs = JOB_BACKOFF_MS * 2 ** (entry.attempts - 1);
      entry.dueAtMs = this.#scheduler.now + againMs;
      entry.state = entry.attempts < JOB_ATTEMPTS_MAX ? 'waiting' : 'parked';
      this.#offerIn(server, againMs);
    }
    taker.running--;
    this.#offerIn(server, 0);
  }

  #next(server: ServerId): Entry | undefined {
    const due = this.#of(server).filter(
      ({ state, dueAtMs }) => state === 'waiting' && dueAtMs <= this.#scheduler.now,
    );
    due.sort((a, b) => a.job.priority - b.job.priority);
    if (due.length < 2 || !this.#happens(this.faults.reorders)) return due[0];
    this.counts.reordered++;
    return due.at(-1);
  }

  #of(server: ServerId): Entry[] {
    let entries = this.#entries.get(server);
    if (entries === undefined) {
      entries = [];
      this.#entries.set(server, entries);
    }
    return entries;
  }

  #happens(share = 0): boolean {
    return share > 0 && this.#random.float() < share;
  }
}
