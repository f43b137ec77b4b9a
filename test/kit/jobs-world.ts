import { TfsError } from '../../common/errors.ts';
import {
  type BlockId,
  epochOf,
  type Incarnation,
  incarnationOf,
  type ServerId,
  serverId,
} from '../../common/ids.ts';
import { isPatient, type JobKind, type JobPayload } from '../../common/jobs.ts';
import { silentLog } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { type Compact, type CompactReply, zCompact } from '../../common/wire/compaction.ts';
import {
  type BlockHeadReply,
  compareReigns,
  type Member,
  type Reign,
  type Repair,
} from '../../common/wire/control.ts';
import {
  type EndJob,
  type TakeJob,
  type TakeJobReply,
  zEndJob,
  zTakeJob,
  zTakeJobReply,
} from '../../common/wire/jobs.ts';
import { type BlockEntry, BlockState, Op } from '../../common/wire/messages.ts';
import { JobWorker } from '../../dataserver/jobs/worker.ts';
import type { Pace } from '../../dataserver/repair.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Compaction } from '../../nameserver/compaction.ts';
import type { CompactionCommands } from '../../nameserver/compaction-commands.ts';
import { JobDesk } from '../../nameserver/jobs/desk.ts';
import { DirectJobs } from '../../nameserver/jobs/direct.ts';
import { Dispatcher } from '../../nameserver/jobs/dispatcher.ts';
import { Planner } from '../../nameserver/planner/planner.ts';
import type { ServerSight } from '../../nameserver/planner/sight.ts';
import { ManualClock } from './manual-clock.ts';
import { turns } from './memory-net.ts';
import { MemoryQueues, type QueueFaults } from './memory-queues.ts';
import { SeededRandom } from './seeded-random.ts';

export const FIRST_BLOCK = 0x2_0000;
const LENGTH = 1_000_000;
const SEAL = { length: LENGTH, slots: 3, digest: 'ab'.repeat(32), epoch: epochOf(1) };
/** What is left of one that was half garbage. */
const COMPACTED = { length: LENGTH / 2, slots: 3, digest: 'cd'.repeat(32) };
const STEP_MS = 250;
const DAY_MS = 24 * 3600 * 1000;
/** A leader gives a server up that was away for so long. */
const DEAD_MS = 20_000;
const REPLICAS = 3;

/** A DataServer, as far as jobs are concerned: which replicas it has, and which leader it obeys. */
class Server {
  readonly id: ServerId;
  readonly domain: string;
  readonly held = new Set<BlockId>();
  /** Of these replicas, that it has not read them for long. */
  readonly overdue = new Set<BlockId>();
  /** Of replicas that were compacted. */
  readonly generations = new Map<BlockId, number>();
  promise: Reign = { epoch: epochOf(0), nameserver: 0 };
  incarnation: Incarnation = incarnationOf(1);
  isUp = true;
  awaySinceMs = 0;
  worker: JobWorker | undefined;
  /** Its disk refuses whatever comes. */
  fails = false;
  /** It takes no copies. */
  isFull = false;

  constructor(id: number, domain: string) {
    this.id = serverId(id);
    this.domain = domain;
  }
}

interface Leader {
  readonly reign: Reign;
  readonly desk: JobDesk;
  readonly planner: Planner;
  readonly dispatcher: Dispatcher;
  readonly direct: DirectJobs;
  readonly compaction: Compaction;
}

export interface JobsWorldOptions {
  readonly seed: number;
  readonly servers?: number;
  readonly domains?: number;
  readonly blocks?: number;
  /** Of the blocks, so many are half garbage. */
  readonly garbage?: number;
  readonly clusterBytesPerSecond?: number;
  readonly faults?: QueueFaults;
  /** Of a hundred messages between workers and the leader, so many are lost. */
  readonly lostMessages?: number;
  /** A planted bug: the same id for the same work, whenever it is queued. */
  readonly reusesIds?: boolean;
}

