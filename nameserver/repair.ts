import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import {
  REPAIR_RETRY_MS_MIN,
  REPAIR_TASKS_MAX,
  REPAIR_UNREAD_MS,
  REPAIRED_QUIET_MS,
  REPAIRS_PER_SERVER_MAX,
  REPAIRS_RUNNING_MAX,
  REPLICA_ABSENT_MS,
} from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { Member, Reign } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { RepairCommands } from './repair-commands.ts';
import { planRepairs, type RepairPlan, type RepairSight } from './repair-plan.ts';
import { sealedAlike } from './sealed-alike.ts';

export interface RepairerDeps extends Omit<RepairSight, 'isUnread'> {
  readonly map: BlockMap;
  /** Sealed blocks that a server should hold and does not; what is not so any more is taken out. */
  readonly absent: Set<BlockId>;
  readonly commands: RepairCommands;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Replicas that were sealed differently are no sources of each other: they are sealed anew. */
  readonly seal: (block: BlockId, why: string) => void;
}

/** One replica that is to be made whole. */
interface Task {
  readonly block: BlockId;
  readonly target: ServerId;
  attempts: number;
  /** Monotonic: since when its disk has failed to read what nobody else has; undefined while it has not. */
  unreadSinceMs: number | undefined;
  dueAtMs: number;
  running: boolean;
  /** Records that no replica has, by the last repair. */
  lost: number;
  complaint: string;
}

/**
 * Has bad replicas of sealed blocks made whole: suspect ones, those that cannot be read, and those that are not there
 * although the block's configuration says so. Driven by the state of the map alone, so that nothing is forgotten; each
 * repair may be repeated. Nothing is ever removed by it but a file that a better one has replaced.
 */
export class Repairer {
  readonly stats = { repaired: 0, fetched: 0, failures: 0, alarms: 0 };
  readonly #deps: RepairerDeps;
  readonly #tasks = new Map<string, Task>();
  /** Replicas, by the keys of their tasks, that could not be sealed because their disk fails to read them. */
  readonly #unread = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  readonly #perServer = new Map<ServerId, number>();
  #closed = false;

  constructor(deps: RepairerDeps) {
    this.#deps = deps;
  }

  /** Replicas that are to be made whole. */
  get waiting(): number {
    return this.#tasks.size;
  }

