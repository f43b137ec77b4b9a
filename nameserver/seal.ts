import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { SEAL_RETRY_MS_MIN } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { Member, Reign } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Commands } from './commands.ts';
import { type NameServerFaults, NO_FAULTS } from './faults.ts';
import { type Asked, decideSeal, SEAL_TIMES, type SealTimes } from './seal-decision.ts';
import { sealHolders } from './seal-holders.ts';

export interface SealDeps {
  readonly map: BlockMap;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while this NameServer does not lead: then nothing is commanded. */
  readonly reign: () => Reign | undefined;
  /** Undefined while the server cannot be commanded. */
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Whether an operator has taken the server out of the cluster: it is not waited for. Nobody is when absent. */
  readonly isRemoved?: (server: ServerId) => boolean;
  /** A block is sealed, but for this replica, which its disk fails to read. */
  readonly onUnread?: (block: BlockId, server: ServerId) => void;
  readonly times?: SealTimes;
  readonly faults?: NameServerFaults;
}

interface Task {
  readonly block: BlockId;
  readonly why: string;
  /** Servers that are said to have it. */
  readonly holders: readonly ServerId[];
  /** Of the reign in which it was tried last; -1 before the first try. */
  epoch: number;
  /** Monotonic: when it was first tried in that reign. */
  firstAtMs: number;
  attempts: number;
  dueAtMs: number;
  running: boolean;
  /** Asked for again while it ran. */
  again: boolean;
  waitsFor: readonly ServerId[];
  /** Monotonic: since when a server has left the question unanswered. */
  readonly silentSinceMs: Map<ServerId, number>;
  /** What was said already. */
  readonly alarms: Set<string>;
  contradicted: boolean;
  /** The map had it. */
  known: boolean;
}

const LEAST_PAUSE_MS = 1;

/** Not done; what it waits for is named. */
class Unfinished extends TfsError {
  readonly waitsFor: readonly ServerId[];
  /** When to look again at the latest, or at the earliest. */
  readonly within: { readonly msMax?: number; readonly msMin?: number };

  constructor(message: string, waitsFor: readonly ServerId[] = [], within: Unfinished['within'] = {}) {
    super('UNAVAILABLE', message);
    this.waitsFor = waitsFor;
    this.within = within;
  }
}

/**
 * Brings blocks whose write session is over to their final length: fence all members, decide, seal all that answered.
 * Whoever was away is sealed when it shows up again, by its state, at what was decided then. Each step may be repeated
 * by anyone, so after any failure the whole of it starts again, later. Nothing else waits for it: new blocks are open
 * meanwhile.
 */
export class SealCoordinator {
  readonly stats = { sealed: 0, forgotten: 0, retries: 0, alarms: 0, lostRecords: 0 };
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