/**
 * Real planner, desk, dispatcher, workers and direct jobs around DataServers that have replicas and no bytes, on a clock
 * of its own. At every moment it holds: no two replicas of a block on servers of one failure domain that are up.
 */
export class JobsWorld {
  readonly clock = new ManualClock();
  readonly random: SeededRandom;
  readonly queues: MemoryQueues;
  readonly servers: Server[] = [];
  readonly blocks: BlockId[] = [];
  leader!: Leader;
  map = new BlockMap();
  /** Replicas made, in order: `block on server`. */
  readonly made: string[] = [];
  /** Compactions that were committed, in order: `block`. */
  readonly compacted: string[] = [];
  /** Replicas that were read through because of a job, in order: `block on server`. */
  readonly scrubbed: string[] = [];
  /** Purges that were ordered, by block. */
  readonly purged = new Map<BlockId, number>();
  /** Blocks of which the garbage may be undeleted. */
  readonly undeletable = new Set<BlockId>();
  readonly garbage: readonly BlockId[];
  readonly broken: string[] = [];
  readonly paused = new Set<JobKind>();
  readonly #options: JobsWorldOptions;
  /** Configurations: members and the number of the version. */
  readonly #configured = new Map<BlockId, { members: ServerId[]; n: number }>();
  #epoch = 1;

  constructor(options: JobsWorldOptions) {
    const { seed, servers = 6, domains = servers, blocks = 40 } = options;
    this.#options = options;
    this.random = new SeededRandom(seed);
    this.queues = new MemoryQueues(this.clock, () => this.random.float() * 100);
    this.queues.faults = options.faults ?? {};
    for (let i = 0; i < servers; i++) this.servers.push(new Server(i + 1, `d${i % domains}`));
    for (let i = 0; i < blocks; i++) this.#place((FIRST_BLOCK + i) as BlockId);
    this.garbage = this.blocks.slice(0, options.garbage ?? 0);
    this.lead();
    for (const server of this.servers) this.#startWorker(server);
  }

