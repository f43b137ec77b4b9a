import { TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId, Incarnation, ServerId } from '../../common/ids.ts';
import { decodeJob, type JobPayload, TASKS } from '../../common/jobs.ts';
import { JOB_BYTES_PER_SECOND_DEFAULT, RPC_MS_DEFAULT } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { JobQueues, JobTaker, TakenJob } from '../../common/seams/job-queue.ts';
import { zEmpty } from '../../common/wire/control.ts';
import { type JobOrder, reasonOf, zTakeJobReply } from '../../common/wire/jobs.ts';
import { Op } from '../../common/wire/messages.ts';
import type { NameServers } from '../nameservers.ts';
import type { Pace, ReplicaRepair } from '../repair.ts';
import type { Scrubber } from '../scrub/scrubber.ts';
import { carryOut, lengthOf } from './executors.ts';
import { TokenBucket } from './token-bucket.ts';

export interface JobWorkerDeps {
  readonly server: ServerId;
  readonly incarnation: Incarnation;
  readonly queues: JobQueues;
  /** Jobs at a time. */
  readonly concurrency: number;
  readonly nameservers: Pick<NameServers, 'callLeader'>;
  readonly repair: Pick<ReplicaRepair, 'make'>;
  readonly scrubber: Pick<Scrubber, 'readThrough'>;
  readonly clock: Clock;
  readonly log: Log;
  /** A planted bug in tests: what is not wanted is let go of, on the queue's word. */
  readonly dropUnwanted?: (block: BlockId) => Promise<unknown>;
}

/**
 * Takes jobs of this DataServer's queue. Of a job it believes no more than that there may be something to do with a
 * block: what is to be done the leader says, under its reign, when it is asked.
 */
export class JobWorker {
  readonly stats = { done: 0, unwanted: 0, failed: 0, bytes: 0 };
  readonly #deps: JobWorkerDeps;
  readonly #bucket: TokenBucket;
  /** By kind and block: the same job may come several times, also at once. */
  readonly #running = new Map<string, Promise<string>>();
  #taker: JobTaker | undefined;
  #closed = false;

  constructor(deps: JobWorkerDeps) {
    this.#deps = deps;
    this.#bucket = new TokenBucket(deps.clock, JOB_BYTES_PER_SECOND_DEFAULT);
  }

  get running(): number {
    return this.#running.size;
  }

  start(): void {
    const { queues, server, concurrency } = this.#deps;
    this.#taker = queues.work(server, { concurrency, handle: (job) => this.handle(job) });
  }

  /** Takes no more; what runs is given up. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#taker?.close();
  }

  /** @returns what became of it @throws TfsError where it is to be tried again */
  async handle(job: TakenJob): Promise<string> {
    const payload = this.#decoded(job);
    if (payload === undefined) return 'not a job';
    const key = `${payload.kind} ${payload.block}`;
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const run = this.#run(payload, job).finally(() => this.#running.delete(key));
    this.#running.set(key, run);
    return run;
  }

  #decoded({ id, payload }: TakenJob): JobPayload | undefined {
    try {
      return decodeJob(payload);
    } catch (error) {
      this.stats.unwanted++;
      this.#deps.log.warn(
        { id, reason: toTfsError(error).message },
        'something in the job queue is not a job',
      );
      return undefined;
    }
  }

  async #run(payload: JobPayload, job: TakenJob): Promise<string> {
    const { server, incarnation, nameservers, clock } = this.#deps;
    const { kind, block, round } = payload;
    const askedAtMs = clock.monotonic();
    const ask = { kind, block, server, incarnation, round };
    const answer = await nameservers.callLeader(Op.TAKE_JOB, ask, zTakeJobReply, 2 * RPC_MS_DEFAULT);
    if (answer.answer === 'unwanted') {
      this.stats.unwanted++;
      if (TASKS[kind] === 'copy') await this.#deps.dropUnwanted?.(block);
      return `not wanted: ${answer.why}`;
    }
    const pace = this.#pace(answer, askedAtMs, job);
    try {
      await carryOut(answer, { ...this.#deps, pace, moved: pace.moved });
    } catch (error) {
      this.stats.failed++;
      await this.#end(payload, { failure: reasonOf(toTfsError(error).message), bytes: pace.bytes });
      throw error;
    }
    this.stats.done++;
    await this.#end(payload, { bytes: pace.bytes });
    return 'done';
  }

  #pace(
    order: JobOrder,
    askedAtMs: number,
    job: TakenJob,
  ): Pace & { bytes: number; moved: (bytes: number) => void } {
    const { clock } = this.#deps;
    const { bytesPerSecond, msMax } = order;
    this.#bucket.bytesPerSecond = bytesPerSecond;
    let percent = 0;
    const pace = {
      bytes: 0,
      moved: (bytes: number) => {
        pace.bytes += bytes;
        this.stats.bytes += bytes;
      },
      came: async (bytes: number) => {
        pace.moved(bytes);
        const reached = Math.min(99, Math.floor((100 * pace.bytes) / lengthOf(order)));
        if (reached > percent) job.progress(reached);
        percent = Math.max(percent, reached);
        await this.#bucket.take(bytes);
      },
      assertInTime: () => {
        if (this.#closed) throw new TfsError('CLOSED', 'this DataServer is stopping');
        if (clock.monotonic() - askedAtMs >= msMax)
          throw new TfsError(
            'DEADLINE',
            `a job that was to be over within ${Math.round(msMax / 1000)} s was not`,
          );
      },
    };
    return pace;
  }

  /** The leader finds out by itself, a little later, where it cannot be told. */
  async #end(
    { kind, block }: JobPayload,
    outcome: { readonly failure?: string; readonly bytes: number },
  ): Promise<void> {
    const { server, incarnation, nameservers, log } = this.#deps;
    try {
      await nameservers.callLeader(Op.END_JOB, { kind, block, server, incarnation, ...outcome }, zEmpty);
    } catch (error) {
      log.debug(
        { kind, block, reason: toTfsError(error).message },
        'the leader does not know how a job ended',
      );
    }
  }
}
