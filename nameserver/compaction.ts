import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId, Slot } from '../common/ids.ts';
import {
  COMPACT_BYTES_PER_SECOND_DEFAULT,
  COMPACT_GARBAGE_PERCENT_DEFAULT,
  COMPACT_LATER_BLOCKS_MAX,
  COMPACTION_TASKS_MAX,
  COMPACTIONS_RUNNING_MAX,
} from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { CompactReply } from '../common/wire/compaction.ts';
import type { Member, Reign } from '../common/wire/control.ts';
import type { ErasedSlot } from '../common/wire/erase.ts';
import type { AgreedTime } from './agreed-time.ts';
import type { BlockFacts } from './block-facts.ts';
import type { BlockMap } from './block-map.ts';
import type { CompactionCommands } from './compaction-commands.ts';
import { type CompactionPlan, type CompactionSight, planCompaction } from './compaction-plan.ts';
import { decideVote, type Vote } from './compaction-vote.ts';
import { GarbageScan } from './garbage-scan.ts';

export interface CompactionSettings {
  /** A sealed block is rewritten when so much of it may go. */
  readonly garbagePercent?: number;
  /** Of records written and read back, on each member. */
  readonly bytesPerSecond?: number;
  /** How long a deleted picture may be undeleted: so much later more of a block may go. */
  readonly undeleteWindowMs?: number;
}

export interface CompactionDeps extends CompactionSight, CompactionSettings {
  /** An operator wants no garbage to be looked for. */
  readonly isPaused: () => boolean;
  /** There is a queue that works: garbage comes from there. */
  readonly isQueued: () => boolean;
  readonly map: BlockMap;
  readonly commands: CompactionCommands;
  readonly clock: Clock;
  readonly time: Pick<AgreedTime, 'earliest'>;
  readonly log: Log;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
}

interface Ask {
  /** Garbage for which it is done; 0 for the usual share. */
  readonly bytesMin: number;
  readonly erase?: readonly ErasedSlot[];
}

export interface Outcome extends CompactReply {
  /** Records that were to be erased, and are not: a name lives, or there are more than were said. */
  readonly kept: readonly Slot[];
  /** Nothing more is due for so long. */
  readonly notBeforeMs?: number | undefined;
}

interface Task {
  readonly block: BlockId;
  /** Whoever asked for it asks again. */
  isJob: boolean;
  attempts: number;
  dueAtMs: number;
  running: Promise<Outcome> | undefined;
  complaint: string;
}

/** In a row, before a block is left alone for a while. */
const ATTEMPTS_MAX = 6;

type Begin = Extract<CompactionPlan, { kind: 'begin' }>;
type Finish = Extract<CompactionPlan, { kind: 'finish' }>;

/**
 * Has blocks compacted, a few at a time: first the sequencer orders the purge of what nobody may undelete any more; when
 * every member has that, each makes the next file; when most of them have made the same, they are told to use it. Until
 * then nothing has changed, and whoever stops half way leaves nothing that has to be tidied up by hand. From the first
 * commit on the generation is finished, by whoever leads: the state of the replicas alone says what is to be done.
 */
export class Compaction {
  readonly stats = { compacted: 0, freedBytes: 0, failures: 0, alarms: 0 };
  readonly #deps: CompactionDeps;
  /** A sealed block is rewritten when so much of it may go. */
  readonly garbagePercent: number;
  readonly #scan: GarbageScan;
  readonly #tasks = new Map<BlockId, Task>();
  /** Blocks in which too little may go yet: until when they are left alone, or were; what was looked at longest ago first. */
  readonly #later = new Map<BlockId, number>();
  #closed = false;

  constructor(deps: CompactionDeps) {
    this.#deps = deps;
    this.garbagePercent = deps.garbagePercent ?? COMPACT_GARBAGE_PERCENT_DEFAULT;
    this.#scan = new GarbageScan(deps.map, this.garbagePercent);
  }

  /** Blocks that are being compacted, or wait for that. */
  get waiting(): number {
    return this.#tasks.size;
  }