  /** A new leader, to whom all that are up promise; an old one goes on believing that it leads. */
  lead(): void {
    this.#epoch += 2;
    const reign: Reign = { epoch: epochOf(this.#epoch), nameserver: 0 };
    for (const server of this.servers) if (server.isUp) server.promise = reign;
    this.map = new BlockMap();
    for (const server of this.servers) if (server.isUp) this.#reportAll(server);
    const shared = {
      map: this.map,
      clock: this.clock as Clock,
      pauses: { isPaused: (kind: JobKind) => this.paused.has(kind) },
      log: silentLog,
      reign: () => (this.leader.reign === reign ? reign : undefined),
      reachable: (id: ServerId) => this.#reachable(id, reign),
      seal: () => undefined,
    };
    const isViewComplete = () =>
      this.servers.filter(({ id }) => this.#reachable(id, reign) === undefined).length < 2;
    const compaction: Compaction = new Compaction({
      ...shared,
      time: { earliest: () => shared.clock.now() },
      commands: this.#compactionCommands(),
      isPaused: () => this.paused.has('compact'),
      isQueued: () => dispatcher.trouble === undefined,
      isViewComplete,
      isCurrent: (id) => this.#reachable(id, reign) !== undefined,
      canWrite: (id) => this.#reachable(id, reign) !== undefined,
    });
    const desk = new JobDesk({
      ...shared,
      isViewComplete,
      garbage: compaction,
      erasures: { has: () => false },
      repairer: { lostByBlock: new Map() },
      rates: { bytesPerSecond: 1_000_000, clusterBytesPerSecond: this.#options.clusterBytesPerSecond },
      commands: { blockHead: async ({ id }, block) => this.#head(this.#server(id), block) },
      servers: () => new Map(this.servers.map((server) => [server.id, this.#sight(server, reign)])),
    });
    const planner = new Planner({ map: this.map, sight: () => desk.sight() });
    const commands = {
      repair: async (to: Member, order: Repair) => {
        await this.#make(this.#server(to.id), order, undefined);
        return { whole: true, fetched: 1, lost: 0 };
      },
    };
    const direct = new DirectJobs({ ...shared, desk, commands });
    const dispatcher = new Dispatcher({
      ...shared,
      queues: this.queues,
      planner,
      sight: () => desk.sight(),
      room: () => desk.room,
      incarnationOf: (id) => (this.#server(id).isUp ? this.#server(id).incarnation : undefined),
      direct: (wanted) => direct.run(wanted),
      ...(this.#options.reusesIds ? { idOf: ({ kind, block }: JobPayload) => `${kind}-${block}` } : {}),
    });
    this.leader = { reign, desk, planner, dispatcher, direct, compaction };
  }

  kill(server: Server): void {
    server.isUp = false;
    server.awaySinceMs = this.clock.monotonic();
    void server.worker?.close();
    server.worker = undefined;
    server.incarnation = incarnationOf(server.incarnation + 1);
  }

  restart(server: Server): void {
    server.isUp = true;
    server.promise = this.leader.reign;
    this.#reportAll(server);
    for (const block of server.held) {
      const { members } = this.#configured.get(block)!;
      if (members.length < REPLICAS && !members.includes(server.id)) void this.#becomesMember(server, block);
    }
    this.#startWorker(server);
  }

  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      this.clock.advance(STEP_MS);
      const { desk, planner, dispatcher, compaction } = this.leader;
      desk.tidy((id) => (this.#server(id).isUp ? this.#server(id).incarnation : undefined));
      planner.step();
      dispatcher.pump();
      compaction.pump();
      await turns(4);
      this.#check();
    }
  }

  /** @returns how long it took */
  async until(what: () => boolean, msMax: number): Promise<number> {
    let passed = 0;
    for (; passed < msMax && !what(); passed += STEP_MS) await this.pass(STEP_MS);
    if (!what()) throw new Error(`not within ${msMax} ms`);
    return passed;
  }

  /** Failure domains with a replica on a server that is up. */
  spread(block: BlockId): number {
    const holders = this.servers.filter((server) => server.isUp && server.held.has(block));
    return new Set(holders.map(({ domain }) => domain)).size;
  }

  /** By jobs, in all, when they were over. */
  get bytesMoved(): number {
    return LENGTH * (this.made.length + this.scrubbed.length);
  }

  get isWhole(): boolean {
    return this.blocks.every((block) => this.spread(block) >= REPLICAS);
  }

  /** All garbage that may go is gone, on every member. */
  get isLean(): boolean {
    return this.garbage.every((block) =>
      this.#configured
        .get(block)!
        .members.every(
          (id) => this.#generation(this.#server(id), block) === 1 || this.undeletable.has(block),
        ),
    );
  }

  #place(block: BlockId): void {
    this.blocks.push(block);
    const members: ServerId[] = [];
    const domains = new Set<string>();
    while (members.length < REPLICAS) {
      const server = this.random.pick(this.servers);
      if (domains.has(server.domain)) continue;
      domains.add(server.domain);
      members.push(server.id);
      server.held.add(block);
    }
    this.#configured.set(block, { members, n: 1 });
  }

  #server(id: ServerId): Server {
    return this.servers[id - 1]!;
  }

  #reachable(id: ServerId, reign: Reign): Member | undefined {
    const server = this.#server(id);
    if (!server.isUp || compareReigns(server.promise, reign) !== 0) return undefined;
    return { id, incarnation: server.incarnation, address: { host: 'test', port: id } };
  }

  #sight(server: Server, reign: Reign): ServerSight {
    const isCurrent = this.#reachable(server.id, reign) !== undefined;
    const isDead = !server.isUp && this.clock.monotonic() - server.awaySinceMs >= DEAD_MS;
    return {
      id: server.id,
      domain: server.domain,
      isCurrent,
      givenUp: isDead ? 'silent for long' : undefined,
      canWrite: isCurrent,
      refuses: isCurrent ? (server.isFull ? 'its disk is full' : undefined) : 'it is not there now',
      usedPercent: 50,
      capacityBytes: 1e12,
      roomBytes: 1e9,
      overdue: new Map([...server.overdue].map((block) => [block, 9 * DAY_MS])),
    };
  }

  #startWorker(server: Server): void {
    const worker = new JobWorker({
      server: server.id,
      incarnation: server.incarnation,
      queues: this.queues,
      concurrency: 2,
      nameservers: {
        callLeader: async <T>(op: number, message: object): Promise<T> => (await this.#ask(op, message)) as T,
      },
      repair: {
        make: async (order, pace) => {
          await this.#make(server, order, pace);
          return { whole: true, fetched: 1, lost: 0 };
        },
      },
      scrubber: {
        readThrough: async (block, pace) => {
          await this.clock.sleep(this.random.below(4000));
          await pace.came(LENGTH);
          pace.assertInTime();
          if (server.fails) throw new TfsError('IO', 'planted');
          this.scrubbed.push(`${block - FIRST_BLOCK} on ${server.id}`);
          server.overdue.delete(block);
        },
      },
      clock: this.clock,
      log: silentLog,
    });
    server.worker = worker;
    worker.start();
  }

  /** As over the wire, where either way a message may be lost. */
  async #ask(op: number, message: object): Promise<unknown> {
    const lost = (): boolean => this.random.float() * 100 < (this.#options.lostMessages ?? 0);
    await this.clock.sleep(this.random.below(20));
    if (lost()) throw new TfsError('CONNECTION_LOST', 'planted');
    const { desk } = this.leader;
    const asked = JSON.parse(JSON.stringify(message));
    const answer =
      op === Op.TAKE_JOB
        ? await this.#take(zTakeJob.parse(asked))
        : op === Op.COMPACT
          ? await this.#compact(zCompact.parse(asked))
          : this.#end(desk, asked);
    await this.clock.sleep(this.random.below(20));
    if (lost()) throw new TfsError('CONNECTION_LOST', 'planted');
    return op === Op.TAKE_JOB ? zTakeJobReply.parse(JSON.parse(JSON.stringify(answer))) : (answer ?? {});
  }

  async #take(ask: TakeJob): Promise<TakeJobReply> {
    const { desk, dispatcher } = this.leader;
    const answer = await desk.take(ask);
    dispatcher.taken(ask, answer.answer !== 'unwanted');
    return answer;
  }

  #end(desk: JobDesk, asked: unknown): void {
    const end: EndJob = zEndJob.parse(asked);
    desk.end(end);
    if (end.failure === undefined) this.leader.dispatcher.ended(end);
  }

  #compact({ block, gain }: Compact): Promise<CompactReply> {
    if (gain === 'noted') throw new Error('nothing is erased here');
    return this.leader.compaction.request(block, gain);
  }

  #generation(server: Server, block: BlockId): number {
    return server.generations.get(block) ?? 0;
  }

  #head(server: Server, block: BlockId): BlockHeadReply {
    const generation = this.#generation(server, block);
    return {
      generation,
      state: BlockState.SEALED,
      seal: generation === 0 ? SEAL : { ...SEAL, ...COMPACTED },
    };
  }

  /** What members do, and how long it takes them. */
  #compactionCommands(): CompactionCommands {
    const asMember = async (id: ServerId, reign: Reign | undefined, ms: number): Promise<Server> => {
      const server = this.#server(id);
      const { incarnation } = server;
      await this.clock.sleep(this.random.below(ms));
      if (!server.isUp || server.incarnation !== incarnation) throw new TfsError('CONNECTION_LOST', 'died');
      if (reign !== undefined && compareReigns(reign, server.promise) < 0)
        throw new TfsError('STALE_EPOCH', 'another leads');
      if (server.fails) throw new TfsError('DISK_FULL', 'planted');
      return server;
    };
    return {
      purge: async ({ id }, { block, reign, bytesMin }) => {
        const server = await asMember(id, reign, 300);
        const isDue = this.#generation(server, block) === 0 && !this.undeletable.has(block);
        const bytes = isDue && this.garbage.includes(block) ? LENGTH / 2 : 0;
        this.purged.set(block, (this.purged.get(block) ?? 0) + 1);
        if (bytes < bytesMin) return { bytes };
        return { bytes, barrier: { version: { epoch: epochOf(1), n: 1 }, seq: 1 } };
      },
      prepare: async ({ id }, { reign }) => {
        await asMember(id, reign, 4000);
        return COMPACTED;
      },
      commit: async ({ id }, { block, reign, generation }) => {
        const server = await asMember(id, reign, 500);
        if (!server.held.has(block)) throw new TfsError('DONT_KNOW', 'it has no such block');
        const isFirst = this.servers.every((one) => this.#generation(one, block) < generation);
        if (isFirst) this.compacted.push(`${block - FIRST_BLOCK}`);
        server.generations.set(block, generation);
        void this.#reportSoon(server, block);
      },
      abandon: async () => undefined,
      blockHead: async ({ id }, block) => this.#head(await asMember(id, undefined, 100), block),
    };
  }

  async #reportSoon(server: Server, block: BlockId): Promise<void> {
    await this.clock.sleep(this.random.below(1500));
    if (server.isUp && server.held.has(block)) this.#report(server, block);
  }

