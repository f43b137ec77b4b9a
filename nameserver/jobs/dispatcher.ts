import { toTfsError } from '../../common/errors.ts';
import type { Incarnation, ServerId } from '../../common/ids.ts';
import { isPatient, jobIdOf } from '../../common/jobs.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { JobQueues, QueuedJob } from '../../common/seams/job-queue.ts';
import { tunable } from '../../common/tunables.ts';
import type { Reign } from '../../common/wire/control.ts';
import type { BlockMap } from '../block-map.ts';
import { planBlock } from '../planner/plan-block.ts';
import type { Planner } from '../planner/planner.ts';
import type { PlanSight } from '../planner/sight.ts';
import { type Place, Priority, type Work, type WorkKind } from '../planner/work.ts';
import type { Pauses } from './pauses.ts';
import { type RoomSight, whyNoRoom } from './room.ts';

export interface DispatcherDeps {
  readonly queues: JobQueues;
  readonly planner: Pick<Planner, 'round'>;
  readonly map: BlockMap;
  readonly sight: () => PlanSight;
  readonly room: () => RoomSight;
  readonly pauses: Pick<Pauses, 'isPaused'>;
  readonly incarnationOf: (server: ServerId) => Incarnation | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead, or does not know every block. */
  readonly reign: () => Reign | undefined;
  /** A planted bug in tests: ids that are used again. */
  readonly idOf?: typeof jobIdOf;
  /** There is no queue: what cannot wait is done without. */
  readonly direct: (wanted: readonly Work[]) => void;
}

/** A job that was put into a queue, as far as is known. */
interface Queued {
  readonly kind: WorkKind;
  /** Monotonic. */
  readonly atMs: number;
  isTaken: boolean;
}

/**
 * Keeps the queues filled with the most urgent work, a few jobs for each DataServer at a time, so that what becomes
 * urgent does not wait behind a day's work. It remembers what it queued only to save trouble: whatever a queue loses is
 * wanted again in the next round.
 */
export class Dispatcher {
  readonly stats = { queued: 0 };
  readonly #deps: DispatcherDeps;
  /** By server and then kind and block. */
  readonly #queued = new Map<ServerId, Map<string, Queued>>();
  /** Whose jobs those are. */
  readonly #incarnations = new Map<ServerId, Incarnation>();
  #reign: Reign | undefined;
  #round = 0;
  #filledAtMs = Number.NEGATIVE_INFINITY;
  #filling: Promise<void> | undefined;
  #trouble: string | undefined;
  #closed = false;

  constructor(deps: DispatcherDeps) {
    this.#deps = deps;
  }

  /** Why nothing can be queued, as far as was found out; undefined while it can. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Called now and then by whoever owns the clock. */
  pump(): void {
    const { clock, reign, planner, pauses } = this.#deps;
    const now = clock.monotonic();
    const leading = reign();
    if (this.#closed || leading === undefined || planner.round === undefined) return;
    if (this.#reign?.epoch !== leading.epoch) this.#begin(leading);
    if (this.#filling !== undefined || now - this.#filledAtMs < tunable.queueFillMs) return;
    this.#filledAtMs = now;
    const wanted = planner.round.wanted.filter(({ kind }) => !pauses.isPaused(kind));
    this.#filling = this.#fill(leading, wanted).finally(() => {
      this.#filling = undefined;
    });
  }

  /** A worker has come with it. */
  taken(place: Place, isWanted: boolean): void {
    const queued = this.#queued.get(place.server)?.get(keyOf(place));
    if (queued === undefined) return;
    queued.isTaken = true;
    if (!isWanted) this.ended(place);
  }

  /** It is in the queue no more. What failed is: the queue tries it again. */
  ended(place: Place): void {
    this.#queued.get(place.server)?.delete(keyOf(place));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#filling;
  }

  #begin(reign: Reign): void {
    this.#reign = reign;
    this.#queued.clear();
  }