  /** Blocks with a replica that contradicts what was sealed: a person has to look. */
  get contradicted(): number {
    let count = 0;
    for (const task of this.#tasks.values()) if (task.contradicted) count++;
    return count;
  }

  isQueued(block: BlockId): boolean {
    return this.#tasks.has(block);
  }

  /**
   * The session of this block is over. Asking twice changes nothing.
   *
   * @param holders some servers that have it, as far as the caller knows
   */
  enqueue(block: BlockId, why: string, holders: readonly ServerId[] = []): void {
    const task = this.#tasks.get(block);
    if (task !== undefined) task.again = true;
    else {
      this.#tasks.set(block, {
        block,
        why,
        holders,
        epoch: -1,
        firstAtMs: 0,
        attempts: 0,
        dueAtMs: this.#deps.clock.monotonic(),
        running: false,
        again: false,
        waitsFor: [],
        silentSinceMs: new Map(),
        alarms: new Set(),
        contradicted: false,
        // It may be gone before its turn comes: as many as may run are at work.
        known: this.#deps.map.facts(block) !== undefined,
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
      if (this.#running.size >= tunable.sealsRunningMax) return;
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
      const { waitsFor, within } = error instanceof Unfinished ? error : { waitsFor: [], within: {} };
      task.waitsFor = waitsFor;
      const backoffMs = Math.min(within.msMax ?? tunable.sealRetryMsMax, backoffMsOf(task.attempts));
      // What is left to wait may be less than the clock can tell apart: due at once, it would be tried without a pause.
      task.dueAtMs = clock.monotonic() + Math.max(backoffMs, within.msMin ?? LEAST_PAUSE_MS);
      const facts = { block: task.block, why: task.why, attempts: task.attempts, reason: failure.message };
      if (failure.code === 'INTERNAL') log.error({ ...facts, err: error }, 'a seal failed; trying again');
      else log.debug(facts, 'a block cannot be sealed yet');
    }
    task.running = false;
  }

  async #settle(task: Task): Promise<void> {
    const { map, log, clock, commands, times = SEAL_TIMES, faults = NO_FAULTS } = this.#deps;
    const { block } = task;
    const reign = this.#deps.reign();
    if (reign === undefined) throw new Unfinished('this NameServer does not lead');
    if (task.epoch !== reign.epoch) {
      // What was tried in an earlier reign says nothing of the time since: nobody was asked meanwhile.
      if (task.epoch >= 0) mark('seal-under-later-leader');
      task.epoch = reign.epoch;
      task.firstAtMs = clock.monotonic();
      task.silentSinceMs.clear();
    }
    // Sealed by an earlier turn, or by others, and gone since: if a replica turns up after all, its state says what is wanted.
    const isThere = map.facts(block) !== undefined;
    if (task.known && !isThere) return;
    if (isThere) task.known = true;
    const { asked, members } = await this.#fenceAll(task, reign);
    const waitedMs = clock.monotonic() - task.firstAtMs;
    const decision = decideSeal({ asked, waitedMs, epoch: reign.epoch, times, faults });
    if (decision.kind === 'wait') {
      const { missing, forMs } = decision;
      throw new Unfinished(`waits for server ${missing.join(', ')}`, missing, { msMax: forMs });
    }
    if (decision.kind === 'forget') {
      mark('seal-forgotten');
      const wasReported = map.facts(block)?.replicas.some((replica) => replica.state !== 0) ?? false;
      if (wasReported) log.error({ block }, 'no member holds a block that was there before');
      map.forget(block);
      this.stats.forgotten++;
      return;
    }
    for (const alarm of decision.alarms) this.#alarm(task, alarm);
    for (const server of decision.absent) map.absent(block, server);
    const round = { map, commands, block, decision, reign, asked, members };
    const { lost, unable } = await sealHolders(round).catch((error: unknown) => {
      // What they lack the missing ones may have.
      const failure = toTfsError(error);
      if (failure.code === 'INTERNAL' || decision.missing.length === 0) throw error;
      throw new Unfinished(failure.message, decision.missing);
    });
    const { length, slots, holders, sealed, absent, missing, contradicting } = decision;
    if (sealed.length < holders.length - unable.length) {
      this.stats.sealed++;
      log.info({ block, length, slots, absent, missing, why: task.why }, 'sealed');
    }
    if (lost > 0) {
      this.stats.lostRecords += lost;
      this.#alarm(task, `${lost} records verify on no replica: they are sealed as lost`);
    }
    task.contradicted = contradicting.length > 0;
    if (task.contradicted) mark('seal-contradicted');
    if (task.contradicted)
      throw new Unfinished(`server ${contradicting.join(', ')} contradicts what was sealed`, contradicting, {
        msMin: tunable.sealContradictedRetryMs,
      });
    // Who is away shows up again by its state. Who is there and cannot do it is asked again, not too often.
    const ailing = missing.filter((server) => this.#deps.reachable(server, reign) !== undefined);
    // What others are sealed with it can be made of.
    for (const each of asked)
      if (each.reply === undefined && each.unread && ailing.includes(each.server))
        this.#deps.onUnread?.(block, each.server);
    const rest = { msMin: tunable.sealRetryMsMax };
    if (ailing.length > 0)
      throw new Unfinished(`server ${ailing.join(', ')} could not be fenced`, ailing, rest);
    if (unable.length > 0)
      throw new Unfinished(`the disk of server ${unable.join(', ')} takes no writes`, unable, rest);
  }

  #alarm(task: Task, alarm: string): void {
    if (task.alarms.has(alarm)) return;
    task.alarms.add(alarm);
    this.stats.alarms++;
    this.#deps.log.error({ block: task.block }, alarm);
  }

  /**
   * Asks everyone who may hold the block: the members of its configuration, whoever reports it, and the write set that
   * the superblock of any replica names.
   */
  async #fenceAll(
    task: Task,
    reign: Reign,
  ): Promise<{ asked: readonly Asked[]; members: ReadonlyMap<ServerId, Member> }> {
    const reported = this.#deps.map.facts(task.block)?.replicas.map(({ server }) => server) ?? [];
    const asked = new Map<ServerId, Asked>();
    const members = new Map<ServerId, Member>();
    for (let ask = [...new Set([...reported, ...task.holders])]; ask.length > 0; ) {
      const answers = await Promise.all(ask.map((server) => this.#fence(task, server, reign, members)));
      for (const answer of answers) asked.set(answer.server, answer);
      const named = new Set(answers.flatMap(({ reply }) => reply?.members ?? []));
      ask = [...named].filter((server) => !asked.has(server));
    }
    if (asked.size === 0) throw new Unfinished('no member is known');
    return { asked: [...asked.values()], members };
  }

  /** @throws TfsError STALE_EPOCH: somebody else leads */
  async #fence(task: Task, server: ServerId, reign: Reign, members: Map<ServerId, Member>): Promise<Asked> {
    const { commands, clock, log, reachable } = this.#deps;
    const { block, silentSinceMs } = task;
    const askedAtMs = clock.monotonic();
    let unread = false;
    const member = reachable(server, reign);
    if (member !== undefined) {
      try {
        const reply = await commands.fence(member, { block, reign });
        silentSinceMs.delete(server);
        members.set(server, member);
        return { server, reply };
      } catch (error) {
        if (isTfsError(error, 'STALE_EPOCH')) throw error;
        // Of its file, or, where what it says is not what was written, of its ops log.
        unread = isTfsError(error, 'IO') || isTfsError(error, 'CORRUPT');
        log.debug({ block, server, reason: toTfsError(error).message }, 'a member could not be fenced');
      }
    }
    if (this.#deps.isRemoved?.(server) === true) return { server, silentForMs: Number.POSITIVE_INFINITY };
    const sinceMs = silentSinceMs.get(server) ?? askedAtMs;
    silentSinceMs.set(server, sinceMs);
    return { server, silentForMs: clock.monotonic() - sinceMs, unread };
  }
}

const backoffMsOf = (attempts: number): number =>
  Math.min(tunable.sealRetryMsMax, SEAL_RETRY_MS_MIN * 2 ** Math.min(attempts, 16));
