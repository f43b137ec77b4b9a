import { assert, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { SEAL_RETRY_MS_MAX, SEAL_RETRY_MS_MIN, SEALS_RUNNING_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { FenceReply, Member, Reign, Seal } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Commands } from './commands.ts';
import { decideSeal, type SealDecision } from './seal-decision.ts';

export interface SealDeps {
  readonly map: BlockMap;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead: then nothing is commanded. */
  readonly reign: () => Reign | undefined;
  /** Undefined while the server cannot be commanded. */
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
}

interface Task {
  readonly block: BlockId;
  readonly why: string;
  /** Where to ask when the map does not know the block. */
  readonly holders: readonly ServerId[];
  attempts: number;
  dueAtMs: number;
  running: boolean;
  /** Asked for again while it ran. */
  again: boolean;
  waitsFor: readonly ServerId[];
}

type Order = Extract<SealDecision, { kind: 'seal' }>;

/** Not done; what it waits for is named. */
class Unfinished extends TfsError {
  readonly waitsFor: readonly ServerId[];

  constructor(message: string, waitsFor: readonly ServerId[] = []) {
    super('UNAVAILABLE', message);
    this.waitsFor = waitsFor;
  }
}

/**
 * Brings blocks whose write session is over to their final length on every member: fence all, decide, seal all. Each
 * step may be repeated by anyone, so after any failure the whole of it starts again, later. Nothing else waits for
 * it: new blocks are open meanwhile.
 */
export class SealCoordinator {
  readonly stats = { sealed: 0, forgotten: 0, retries: 0, alarms: 0 };
  readonly #deps: SealDeps;
  readonly #tasks = new Map<BlockId, Task>();
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(deps: SealDeps) {
    this.#deps = deps;
  }

  /** Blocks on their way. */
  get waiting(): number {
    return this.#tasks.size;
  }

  isQueued(block: BlockId): boolean {
    return this.#tasks.has(block);
  }

  /**
   * The session of this block is over. Asking twice changes nothing.
   *
   * @param holders some servers that have it, for a block that the map does not know
   */
  enqueue(block: BlockId, why: string, holders: readonly ServerId[] = []): void {
    const task = this.#tasks.get(block);
    if (task !== undefined) task.again = true;
    else {
      const dueAtMs = this.#deps.clock.monotonic();
      this.#tasks.set(block, {
        block,
        why,
        holders,
        attempts: 0,
        dueAtMs,
        running: false,
        again: false,
        waitsFor: [],
      });
    }
    this.pump();
  }

  /** The server has registered and reported: what waited for it need not wait any longer. */
  serverIsBack(server: ServerId): void {
    const now = this.#deps.clock.monotonic();
    for (const task of this.#tasks.values()) {
      if (!task.waitsFor.includes(server)) continue;
      task.dueAtMs = now;
      task.attempts = 0;
    }
    this.pump();
  }

  /** Starts what is due. Called now and then by whoever owns the clock. */
  pump(): void {
    if (this.#closed || this.#deps.reign() === undefined) return;
    const now = this.#deps.clock.monotonic();
    for (const task of this.#tasks.values()) {
      if (this.#running.size >= SEALS_RUNNING_MAX) return;
      if (task.running || task.dueAtMs > now) continue;
      task.running = true;
      const run = this.#run(task).finally(() => {
        this.#running.delete(run);
        this.pump();
      });
      this.#running.add(run);
    }
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
  }

  async #run(task: Task): Promise<void> {
    const { log, clock } = this.#deps;
    task.again = false;
    try {
      await this.#settle(task);
      if (!task.again) this.#tasks.delete(task.block);
      else task.dueAtMs = clock.monotonic() + SEAL_RETRY_MS_MIN;
    } catch (error) {
      const failure = toTfsError(error);
      task.attempts++;
      this.stats.retries++;
      task.waitsFor = error instanceof Unfinished ? error.waitsFor : [];
      task.dueAtMs = clock.monotonic() + backoffMs(task.attempts);
      const facts = { block: task.block, why: task.why, attempts: task.attempts, reason: failure.message };
      if (failure.code === 'INTERNAL') log.error({ ...facts, err: error }, 'a seal failed; trying again');
      else log.debug(facts, 'a block cannot be sealed yet');
    }
    task.running = false;
  }

  async #settle(task: Task): Promise<void> {
    const { map, log } = this.#deps;
    const { block } = task;
    const reign = this.#deps.reign();
    if (reign === undefined) throw new Unfinished('this NameServer does not lead');
    const replies = await this.#fenceAll(task, reign);
    const decision = decideSeal(
      [...replies].map(([server, reply]) => ({ server, reply })),
      reign.epoch,
    );
    assert(decision.kind !== 'wait', 'the decision is made when every member has answered');
    if (decision.kind === 'forget') {
      const facts = map.facts(block);
      const wasReported = facts?.replicas.some((replica) => replica.state !== 0) ?? false;
      if (wasReported) log.error({ block }, 'no member holds a block that was there before');
      map.forget(block);
      this.stats.forgotten++;
      return;
    }
    for (const alarm of decision.alarms) {
      this.stats.alarms++;
      log.error({ block }, alarm);
    }
    for (const server of decision.absent) map.absent(block, server);
    await this.#sealAll(block, decision, reign);
    this.stats.sealed++;
    const { length, slots, absent } = decision;
    log.info({ block, length, slots, absent, why: task.why }, 'sealed');
  }

  /** @returns the answers of all members @throws Unfinished unless all of them answered */
  async #fenceAll(task: Task, reign: Reign): Promise<Map<ServerId, FenceReply>> {
    const { block } = task;
    const facts = this.#deps.map.facts(block);
    const isKnown = facts !== undefined;
    const replies = new Map<ServerId, FenceReply>();
    let ask: readonly ServerId[] = isKnown
      ? facts.replicas.filter((replica) => replica.member).map(({ server }) => server)
      : task.holders;
    while (ask.length > 0) {
      const members = this.#reach(ask, reign);
      const answers = await all(
        members,
        ({ id }) => `FENCE of server ${id}`,
        (member) => this.#deps.commands.fence(member, { block, reign }),
      );
      for (const [i, member] of members.entries()) replies.set(member.id, answers[i]!);
      // Whoever holds an unknown block knows its other members.
      const named = isKnown ? [] : answers.flatMap((answer) => answer.members);
      ask = [...new Set(named)].filter((server) => !replies.has(server));
    }
    if (replies.size === 0) throw new Unfinished('no member is known');
    return replies;
  }

  async #sealAll(block: BlockId, decision: Order, reign: Reign): Promise<void> {
    const { holders, sealed, absent } = decision;
    const members = this.#reach(holders, reign);
    const order: Seal = {
      block,
      reign,
      length: decision.length,
      slots: decision.slots,
      epoch: decision.epoch,
      sources: members,
      complete: false,
      ...(decision.digest === undefined ? {} : { digest: decision.digest }),
    };
    let rest = members.filter(({ id }) => !sealed.includes(id));
    if (order.digest === undefined) {
      // The best copy finds out the digest that the others must have.
      order.digest = await this.#sealOne(members[0]!, order);
      rest = rest.filter((member) => member !== members[0]);
    }
    await all(
      rest,
      ({ id }) => `SEAL of server ${id}`,
      (member) => this.#sealOne(member, order),
    );
    for (const { id } of members) this.#deps.map.sealed(block, id, decision.length);
    // A seal is complete when every member of the write set holds it. Said once: to know it is of use, not needed.
    if (absent.length === 0)
      await all(
        members,
        ({ id }) => `word of a complete seal to server ${id}`,
        (member) => this.#sealOne(member, { ...order, complete: true }),
      );
  }

  async #sealOne(member: Member, order: Seal): Promise<string> {
    const { digest } = await this.#deps.commands.seal(member, order);
    if (order.digest !== undefined && digest !== order.digest)
      throw new TfsError('CONFLICT', `server ${member.id} sealed block ${order.block} with another digest`);
    return digest;
  }

  #reach(servers: readonly ServerId[], reign: Reign): Member[] {
    const found = servers.map((server) => this.#deps.reachable(server, reign));
    const waitsFor = servers.filter((_, i) => found[i] === undefined);
    if (waitsFor.length > 0) throw new Unfinished(`waits for server ${waitsFor.join(', ')}`, waitsFor);
    return found.filter((member) => member !== undefined);
  }
}

/** Asks all at once and waits for all, so that nothing of this attempt is under way when the next one starts. */
async function all<T, R>(
  items: readonly T[],
  name: (item: T) => string,
  ask: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = await Promise.allSettled(items.map(ask));
  return results.map((result, i) => {
    if (result.status === 'rejected') throw named(name(items[i]!), result.reason);
    return result.value;
  });
}

function named(what: string, reason: unknown): TfsError {
  const error = toTfsError(reason);
  return new TfsError(error.code, `${what}: ${error.message}`, { cause: reason });
}

const backoffMs = (attempts: number): number =>
  Math.min(SEAL_RETRY_MS_MAX, SEAL_RETRY_MS_MIN * 2 ** Math.min(attempts, 16));