  async #fill(reign: Reign, wanted: readonly Work[]): Promise<void> {
    const { queues, direct } = this.#deps;
    try {
      await queues.check();
      const byServer = new Map<ServerId, Work[]>();
      for (const work of wanted) {
        const works = byServer.get(work.target);
        if (works === undefined) byServer.set(work.target, [work]);
        else works.push(work);
      }
      for (const [server, works] of byServer) await this.#fillOne(reign, server, works);
      this.#found(undefined);
    } catch (error) {
      const failure = toTfsError(error);
      this.#found(failure.message, failure.code === 'CONFIG');
      // What is in it may be gone when it is back.
      this.#queued.clear();
      if (!this.#closed) direct(wanted);
    }
  }

  async #fillOne(reign: Reign, server: ServerId, works: readonly Work[]): Promise<void> {
    const { queues, clock, idOf = jobIdOf } = this.#deps;
    const { waiting, running } = await queues.counts(server);
    const now = clock.monotonic();
    const queued = this.#queued.get(server) ?? new Map<string, Queued>();
    this.#queued.set(server, queued);
    if (this.#isNewProcess(server)) queued.clear();
    // An empty queue holds nothing of what was put into it.
    if (waiting + running === 0) queued.clear();
    for (const [key, { atMs }] of queued) if (now - atMs >= tunable.queuedAgainMs) queued.delete(key);
    const sight = this.#deps.sight();
    const jobs: QueuedJob[] = [];
    this.#round++;
    for (const work of works) {
      const { kind, block, priority } = work;
      if (waiting + jobs.length >= placesFor(priority)) break;
      const key = keyOf(work);
      // What costs least first: most of a long list is told apart by that.
      if (queued.has(key) || !this.#hasRoom(work, queued) || !this.#isStillWanted(work, sight)) continue;
      const payload = { kind, block, round: this.#round };
      jobs.push({ id: idOf(payload, reign.epoch), priority, payload });
      queued.set(key, { kind, atMs: now, isTaken: false });
    }
    if (jobs.length === 0 || this.#closed) return;
    await queues.add(server, jobs);
    this.stats.queued += jobs.length;
  }

  /** What a process had taken is lost with it, and the queue finds that out after half a minute or more. */
  #isNewProcess(server: ServerId): boolean {
    const incarnation = this.#deps.incarnationOf(server);
    const before = this.#incarnations.get(server);
    if (incarnation === undefined || incarnation === before) return false;
    this.#incarnations.set(server, incarnation);
    return before !== undefined;
  }

  /** The list is as old as the last round over the map. */
  #isStillWanted({ kind, block, target }: Work, sight: PlanSight): boolean {
    const facts = this.#deps.map.facts(block);
    if (facts === undefined) return false;
    return planBlock(facts, sight).work.some((work) => work.kind === kind && work.target === target);
  }

  /** Of the kinds of which a server does one job at a time one is queued at a time. */
  #hasRoom({ kind, block, target: server }: Work, queued: ReadonlyMap<string, Queued>): boolean {
    if (!isPatient(kind)) return true;
    for (const other of queued.values()) if (!other.isTaken && isPatient(other.kind)) return false;
    return whyNoRoom({ kind, block, server }, this.#deps.room()) === undefined;
  }

  #found(trouble: string | undefined, isAlarm = false): void {
    const { log } = this.#deps;
    if (trouble !== undefined && this.#trouble === undefined) {
      if (isAlarm) log.error({ reason: trouble }, 'the job queue is not used: only what cannot wait is done');
      else log.warn({ reason: trouble }, 'no job queue: only what cannot wait is done until it is back');
    }
    if (trouble === undefined && this.#trouble !== undefined) log.info('the job queue is used again');
    this.#trouble = trouble;
  }
}

const keyOf = ({ kind, block }: Pick<Place, 'kind' | 'block'>): string => `${kind} ${block}`;

const placesFor = (priority: number): number =>
  priority <= Priority.WRONG_DOMAIN
    ? tunable.queuedJobsPerServerMax
    : tunable.queuedJobsPerServerMax - tunable.queuedUrgentPlaces;