  /** Records that no replica has, of each block that has such. */
  get lostByBlock(): ReadonlyMap<BlockId, number> {
    const byBlock = new Map<BlockId, number>();
    for (const { block, lost } of this.#tasks.values())
      if (lost > 0) byBlock.set(block, Math.max(lost, byBlock.get(block) ?? 0));
    return byBlock;
  }

  /** Records that no replica has. */
  get lostRecords(): number {
    return [...this.lostByBlock.values()].reduce((sum, lost) => sum + lost, 0);
  }

  /** All but this replica are sealed, and its disk fails to read it: it is made of theirs. */
  unread(block: BlockId, server: ServerId): void {
    this.#unread.add(keyOf(block, server));
    this.#note(block);
  }

  /** Looks at what is damaged and starts what is due. Called now and then by whoever owns the clock. */
  pump(): void {
    if (this.#closed || this.#deps.reign() === undefined) return;
    this.#look();
    this.#start();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
  }

  /** Brings the tasks up to date with the map. */
  #look(): void {
    const { map, absent } = this.#deps;
    for (const [key, task] of this.#tasks)
      if (!task.running && this.#planOf(task) === undefined) {
        this.#tasks.delete(key);
        this.#unread.delete(key);
      }
    for (const block of map.suspect) if (!this.#note(block)) return;
    for (const block of map.outdated) if (!this.#note(block)) return;
    for (const block of absent) {
      if (!this.#plans(block).some(({ isAbsent }) => isAbsent)) absent.delete(block);
      else if (!this.#note(block)) return;
    }
  }

  /** @returns false when there are enough tasks for now */
  #note(block: BlockId): boolean {
    for (const { target, isAbsent, isOutdated } of this.#plans(block)) {
      const key = keyOf(block, target);
      if (this.#tasks.has(key)) continue;
      if (this.#tasks.size >= REPAIR_TASKS_MAX) return false;
      // It may be about to report what it has, or to be told that what it has prepared counts.
      const dueAtMs = this.#deps.clock.monotonic() + (isAbsent || isOutdated ? REPLICA_ABSENT_MS : 0);
      this.#tasks.set(key, {
        ...{ block, target, attempts: 0, unreadSinceMs: undefined },
        ...{ dueAtMs, running: false, lost: 0, complaint: '' },
      });
    }
    return true;
  }

  #start(): void {
    const reign = this.#deps.reign();
    if (this.#closed || reign === undefined) return;
    const now = this.#deps.clock.monotonic();
    for (const task of this.#tasks.values()) {
      if (this.#running.size >= REPAIRS_RUNNING_MAX) return;
      if (task.running || task.dueAtMs > now) continue;
      if ((this.#perServer.get(task.target) ?? 0) >= REPAIRS_PER_SERVER_MAX) continue;
      const plan = this.#planOf(task);
      if (plan !== undefined) this.#begin(task, plan, reign);
    }
  }

  #begin(task: Task, plan: RepairPlan, reign: Reign): void {
    const { target } = task;
    task.running = true;
    this.#perServer.set(target, (this.#perServer.get(target) ?? 0) + 1);
    const run = this.#run(task, plan, reign).finally(() => {
      task.running = false;
      this.#perServer.set(target, this.#perServer.get(target)! - 1);
      this.#running.delete(run);
      this.#start();
    });
    this.#running.add(run);
  }

  #plans(block: BlockId): RepairPlan[] {
    const facts = this.#deps.map.facts(block);
    const isUnread = (of: BlockId, server: ServerId) => this.#unread.has(keyOf(of, server));
    return facts === undefined ? [] : planRepairs(facts, { ...this.#deps, isUnread });
  }

  #planOf({ block, target }: Task): RepairPlan | undefined {
    return this.#plans(block).find((plan) => plan.target === target);
  }

  async #run(task: Task, plan: RepairPlan, reign: Reign): Promise<void> {
    const { clock } = this.#deps;
    try {
      task.lost = await this.#repair(task, plan, reign);
      task.attempts = 0;
      task.unreadSinceMs = undefined;
      // The report of the replica itself says whether it is good now.
      task.dueAtMs = clock.monotonic() + (task.lost > 0 ? tunable.repairLostRetryMs : REPAIRED_QUIET_MS);
    } catch (error) {
      task.attempts++;
      this.stats.failures++;
      const retryMs = REPAIR_RETRY_MS_MIN * 2 ** Math.min(task.attempts, 16);
      task.dueAtMs = clock.monotonic() + Math.min(tunable.repairRetryMsMax, retryMs);
      const failure = toTfsError(error);
      if (failure.code === 'IO') task.unreadSinceMs ??= clock.monotonic();
      this.#complain(task, failure);
      if (failure.code !== 'CONFLICT') return;
      // Another attempt to seal it tells whether it can be read by now.
      this.#unread.delete(keyOf(task.block, task.target));
      this.#deps.seal(task.block, 'its replicas are sealed differently');
    }
  }

  /** @returns records that are lost */
  async #repair(task: Task, plan: RepairPlan, reign: Reign): Promise<number> {
    const { map, reachable, commands, clock, log } = this.#deps;
    const { block, target } = task;
    const facts = map.facts(block);
    const to = reachable(target, reign);
    if (to === undefined || facts === undefined)
      throw new TfsError('UNAVAILABLE', `server ${target} cannot be commanded now`);
    const reached = plan.sources.flatMap((server) => reachable(server, reign) ?? []);
    const sources = await sealedAlike(facts, reached, commands);
    const { whole, fetched, lost } = await commands.repair(to, {
      block,
      reign,
      generation: facts.generation,
      seal: sources.seal,
      version: facts.version,
      sources: sources.members,
      joins: false,
      mayLoseUnread: clock.monotonic() - (task.unreadSinceMs ?? clock.monotonic()) >= REPAIR_UNREAD_MS,
    });
    this.stats.fetched += fetched;
    if (whole && lost === 0) {
      this.stats.repaired++;
      log.info({ block, server: target, fetched }, 'a replica was made whole');
      return 0;
    }
    // What was sealed as lost is lost, whoever is away.
    if (whole || (plan.isEveryone && sources.members.length === plan.sources.length)) {
      if (task.lost !== lost) {
        this.stats.alarms++;
        log.error({ block, server: target, lost }, 'records verify on no replica: they are lost');
      }
      return lost;
    }
    throw new TfsError('UNAVAILABLE', `${lost} records verify on no replica that answers`);
  }

  /** Once for each reason: it is tried again for as long as it takes. */
  #complain(task: Task, failure: TfsError): void {
    const { log } = this.#deps;
    const facts = { block: task.block, server: task.target, code: failure.code, reason: failure.message };
    const isNews = task.complaint !== failure.code;
    task.complaint = failure.code;
    if (failure.code === 'CORRUPT') {
      if (isNews) this.stats.alarms++;
      log.error(facts, 'a replica cannot be repaired: somebody has to look');
    } else if (failure.code === 'INTERNAL')
      log.error({ ...facts, err: failure }, 'a repair failed; trying again');
    else log[isNews ? 'warn' : 'debug'](facts, 'a replica cannot be repaired yet');
  }
}

const keyOf = (block: BlockId, server: ServerId): string => `${block}/${server}`;
