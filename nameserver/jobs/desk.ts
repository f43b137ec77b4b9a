import { isTfsError } from '../../common/errors.ts';
import type { BlockId, Incarnation, ServerId } from '../../common/ids.ts';
import { GRANTS_MAX } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import { mark } from '../../common/marks.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { tunable } from '../../common/tunables.ts';
import type { Member, Reign } from '../../common/wire/control.ts';
import {
  type EndJob,
  type JobOrder,
  reasonOf,
  type TakeJob,
  type TakeJobReply,
} from '../../common/wire/jobs.ts';
import type { BlockMap } from '../block-map.ts';
import type { Compaction } from '../compaction.ts';
import type { ErasureList } from '../erasure-list.ts';
import { planBlock } from '../planner/plan-block.ts';
import type { PlanSight } from '../planner/sight.ts';
import type { Work } from '../planner/work.ts';
import type { Repairer } from '../repair.ts';
import type { RepairCommands } from '../repair-commands.ts';
import { Failures } from './failures.ts';
import { type Grant, Grants } from './grants.ts';
import { ORDERS } from './orders.ts';
import type { Pauses } from './pauses.ts';
import { jobMsMax, type Rates, shareOf } from './rates.ts';
import { type RoomSight, whyNoRoom } from './room.ts';

export interface JobDeskDeps {
  readonly map: BlockMap;
  readonly clock: Clock;
  readonly log: Log;
  readonly rates: Rates;
  readonly isViewComplete: () => boolean;
  readonly garbage: GarbageSight;
  readonly erasures: Pick<ErasureList, 'has'>;
  readonly repairer: Pick<Repairer, 'lostByBlock'>;
  readonly pauses: Pick<Pauses, 'isPaused'>;
  readonly commands: Pick<RepairCommands, 'blockHead'>;
  /** All DataServers; what is under way on them and what is parked this class knows. */
  readonly servers: () => PlanSight['servers'];
  /** Undefined while this NameServer does not lead, or does not know every block. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Replicas that were sealed differently are no sources of each other: they are sealed anew. */
  readonly seal: (block: BlockId, why: string) => void;
}

/** Of compaction, what the planning has to know. */
export type GarbageSight = Pick<Compaction, 'garbagePercent' | 'isLeftAlone'>;

/** Who asks, and for what. */
export type JobAsk = Pick<TakeJob, 'kind' | 'block' | 'server' | 'incarnation'>;

/**
 * Where workers ask whether a job is still wanted, and what exactly is to be done: the leader plans that block again,
 * from its map and by the same rules, and notes who does what. Nothing is done on a queue's word.
 */
export class JobDesk {
  readonly stats = { granted: 0, refused: 0, done: 0, failed: 0, bytes: 0, copiedBytes: 0 };
  readonly grants = new Grants();
  readonly failures: Failures;
  readonly #deps: JobDeskDeps;
  #reign: Reign | undefined;

  constructor(deps: JobDeskDeps) {
    this.#deps = deps;
    this.failures = new Failures(deps.clock);
  }

  /** For the planning of any block, now. */
  sight(): PlanSight {
    // Only some of those who look at blocks ask.
    let lossy: ReadonlyMap<BlockId, number> | undefined;
    return {
      servers: this.#deps.servers(),
      making: (block) => this.grants.makersOf(block),
      isUnderWay: (place) => this.grants.of(place) !== undefined,
      isParked: (place) => this.failures.isParked(place),
      isViewComplete: this.#deps.isViewComplete(),
      garbagePercent: this.#deps.garbage.garbagePercent,
      isLeftAlone: (block) => this.#deps.garbage.isLeftAlone(block),
      isLossy: (block) => {
        lossy ??= this.#deps.repairer.lostByBlock;
        return lossy.has(block);
      },
      isErased: (block) => this.#deps.erasures.has(block),
    };
  }