  /** Whether the block was just looked at. */
  isLeftAlone(block: BlockId): boolean {
    return (this.#later.get(block) ?? Number.NEGATIVE_INFINITY) > this.#deps.clock.monotonic();
  }

  /**
   * Compacts one block now; whoever asks while that is under way gets the same answer. What an operator asked for is tried
   * again by itself; a job is not, because a queue does that.
   *
   * @throws TfsError NOT_LEADER; DONT_KNOW for an unknown block; OVERLOADED; UNAVAILABLE where not all of its members can take part
   *   now, or one of them failed: then the block is as it was, or on its way to the next generation
   */
  async request(block: BlockId, gain: 'any' | 'share' = 'any'): Promise<CompactReply> {
    this.#requireReign();
    if (!this.#tasks.has(block) && !this.#isFree(block)) throw crowded();
    const task = this.#tasks.get(block) ?? this.#note(block, gain === 'share');
    const ask = { bytesMin: gain === 'share' ? 0 : 1 };
    const { generation, freedBytes } = await (task.running ?? this.#start(task, ask));
    return { generation, freedBytes };
  }

  /**
   * Has records go of which every name is deleted, without regard to the time in which they may be undeleted, and
   * compacts the block. When it resolves with nothing kept, the sequencer's file does not have them; replicas that missed
   * something are seen to as after any compaction.
   *
   * @throws TfsError as {@link request}
   */
  async erase(block: BlockId, slots: readonly ErasedSlot[]): Promise<Outcome> {
    this.#requireReign();
    // Whatever is under way purges less.
    await this.#tasks.get(block)?.running?.catch(() => undefined);
    if (!this.#tasks.has(block) && !this.#isFree(block)) throw crowded();
    const task = this.#tasks.get(block) ?? this.#note(block, true);
    if (task.running !== undefined) throw unavailable(`block ${block} is being compacted`);
    return this.#start(task, { bytesMin: 1, erase: slots });
  }

  /** Looks for blocks that are worth it and starts what is due. Called now and then by whoever owns the clock. */
  pump(): void {
    const { map, clock, reign, isPaused, isQueued } = this.#deps;
    if (this.#closed || reign() === undefined) return;
    const now = clock.monotonic();
    for (const block of map.outdated) if (this.#isFree(block)) this.#note(block);
    if (!isPaused() && !isQueued())
      this.#scan.step((block) => {
        if (this.#tasks.size >= COMPACTION_TASKS_MAX) return false;
        if (this.#isFree(block) && !this.isLeftAlone(block)) this.#note(block);
        return true;
      });
    for (const task of this.#tasks.values()) {
      if (this.#running >= COMPACTIONS_RUNNING_MAX) return;
      if (task.running !== undefined || task.dueAtMs > now) continue;
      if (this.#isPointless(task.block)) this.#tasks.delete(task.block);
      else this.#start(task, { bytesMin: 0 }).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#tasks.values()].map(({ running }) => running));
  }

  get #running(): number {
    let running = 0;
    for (const task of this.#tasks.values()) if (task.running !== undefined) running++;
    return running;
  }

  #isFree(block: BlockId): boolean {
    return !this.#tasks.has(block) && this.#tasks.size < COMPACTION_TASKS_MAX;
  }

  /** What it was noted for is not so any more. */
  #isPointless(block: BlockId): boolean {
    const facts = this.#deps.map.facts(block);
    if (facts === undefined) return true;
    return !this.#deps.map.outdated.has(block) && (facts.deadBytes === 0 || this.#deps.isPaused());
  }

  #note(block: BlockId, isJob = false): Task {
    const dueAtMs = this.#deps.clock.monotonic();
    const task: Task = { block, isJob, attempts: 0, dueAtMs, running: undefined, complaint: '' };
    this.#tasks.set(block, task);
    return task;
  }

  #start(task: Task, ask: Ask): Promise<Outcome> {
    const { clock } = this.#deps;
    const run = this.#run(task.block, ask).then(
      (reply) => {
        this.#tasks.delete(task.block);
        // Until the members have reported it, and more may go.
        this.#leave(task.block, reply.notBeforeMs);
        return reply;
      },
      (error: unknown) => {
        const failure = toTfsError(error);
        task.running = undefined;
        task.attempts++;
        this.stats.failures++;
        const retryMs = tunable.compactRetryMsMin * 2 ** Math.min(task.attempts, 16);
        task.dueAtMs = clock.monotonic() + Math.min(tunable.compactRetryMsMax, retryMs);
        this.#complain(task, failure);
        if (task.isJob) this.#tasks.delete(task.block);
        // Others have their turn; it is found again.
        else if (task.attempts >= ATTEMPTS_MAX) {
          this.#tasks.delete(task.block);
          this.#leave(task.block);
        }
        throw failure;
      },
    );
    task.running = run;
    return run;
  }

  async #run(block: BlockId, ask: Ask): Promise<Outcome> {
    const reign = this.#requireReign();
    const facts = this.#deps.map.facts(block);
    if (facts === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not known here`);
    const plan = planCompaction(facts, this.#deps);
    if (plan.kind === 'refuse') throw unavailable(`block ${block} is not compacted now: ${plan.why}`);
    if (plan.kind === 'begin') return this.#compact(facts, plan, reign, ask);
    const finished = await this.#finish(facts, plan, reign);
    if (ask.erase === undefined) return finished;
    // What it did not purge the next try does, as soon as the members have reported that they have it.
    throw unavailable(`a compaction of block ${block} was finished first`);
  }

  async #compact(facts: BlockFacts, plan: Begin, reign: Reign, { bytesMin, erase }: Ask): Promise<Outcome> {
    const { commands, log, time } = this.#deps;
    const { block } = facts;
    const { generation } = plan;
    // An erasure does not ask for how long something has been deleted.
    const wallMs = time.earliest() ?? (erase && 0);
    if (wallMs === undefined)
      throw unavailable(`block ${block} is not compacted now: too few machines have said what time it is`);
    const members = plan.members.map((server) => this.#commandable(server, reign));
    const share = Math.ceil((facts.length * this.garbagePercent) / 100);
    const primary = members.find(({ id }) => id === plan.opsPrimary)!;
    const {
      barrier,
      bytes,
      kept = [],
      notBeforeMs,
    } = await commands.purge(primary, {
      block,
      reign,
      bytesMin: Math.max(1, bytesMin === 0 ? share : bytesMin),
      wallMs,
      ...(erase && { erase: [...erase] }),
    });
    if (barrier === undefined) return { generation: facts.generation, freedBytes: 0, kept, notBeforeMs };
    const order = {
      ...{ block, reign, generation, ...barrier },
      bytesPerSecond: this.#deps.bytesPerSecond ?? COMPACT_BYTES_PER_SECOND_DEFAULT,
      sources: members,
    };
    const answers = await Promise.allSettled(members.map((member) => commands.prepare(member, order)));
    const failed = answers.findIndex((answer) => answer.status === 'rejected');
    if (failed >= 0) {
      mark('compaction-abandoned');
      await this.#abandon(block, reign, members);
      const { reason } = answers[failed] as PromiseRejectedResult;
      throw whyFailed(block, members[failed]!.id, reason);
    }
    const votes = answers.map((answer, i): Vote => {
      const { value } = answer as PromiseFulfilledResult<Vote['made']>;
      return { server: members[i]!.id, made: value };
    });
    const { made, majority, minority } = decideVote(votes);
    if (minority.length > 0) {
      mark(made === undefined ? 'compaction-undecided' : 'compaction-minority');
      this.stats.alarms++;
      log.error({ block, servers: minority }, 'replicas of a block made another file of the same records');
      await this.#abandon(
        block,
        reign,
        members.filter(({ id }) => minority.includes(id)),
      );
    }
    if (made === undefined) throw unavailable(`the members of block ${block} made different files`);
    // The commit point: from the first of them on whoever leads has it finished.
    const commit = { ...made, block, reign, generation, epoch: reign.epoch };
    const targets = members.filter(({ id }) => majority.includes(id));
    const commits = await Promise.allSettled(targets.map((member) => commands.commit(member, commit)));
    const refused = commits.findIndex(({ status }) => status === 'rejected');
    if (refused >= 0) {
      const { reason } = commits[refused] as PromiseRejectedResult;
      throw whyFailed(block, targets[refused]!.id, reason);
    }
    this.stats.compacted++;
    this.stats.freedBytes += bytes;
    log.info({ block, generation, freed: bytes }, 'a block was compacted on its members');
    return { generation, freedBytes: bytes, kept };
  }

  /** Members that have just what the others have committed are told so; what they lack a repair brings. */
  async #finish({ block, generation }: BlockFacts, plan: Finish, reign: Reign): Promise<Outcome> {
    const { commands, reachable, log } = this.#deps;
    const holders = plan.holders.flatMap((server) => reachable(server, reign) ?? []);
    const heads = await Promise.allSettled(holders.map((member) => commands.blockHead(member, block)));
    const seals = heads.flatMap((head) =>
      head.status === 'fulfilled' && head.value.generation === generation && head.value.seal !== undefined
        ? [head.value.seal]
        : [],
    );
    if (seals.length === 0)
      throw unavailable(`nobody who has generation ${generation} of block ${block} answers`);
    const { length, slots, digest, epoch } = seals.reduce((a, b) => (b.epoch > a.epoch ? b : a));
    const commit = { block, reign, generation, length, slots, digest, epoch };
    for (const server of plan.behind) await commands.commit(this.#commandable(server, reign), commit);
    mark('compaction-finished');
    log.info({ block, generation, servers: plan.behind }, 'a compaction was finished');
    return { generation, freedBytes: 0, kept: [] };
  }

  async #abandon(block: BlockId, reign: Reign, members: readonly Member[]): Promise<void> {
    const { commands, log } = this.#deps;
    const outcomes = await Promise.allSettled(
      members.map((member) => commands.abandon(member, { block, reign })),
    );
    // It gives it up by itself a little later.
    for (const outcome of outcomes)
      if (outcome.status === 'rejected')
        log.debug(
          { block, reason: toTfsError(outcome.reason).message },
          'a compaction could not be abandoned',
        );
  }

  /** It was just looked at: most of what is dead may still be undeleted, or is gone. */
  #leave(block: BlockId, notBeforeMs = 0): void {
    this.#later.delete(block);
    // The one that was looked at longest ago has its turn, and not always the first of the map.
    const [oldest] = this.#later.keys();
    if (this.#later.size >= COMPACT_LATER_BLOCKS_MAX && oldest !== undefined) this.#later.delete(oldest);
    const { clock, undeleteWindowMs = tunable.compactAgainMs } = this.#deps;
    const againMs = Math.max(tunable.compactRetryMsMin, Math.min(tunable.compactAgainMs, undeleteWindowMs));
    const dueMs = Math.min(tunable.compactAgainMsMax, notBeforeMs);
    this.#later.set(block, clock.monotonic() + Math.max(againMs, dueMs));
  }

  #commandable(server: ServerId, reign: Reign): Member {
    const member = this.#deps.reachable(server, reign);
    if (member === undefined) throw unavailable(`server ${server} cannot be commanded now`);
    return member;
  }

  #requireReign(): Reign {
    const reign = this.#closed ? undefined : this.#deps.reign();
    if (reign === undefined)
      throw new TfsError('NOT_LEADER', 'this NameServer does not lead: ask the other one');
    return reign;
  }

  /** Once for each reason: it is tried again for as long as it takes. */
  #complain(task: Task, failure: TfsError): void {
    const { log } = this.#deps;
    const { block } = task;
    const isNews = task.complaint !== failure.message;
    task.complaint = failure.message;
    if (failure.code === 'CORRUPT') {
      if (isNews) this.stats.alarms++;
      log.error({ block, reason: failure.message }, 'a block cannot be compacted: somebody has to look');
    } else log[isNews ? 'info' : 'debug']({ block, reason: failure.message }, 'a block is not compacted yet');
  }
}

const crowded = (): TfsError =>
  new TfsError('OVERLOADED', 'as many blocks as may wait for their compaction wait for it');

const unavailable = (message: string): TfsError =>
  new TfsError('UNAVAILABLE', message, { retryAfterMs: tunable.compactRetryMsMin });

/** A record that lives and reads nowhere is for a person; everything else passes. */
function whyFailed(block: BlockId, server: ServerId, reason: unknown): TfsError {
  const cause = toTfsError(reason);
  const code = cause.code === 'CORRUPT' ? 'CORRUPT' : 'UNAVAILABLE';
  return new TfsError(code, `block ${block}, server ${server}: ${cause.message}`, { cause });
}