  /** Takes its time; counts only under the promise, and in this life of the server. */
  async #make(server: Server, order: Repair, pace: Pace | undefined): Promise<void> {
    const { incarnation } = server;
    await this.clock.sleep(this.random.below(4000));
    await pace?.came(LENGTH);
    pace?.assertInTime();
    if (!server.isUp || server.incarnation !== incarnation) throw new TfsError('CONNECTION_LOST', 'died');
    if (server.fails) throw new TfsError('DISK_FULL', 'planted');
    if (compareReigns(order.reign, server.promise) < 0) throw new TfsError('STALE_EPOCH', 'another leads');
    if (server.held.has(order.block)) return;
    server.held.add(order.block);
    server.generations.set(order.block, order.generation);
    this.made.push(`${order.block - FIRST_BLOCK} on ${server.id}`);
    void this.#becomesMember(server, order.block);
  }

  /** Its report, and then the configuration with it. */
  async #becomesMember(server: Server, block: BlockId): Promise<void> {
    await this.clock.sleep(this.random.below(1500));
    if (server.isUp) this.#report(server, block);
    await this.clock.sleep(this.random.below(2000));
    if (!server.isUp || !server.held.has(block)) return;
    const before = this.#configured.get(block)!;
    const kept = before.members.filter((id) => this.#server(id).isUp);
    const members = [...new Set([...kept, server.id])].slice(0, REPLICAS);
    this.#configured.set(block, { members, n: before.n + 1 });
    for (const id of members) this.#report(this.#server(id), block);
  }

  #reportAll(server: Server): void {
    for (const block of server.held) this.#report(server, block);
  }

  #report(server: Server, block: BlockId): void {
    const { members, n } = this.#configured.get(block)!;
    const generation = this.#generation(server, block);
    const entry: BlockEntry = {
      block,
      generation,
      state: BlockState.SEALED,
      flags: 0,
      length: generation === 0 ? LENGTH : COMPACTED.length,
      seq: 1,
      version: { epoch: epochOf(1), n },
      opsPrimary: members[0]!,
      targetReplicas: REPLICAS,
      members,
      deadBytes: generation === 0 && this.garbage.includes(block) ? LENGTH / 2 : 0,
    };
    this.map.report(server.id, entry);
  }

  #check(): void {
    for (const block of this.blocks) {
      const domains = this.servers
        .filter(({ isUp, held }) => isUp && held.has(block))
        .map(({ domain }) => domain);
      if (new Set(domains).size < domains.length)
        this.broken.push(`block ${block - FIRST_BLOCK} has replicas in ${domains.join(' ')}`);
    }
    const patient = [...this.leader.desk.grants.all()].filter((one) => isPatient(one.kind) && !one.isDone);
    if (new Set(patient.map(({ server }) => server)).size < patient.length)
      this.broken.push('a server does several patient jobs at a time');
  }
}
