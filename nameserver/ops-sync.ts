import { isTfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { OPS_BEHIND_MS, OPS_SYNCS_RUNNING_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { Member, Reign } from '../common/wire/control.ts';
import type { BlockFacts } from './block-facts.ts';
import type { BlockMap } from './block-map.ts';
import type { Commands } from './commands.ts';

export interface OpsSyncDeps {
  readonly map: BlockMap;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Gives the block a new configuration, of the same members if nothing speaks against it. */
  readonly renew: (block: BlockId) => Promise<unknown>;
}

/**
 * Tells replicas whose operations stay behind to fetch the rest from the block's sequencer (or, when that one is
 * behind, from a member that is not). Behind for a moment is normal: an operation reaches the reports of its members
 * at different times.
 */
export class OpsSync {
  readonly stats = { syncs: 0, failures: 0 };
  readonly #deps: OpsSyncDeps;
  /** When to look at the block, monotonic. */
  readonly #due = new Map<BlockId, number>();
  /** Blocks that needed a new configuration, and when one is asked for again at the earliest: each takes a number. */
  readonly #renewals = new Map<BlockId, { readonly delayMs: number; readonly dueAtMs: number }>();
  /** Blocks with replicas that are behind on servers that were away when it was their turn. */
  readonly #away = new Map<ServerId, Set<BlockId>>();
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(deps: OpsSyncDeps) {
    this.#deps = deps;
  }

  get waiting(): number {
    return this.#due.size;
  }

  /** Some replica of this block was seen to be behind. */
  noted(block: BlockId): void {
    if (!this.#due.has(block)) this.#due.set(block, this.#deps.clock.monotonic() + OPS_BEHIND_MS);
  }

  /** Starts what is due. Called now and then by whoever owns the clock. */
  pump(): void {
    const reign = this.#deps.reign();
    if (this.#closed || reign === undefined) return;
    this.#noteReturned(reign);
    const now = this.#deps.clock.monotonic();
    for (const [block, dueAtMs] of this.#due) {
      if (this.#running.size >= OPS_SYNCS_RUNNING_MAX) return;
      if (dueAtMs > now) continue;
      this.#due.delete(block);
      const facts = this.#deps.map.facts(block);
      if (facts === undefined) {
        this.#renewals.delete(block);
        continue;
      }
      const run = this.#syncBlock(facts, reign).finally(() => {
        this.#running.delete(run);
        this.pump();
      });
      this.#running.add(run);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
  }

  /** A server that is back need not report anything anew: not one that has only not obeyed this leader yet. */
  #noteReturned(reign: Reign): void {
    for (const [server, blocks] of this.#away) {
      if (this.#deps.reachable(server, reign) === undefined) continue;
      this.#away.delete(server);
      for (const block of blocks) this.noted(block);
    }
  }

  #awaits(server: ServerId, block: BlockId): void {
    const blocks = this.#away.get(server);
    if (blocks === undefined) this.#away.set(server, new Set([block]));
    else blocks.add(block);
  }

  async #syncBlock(facts: BlockFacts, reign: Reign): Promise<void> {
    const { reachable } = this.#deps;
    const { block } = facts;
    const source = sourceOf(facts);
    if (!facts.replicas.some(({ behind }) => behind)) this.#renewals.delete(block);
    else if (source === undefined) return this.#level(facts, reign);
    const from = source && reachable(source, reign);
    for (const { server, behind } of facts.replicas) {
      if (!behind || server === source) continue;
      const to = reachable(server, reign);
      if (to === undefined) this.#awaits(server, block);
      else if (from === undefined) this.noted(block);
      else await this.#sync(facts, { to, from, reign });
    }
  }

  /**
   * Nobody has the newest operation that was reported any more: not all had it, and the log that did, which is the
   * sequencer's before any other, was lost and made anew from theirs. So it was not acknowledged. The next configuration
   * begins with what they have, and gives none of its places to two operations.
   */
  async #level({ block, replicas }: BlockFacts, reign: Reign): Promise<void> {
    const late = replicas.filter(({ behind }) => behind);
    if (late.every(({ server }) => this.#deps.reachable(server, reign) === undefined)) {
      for (const { server } of late) this.#awaits(server, block);
      return;
    }
    this.noted(block);
    if (this.#mayRenew(block)) await this.#renew(block);
  }

  async #renew(block: BlockId): Promise<void> {
    const { renew, log } = this.#deps;
    mark('ops-sync-renewed');
    await renew(block).catch((failure: unknown) => {
      log.debug({ block, reason: toTfsError(failure).message }, 'a configuration could not be renewed yet');
    });
  }

  #mayRenew(block: BlockId): boolean {
    const now = this.#deps.clock.monotonic();
    const last = this.#renewals.get(block);
    if (last !== undefined && now < last.dueAtMs) return false;
    const delayMs = Math.min(tunable.attachRetryMsMax, 2 * (last?.delayMs ?? OPS_BEHIND_MS / 2));
    this.#renewals.set(block, { delayMs, dueAtMs: now + delayMs });
    return true;
  }

  async #sync(
    facts: BlockFacts,
    { to, from, reign }: { to: Member; from: Member; reign: Reign },
  ): Promise<void> {
    const { map, commands, log } = this.#deps;
    const { block } = facts;
    try {
      const { seq } = await commands.syncOps(to, { block, reign, from });
      this.stats.syncs++;
      map.caughtUp(block, to.id, seq);
      this.#renewals.delete(block);
      if (map.facts(block)?.replicas.some(({ server, behind }) => server === to.id && behind))
        this.noted(block);
    } catch (error) {
      this.stats.failures++;
      const reason = toTfsError(error).message;
      log.debug({ block, server: to.id, from: from.id, reason }, 'a replica could not fetch operations yet');
      this.noted(block);
      if (!isBetweenConfigurations(error) || !this.#mayRenew(block)) return;
      // No operation may come any more that would need the next configuration; so it is asked for here.
      await this.#renew(block);
    }
  }
}

/**
 * One that was begun, and that not all have: who holds it, or waits for it, takes no operations of the one before, and the
 * other way about. The next one brings them together, whoever leads.
 */
const isBetweenConfigurations = (error: unknown): boolean =>
  isTfsError(error, 'CONFLICT') || (isTfsError(error, 'STALE_EPOCH') && error.details?.['n'] !== undefined);

/** The sequencer, or whoever has more than it. Not one of an older configuration: it has nothing to give. */
function sourceOf({ opsPrimary, replicas }: BlockFacts): ServerId | undefined {
  const current = replicas.filter(({ behind, stale, state }) => !behind && !stale && state !== 0);
  return (current.find(({ server }) => server === opsPrimary) ?? current[0])?.server;
}