  /** For {@link whyNoRoom}. */
  get room(): RoomSight {
    return { grants: this.grants, facts: (block) => this.#deps.map.facts(block) };
  }

  /** TAKE_JOB from a DataServer that has registered. @throws TfsError as {@link give} */
  async take(ask: TakeJob): Promise<TakeJobReply> {
    const given = await this.give(ask);
    if (typeof given !== 'string') return given;
    this.stats.refused++;
    mark('job-refused');
    const { kind, block, server, round } = ask;
    this.#deps.log.debug({ kind, block, server, round, why: given }, 'a job is not wanted any more');
    return { answer: 'unwanted', why: reasonOf(given) };
  }

  /**
   * Decides, and notes what is ordered.
   *
   * @returns the order; or why there is none
   * @throws TfsError UNAVAILABLE where it is wanted and cannot be ordered now, CONFLICT where replicas disagree
   */
  async give(ask: JobAsk): Promise<JobOrder | string> {
    const reign = this.#deps.reign();
    if (reign === undefined) return 'this NameServer does not lead, or has not heard of every block';
    this.#begin(reign);
    if (this.#deps.pauses.isPaused(ask.kind)) return `an operator has paused jobs of the kind ${ask.kind}`;
    const before = this.grants.of(ask);
    if (before === undefined && this.grants.size >= GRANTS_MAX) return 'too much is under way';
    const work = this.#wanted(ask, this.sight());
    if (typeof work === 'string') return work;
    const full = whyNoRoom(ask, this.room);
    if (full !== undefined) return full;
    const facts = this.#deps.map.facts(ask.block)!;
    // Noted before anything is waited for: nobody else is to be given the same meanwhile.
    if (before !== undefined) this.grants.end(before);
    const { grant, bytesPerSecond, msMax } = this.#note(ask, work);
    try {
      const ordered = await ORDERS[ask.kind](facts, { ...this.#deps, reign, server: ask.server });
      this.stats.granted++;
      return { ...ordered, bytesPerSecond, msMax };
    } catch (error) {
      this.grants.end(grant);
      if (isTfsError(error, 'CONFLICT')) this.#deps.seal(ask.block, 'its replicas are sealed differently');
      throw error;
    }
  }

  /** END_JOB, or the end of what was done directly. */
  end({ kind, block, server, incarnation, failure, bytes }: EndJob): void {
    const grant = this.grants.of({ kind, block, server });
    if (grant === undefined || grant.kind !== kind || grant.incarnation !== incarnation || grant.isDone)
      return;
    this.stats.bytes += bytes;
    if (kind === 'replicate') this.stats.copiedBytes += bytes;
    if (failure !== undefined) this.#failed(grant, failure);
    else {
      this.stats.done++;
      this.failures.succeeded(grant);
      // Its place is kept until the map shows what was done.
      grant.isDone = true;
      grant.untilMs = this.#deps.clock.monotonic() + tunable.jobReportedMs;
    }
  }

  /** Takes back what nobody can be doing any more, and what is done. To be called now and then. */
  tidy(incarnationOf: (server: ServerId) => Incarnation | undefined): void {
    const reign = this.#deps.reign();
    if (reign === undefined) return;
    this.#begin(reign);
    const now = this.#deps.clock.monotonic();
    let sight: PlanSight | undefined;
    for (const grant of [...this.grants.all()]) {
      const incarnation = incarnationOf(grant.server);
      const isRestarted = incarnation !== undefined && incarnation !== grant.incarnation;
      const isOver = isRestarted || now >= grant.untilMs;
      if (!isOver && !grant.isDone) continue;
      sight ??= this.sight();
      const isWanted = typeof this.#wanted(grant, sight) !== 'string';
      if (!isWanted || (isOver && grant.isDone)) this.grants.end(grant);
      else if (isOver)
        this.#failed(grant, isRestarted ? 'its DataServer was started again' : 'it did not end in time');
    }
  }

  /** What was ordered under another reign ends by itself: it is refused when it is to count. */
  #begin(reign: Reign): void {
    if (this.#reign?.epoch === reign.epoch) return;
    this.#reign = reign;
    this.grants.clear();
    this.failures.clear();
  }

  /** @returns the work; or why it is not wanted of this server */
  #wanted({ kind, block, server }: JobAsk, sight: PlanSight): Work | string {
    const facts = this.#deps.map.facts(block);
    if (facts === undefined) return `block ${block} is not known`;
    if (this.failures.isParked({ kind, block, server }))
      return `it failed on server ${server} several times: it is left alone there for a while`;
    const plan = planBlock(facts, onlyOn(server, sight));
    const work = plan.work.find((one) => one.kind === kind && one.target === server);
    if (work !== undefined) return work;
    const why = plan.blocked.find((one) => one.kind === kind)?.why;
    return why ?? 'nothing of that kind is to be done for this block';
  }

  #note(ask: JobAsk, { reason, priority, bytes }: Work) {
    const { clock, rates, servers } = this.#deps;
    // Those whose disks take no copies scrub all the same.
    const working = [...servers().values()].filter(({ isCurrent }) => isCurrent);
    const bytesPerSecond = shareOf(rates, working.length);
    const msMax = jobMsMax(bytes, bytesPerSecond);
    const sinceMs = clock.monotonic();
    const { kind, block, server, incarnation } = ask;
    const grant: Grant = {
      kind,
      block,
      server,
      incarnation,
      reason,
      priority,
      bytes,
      sinceMs,
      untilMs: sinceMs + msMax + tunable.jobGrantSlackMs,
      isDone: false,
    };
    this.grants.add(grant);
    return { grant, bytesPerSecond, msMax };
  }

  #failed(grant: Grant, reason: string): void {
    const { kind, block, server } = grant;
    this.grants.end(grant);
    this.stats.failed++;
    mark('job-failed');
    const { count } = this.failures.failed(grant, reason);
    const facts = { kind, block, server, count, reason };
    if (this.failures.isParked(grant)) {
      mark('job-parked');
      this.#deps.log.error(facts, 'a job fails again and again: it is left alone there for a while');
    } else this.#deps.log.info(facts, 'a job failed');
  }
}

/**
 * The same, where nobody but this server takes anything new, and its own work does not stand in its way: it asks, and may
 * not be the first choice any more.
 */
function onlyOn(server: ServerId, sight: PlanSight): PlanSight {
  const others = [...sight.servers].map(([id, one]): [ServerId, typeof one] => [
    id,
    id === server ? one : { ...one, refuses: one.refuses ?? 'another server asks' },
  ]);
  return {
    ...sight,
    servers: new Map(others),
    making: (block) => sight.making(block).filter((one) => one !== server),
    isUnderWay: (place) => place.server !== server && sight.isUnderWay(place),
  };
}
