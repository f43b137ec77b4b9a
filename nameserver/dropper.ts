import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import {
  DROP_LOOKS_PER_TURN_MAX,
  DROP_RETRY_MS_MIN,
  DROPS_PER_SERVER_MAX,
  DROPS_RUNNING_MAX,
  DROPS_WAITING_MAX,
} from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { Drop, Member, Reign } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Configurer } from './configurer.ts';
import type { DropCommands } from './drop-commands.ts';
import { type DropPlan, type DropSight, planDrop } from './drop-plan.ts';

export interface DropperDeps extends DropSight {
  readonly map: Pick<BlockMap, 'facts' | 'absent' | 'forget' | 'staleServers' | 'staleOf'>;
  /** Sealed blocks without a record; what is not so any more is taken out. */
  readonly empty: Set<BlockId>;
  readonly commands: DropCommands;
  readonly configurer: Pick<Configurer, 'leaveOut' | 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  /** Undefined while the server cannot be commanded. */
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Known servers of which this leader does not know all that they hold. */
  readonly missing: () => readonly ServerId[];
  /** Whether every block is known: nothing is let go of without. */
  readonly isViewComplete: () => boolean;
}

/** A block that is tried again later. */
interface Waiting {
  attempts: number;
  dueAtMs: number;
  /** The replica holds a version that nobody has finished: a new one has to begin before it can go. */
  renew: ServerId | undefined;
  complaint: string;
}

/**
 * Has replicas let go of that their blocks do not need: those of servers that came back when others had taken their
 * place, those that were copied elsewhere, and all replicas of blocks that hold nothing. Driven by the state of the map
 * alone; each step is decided anew, with what is known at that moment, and may be repeated.
 */
export class Dropper {
  readonly stats = { dropped: 0, retired: 0, leftOut: 0, failures: 0 };
  readonly #deps: DropperDeps;
  readonly #running = new Map<BlockId, Promise<void>>();
  readonly #perServer = new Map<ServerId, number>();
  readonly #waiting = new Map<BlockId, Waiting>();
  /** Blocks to be looked at in this round. */
  #round: BlockId[] = [];
  #closed = false;

  constructor(deps: DropperDeps) {
    this.#deps = deps;
  }

