import type { BlockId, ServerId } from '../../common/ids.ts';
import type { jobIdOf } from '../../common/jobs.ts';
import { JOB_BYTES_PER_SECOND_DEFAULT } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { JobQueues } from '../../common/seams/job-queue.ts';
import type { Member, Reign } from '../../common/wire/control.ts';
import type { EndJob, TakeJob, TakeJobReply } from '../../common/wire/jobs.ts';
import type { BlockMap } from '../block-map.ts';
import type { ErasureList } from '../erasure-list.ts';
import type { NameServerFaults } from '../faults.ts';
import type { Members } from '../members.ts';
import { Planner } from '../planner/planner.ts';
import { serversOf } from '../planner/sight-of.ts';
import type { Repairer } from '../repair.ts';
import type { RepairCommands } from '../repair-commands.ts';
import { type GarbageSight, JobDesk } from './desk.ts';
import { DirectJobs } from './direct.ts';
import { Dispatcher } from './dispatcher.ts';
import { JobAnswers } from './job-answers.ts';
import type { Pauses } from './pauses.ts';
import { RateMeter } from './rate-meter.ts';
import type { Rates } from './rates.ts';

export interface JobsDeps extends Partial<Rates> {
  readonly queues?: JobQueues;
  readonly pauses: Pauses;
  readonly map: BlockMap;
  readonly members: Members;
  readonly commands: RepairCommands;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  readonly isCurrent: (server: ServerId) => boolean;
  readonly isViewComplete: () => boolean;
  /** A server that was silent for so long is not waited for any more. */
  readonly deadMs: number;
  readonly seal: (block: BlockId, why: string) => void;
  readonly garbage: GarbageSight;
  readonly erasures: Pick<ErasureList, 'has'>;
  readonly repairer: Pick<Repairer, 'lostByBlock'>;
  readonly faults?: NameServerFaults;
}

/** All work on blocks that can wait: what is wanted, what is queued, who is at it. */
export class Jobs {
  readonly planner: Planner;
  readonly desk: JobDesk;
  readonly direct: DirectJobs;
  readonly dispatcher: Dispatcher | undefined;
  readonly answers: JobAnswers;
  readonly #rate = new RateMeter();
  /** Of copies that are missing alone. */
  readonly #copyRate = new RateMeter();
  readonly #deps: JobsDeps;

  constructor(deps: JobsDeps) {
    this.#deps = deps;
    const { map, queues, clusterBytesPerSecond, bytesPerSecond = JOB_BYTES_PER_SECOND_DEFAULT } = deps;
    // Who does not know every block, or whom nobody obeys, wants nothing.
    const reign = () => (deps.isViewComplete() ? deps.reign() : undefined);
    const shared = { ...deps, reign };
    this.desk = new JobDesk({
      ...shared,
      rates: { bytesPerSecond, clusterBytesPerSecond },
      servers: () => serversOf(deps),
    });
    this.planner = new Planner({ map, sight: () => this.desk.sight() });
    this.direct = new DirectJobs({ ...shared, desk: this.desk });
    this.dispatcher =
      queues &&
      new Dispatcher({
        ...shared,
        queues,
        planner: this.planner,
        sight: () => this.desk.sight(),
        room: () => this.desk.room,
        incarnationOf: (server) => deps.members.get(server)?.record.incarnation,
        direct: (wanted) => this.direct.run(wanted),
        ...(deps.faults?.has('reuse-job-id') ? { idOf: idOfWork } : {}),
      });
    this.answers = new JobAnswers({
      ...deps,
      queues,
      planner: this.planner,
      desk: this.desk,
      dispatcher: this.dispatcher,
      rate: this.#rate,
      copyRate: this.#copyRate,
    });
  }

  /** There is a queue, and it works as far as is known. */
  get isQueued(): boolean {
    return this.dispatcher !== undefined && this.dispatcher.trouble === undefined;
  }

  get pauses(): Pauses {
    return this.#deps.pauses;
  }

  /** Called now and then by whoever owns the clock. */
  pump(): void {
    const { members, reign, isViewComplete, clock } = this.#deps;
    if (reign() === undefined || !isViewComplete()) {
      this.planner.forget();
      this.#rate.clear();
      this.#copyRate.clear();
      return;
    }
    const { desk, planner } = this;
    const now = clock.monotonic();
    // The rate is that of the work there is, and not of a quiet hour, or of the wait for a first job, before it.
    for (const [rate, bytes] of [
      [this.#rate, desk.stats.bytes],
      [this.#copyRate, desk.stats.copiedBytes],
    ] as const) {
      const isIdle = planner.round?.wanted.length === 0 || rate.perSecond === 0;
      if (desk.grants.size === 0 && isIdle) rate.clear();
      rate.note(now, bytes);
    }
    this.desk.tidy((server) => members.get(server)?.record.incarnation);
    this.planner.step();
    this.dispatcher?.pump();
  }

  /** TAKE_JOB. @throws TfsError UNREGISTERED; as {@link JobDesk.give} */
  async take(ask: TakeJob): Promise<TakeJobReply> {
    this.#deps.members.hear(ask.server, ask.incarnation);
    const answer = await this.desk.take(ask);
    this.dispatcher?.taken(ask, answer.answer !== 'unwanted');
    return answer;
  }

  /** END_JOB. @throws TfsError UNREGISTERED */
  end(end: EndJob): void {
    this.#deps.members.hear(end.server, end.incarnation);
    this.desk.end(end);
    if (end.failure === undefined) this.dispatcher?.ended(end);
  }

  async close(): Promise<void> {
    await Promise.all([this.dispatcher?.close(), this.direct.close()]);
  }
}

/** A planted bug. */
const idOfWork: typeof jobIdOf = ({ kind, block }) => `${kind}-${block}`;