  /** Blocks with a replica that could not be let go of yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Looks at some blocks with replicas outside of their configuration, and starts what is due. Called now and then. */
  pump(): void {
    if (!this.#mayAct()) return;
    const now = this.#deps.clock.monotonic();
    // First what was begun: a member that has been told is left out before that is taken back, and not told once more.
    for (const block of this.#due(now)) {
      if (this.#running.size >= DROPS_RUNNING_MAX) return;
      if (!this.#running.has(block)) this.#look(block, now);
    }
    if (this.#round.length === 0) this.#round = this.#candidates();
    for (
      let looked = 0;
      looked < DROP_LOOKS_PER_TURN_MAX && this.#running.size < DROPS_RUNNING_MAX;
      looked++
    ) {
      const block = this.#round.pop();
      if (block === undefined) return;
      if (!this.#running.has(block)) this.#look(block, now);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running.values());
  }

  #mayAct(): boolean {
    const { reign, isViewComplete } = this.#deps;
    return !this.#closed && reign() !== undefined && isViewComplete();
  }

  /** Blocks that have waited long enough, the longest first. */
  #due(now: number): BlockId[] {
    return [...this.#waiting]
      .filter(([, { dueAtMs }]) => dueAtMs <= now)
      .sort(([, a], [, b]) => a.dueAtMs - b.dueAtMs)
      .map(([block]) => block);
  }

  /** Whatever is in its block's configuration, alone with those that are wanted, is needed. */
  #candidates(): BlockId[] {
    const { map, empty } = this.#deps;
    const blocks = new Set<BlockId>(empty);
    for (const server of map.staleServers) for (const block of map.staleOf(server)) blocks.add(block);
    for (const block of this.#waiting.keys()) if (!blocks.has(block)) this.#waiting.delete(block);
    return [...blocks];
  }

  #look(block: BlockId, now: number): void {
    const waiting = this.#waiting.get(block);
    if (waiting !== undefined && waiting.dueAtMs > now) return;
    const plan = this.#plan(block);
    if (plan.kind !== 'retire') this.#deps.empty.delete(block);
    if (plan.kind === 'keep') {
      this.#waiting.delete(block);
      return;
    }
    // A replica that is about to be left out answers less than it could: not too many at a time.
    if (waiting === undefined && this.#waiting.size >= DROPS_WAITING_MAX) return;
    const servers = plan.kind === 'retire' ? plan.servers : [plan.server];
    if (servers.some((server) => (this.#perServer.get(server) ?? 0) >= DROPS_PER_SERVER_MAX)) return;
    this.#begin(block, plan, servers);
  }

  #plan(block: BlockId): DropPlan {
    const facts = this.#deps.map.facts(block);
    return facts === undefined || !this.#mayAct() ? { kind: 'keep' } : planDrop(facts, this.#deps);
  }

  #begin(block: BlockId, plan: DropPlan, servers: readonly ServerId[]): void {
    const count = (by: 1 | -1): void => {
      for (const server of servers) this.#perServer.set(server, (this.#perServer.get(server) ?? 0) + by);
    };
    count(1);
    const run = this.#run(block, plan)
      .then(
        () => void this.#waiting.delete(block),
        (error: unknown) => this.#failed(block, plan, error),
      )
      .finally(() => {
        count(-1);
        this.#running.delete(block);
      });
    this.#running.set(block, run);
  }

  async #run(block: BlockId, plan: DropPlan): Promise<void> {
    const { configurer, map, log } = this.#deps;
    const renew = this.#waiting.get(block)?.renew ?? this.#holderOfNewest(block, plan);
    if (renew !== undefined) await configurer.request(block, [renew], { renew: true });
    if (plan.kind === 'leave-out') {
      await configurer.leaveOut(block, plan.server);
      this.stats.leftOut++;
      mark('block-left-out');
    } else if (plan.kind === 'drop') {
      // Time may have passed: what was counted then must still be there.
      const again = renew === undefined ? plan : this.#plan(block);
      if (again.kind === 'drop' && again.server === plan.server)
        await this.#drop(block, plan.server, plan.reason);
    } else if (plan.kind === 'retire') {
      await Promise.all(plan.servers.map((server) => this.#drop(block, server, 'retired')));
      map.forget(block);
      this.stats.retired++;
      mark('block-retired');
      log.info({ block, servers: plan.servers }, 'a block that held nothing is gone');
    }
  }

  /**
   * A replica can come back only under a newer configuration than it was dropped with. So one that holds the newest, which
   * it does not belong to, goes when there is another: somebody may want a copy there again.
   */
  #holderOfNewest(block: BlockId, plan: DropPlan): ServerId | undefined {
    if (plan.kind !== 'drop') return undefined;
    const victim = this.#deps.map.facts(block)?.replicas.find(({ server }) => server === plan.server);
    return victim?.stale === false ? plan.server : undefined;
  }

  async #drop(block: BlockId, server: ServerId, reason: Drop['reason']): Promise<void> {
    const { map, reign, reachable, commands, log } = this.#deps;
    const facts = map.facts(block);
    const under = reign();
    const to = under && reachable(server, under);
    if (facts === undefined) return;
    if (under === undefined || to === undefined)
      throw new TfsError('UNAVAILABLE', `server ${server} cannot be commanded now`);
    const { generation, version } = facts;
    // Whatever becomes of the order, nobody counts this copy: it is outside of the configuration. Should it come into one
    // again while the order is on its way, its server refuses, because the order names an older one.
    const order = { block, reign: under, generation, version, reason };
    const { dropped } = await commands.drop(
      to,
      reason === 'retired' ? { ...order, missing: [...this.#deps.missing()] } : order,
    );
    map.absent(block, server);
    this.stats.dropped++;
    mark('block-dropped');
    log.info({ block, server, reason, dropped }, 'a replica that its block does not need was let go of');
  }

  #failed(block: BlockId, plan: DropPlan, error: unknown): void {
    const { clock, log } = this.#deps;
    const waiting = this.#waiting.get(block) ?? { attempts: 0, dueAtMs: 0, renew: undefined, complaint: '' };
    this.#waiting.set(block, waiting);
    const failure = toTfsError(error);
    // To leave a member out takes a while by itself.
    const isUsual = plan.kind === 'leave-out' && isTfsError(error, 'UNAVAILABLE');
    if (isUsual) waiting.attempts = 0;
    else {
      waiting.attempts++;
      this.stats.failures++;
    }
    const retryMs = DROP_RETRY_MS_MIN * 2 ** Math.min(Math.max(0, waiting.attempts - 1), 16);
    waiting.dueAtMs = clock.monotonic() + Math.min(tunable.dropRetryMsMax, retryMs);
    // The first time it may only be in use: repaired, or compacted.
    const isRefused = plan.kind === 'drop' && failure.code === 'CONFLICT' && waiting.attempts > 1;
    waiting.renew = isRefused ? plan.server : undefined;
    const isNews = !isUsual && waiting.complaint !== failure.code;
    waiting.complaint = failure.code;
    log[isNews ? 'warn' : 'debug'](
      { block, plan, code: failure.code, reason: failure.message },
      'a replica that its block does not need cannot be let go of yet',
    );
  }
}
