import { crc32 } from 'node:zlib';
import { TfsError } from '../../common/errors.ts';
import { blockId, type HostPort, type Incarnation, type ServerId } from '../../common/ids.ts';
import { PRIMARY_SILENT_MS_MAX } from '../../common/limits.ts';
import { type Log, silentLog } from '../../common/log.ts';
import type { EndSession, Member, OpenBlock, OpenBlockReply, Reign } from '../../common/wire/control.ts';
import {
  decodeControl,
  encodeControl,
  zEndSession,
  zFenceReply,
  zOpenBlock,
  zSealReply,
} from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcReply } from '../../common/wire/rpc-connection.ts';
import type { RpcResult } from '../../common/wire/rpc-server.ts';
import type { FaultName } from '../../dataserver/block/faults.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import type { Directory } from '../../dataserver/directory.ts';
import type { NameServers } from '../../dataserver/nameservers.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Replica } from '../../dataserver/replica.ts';
import { SessionPool } from '../../dataserver/session-pool.ts';
import { Suspects } from '../../dataserver/suspects.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import type { Commands } from '../../nameserver/commands.ts';
import type { NameServerFaultName } from '../../nameserver/faults.ts';
import { SealCoordinator } from '../../nameserver/seal.ts';
import type { SealTimes } from '../../nameserver/seal-decision.ts';
import { Sweep } from '../../nameserver/sweep.ts';
import { CLUSTER, faultsOf } from './block-world.ts';
import { ManualClock } from './manual-clock.ts';
import { turns } from './memory-net.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

export const BLOCK_BYTES = 64 * 1024;
const REPLICAS = 3;
/** As an address of the NameServers in {@link SealWorld.cuts}. */
export const LEADER = 0;
const FIRST_BLOCK = 0x2_0000;
const addressOf = (id: number): HostPort => ({ host: 'ds', port: 1000 + id });

export interface SealWorldOptions {
  readonly seed: number;
  readonly times: SealTimes;
  /** Of each primary; 1 when absent. */
  readonly openBlocks?: number;
  readonly memberAckMs?: number;
  readonly faults?: readonly FaultName[];
  readonly sealFaults?: readonly NameServerFaultName[];
  /** Longest way of a message, one direction. */
  readonly delayMsMax?: number;
  readonly primarySilentMsMax?: number;
  readonly log?: Log;
}

/** One life of a DataServer: its store, its sessions as a primary, and what it does as a member. */
export interface Life {
  readonly id: ServerId;
  readonly disk: RecordingDisk;
  readonly store: BlockStore;
  readonly pool: SessionPool;
  readonly replica: Replica;
  /** False once it was killed: nothing that it still does is seen by anyone. */
  alive: boolean;
}

/**
 * DataServers with real stores, sessions and replicas, and NameServers with the real coordinator of seals, on disks in
 * memory, a clock that is moved by hand, and a network that delays, loses and cuts. One seed replays all of it.
 */
export class SealWorld {
  readonly clock = new ManualClock();
  readonly random: SeededRandom;
  readonly lives = new Map<number, Life>();
  /** Links that let nothing through, `from>to`. */
  readonly cuts = new Set<string>();
  /** Servers that are stopped: they neither see messages nor answers, and their deadlines do not pass. */
  readonly paused = new Set<number>();
  leader: Leader;
  readonly ended: EndSession[] = [];
  readonly opened: OpenBlockReply[] = [];
  /** Servers that primaries did not want for a new block. */
  readonly avoided: ServerId[] = [];
  /** Takes a call instead of its receiver; undefined lets it through. */
  intercept: ((from: number, to: number, op: number) => 'drop' | 'overloaded' | undefined) | undefined;
  readonly #options: SealWorldOptions;
  #nextBlock = FIRST_BLOCK;
  #onAwake = new Map<number, (() => void)[]>();
  #incarnations = new Map<number, number>();

  private constructor(options: SealWorldOptions) {
    this.#options = options;
    this.random = new SeededRandom(options.seed);
    this.leader = new Leader(this, 1, options);
  }

  static async open(options: SealWorldOptions): Promise<SealWorld> {
    const world = new SealWorld(options);
    for (let id = 1; id <= REPLICAS; id++) await world.start(id, new RecordingDisk());
    return world;
  }

  life(id: number): Life {
    return this.lives.get(id)!;
  }

  get alive(): Life[] {
    return [...this.lives.values()].filter(({ alive }) => alive);
  }

  /** A new process of this server, on that disk. */
  async start(id: number, disk: RecordingDisk): Promise<Life> {
    const { clock } = this;
    const { log = silentLog } = this.#options;
    const server = id as ServerId;
    const incarnation = (this.#incarnations.get(id) ?? 0) + 1;
    this.#incarnations.set(id, incarnation);
    const random = new SeededRandom(this.random.u32());
    const store = await BlockStore.open({
      disk,
      clock,
      random,
      clusterUuid: CLUSTER,
      server,
      budgets: { indexBytes: 1 << 24, openFiles: 64 },
      log,
      limits: { opsReserveBytes: 0 },
      faults: faultsOf(...(this.#options.faults ?? [])),
    });
    const promise = await PromiseKeeper.open(disk);
    const wire = new Wire(this, id);
    const peers = wire as unknown as Peers;
    const suspects = new Suspects({ clock, peers });
    const nameservers = {
      callLeader: async (op: number, message: object) => {
        const { header } = await wire.call(addressOf(LEADER), op, encodeControl(message), [], 1000);
        return JSON.parse(header.toString()) as object;
      },
      hurry: () => undefined,
    } as unknown as NameServers;
    const pool = new SessionPool({
      server,
      incarnation: incarnation as Incarnation,
      clusterUuid: CLUSTER,
      blockBytes: BLOCK_BYTES,
      store,
      peers,
      nameservers,
      promise,
      suspects,
      clock,
      random,
      openBlocks: this.#options.openBlocks ?? 1,
      memberAckMs: this.#options.memberAckMs ?? 1000,
      log,
      unfit: () => store.readOnly,
      onDiskLate: () => undefined,
    });
    const replica = new Replica({
      server,
      clusterUuid: CLUSTER,
      store,
      peers,
      promise,
      directory: { learn: () => undefined } as unknown as Directory,
      log,
      onSealed: () => undefined,
      onFenced: (block) => pool.fenced(block),
    });
    const life: Life = { id: server, disk, store, pool, replica, alive: true };
    wire.life = life;
    this.lives.set(id, life);
    pool.start();
    this.leader.report(life, true);
    return life;
  }

  /** The process is gone at once; the others notice that their connections are. */
  kill(id: number): void {
    const life = this.life(id);
    life.alive = false;
    this.resume(id);
    for (const other of this.alive) this.clock.after(1, () => other.pool.peerLost(addressOf(id)));
  }

  pause(id: number): void {
    this.paused.add(id);
  }

  /** @param order in which it gets to see what has come meanwhile: answers, and that its deadlines are over */
  resume(id: number, order: 'as it came' | 'reversed' = 'as it came'): void {
    this.paused.delete(id);
    const waiting = this.#onAwake.get(id) ?? [];
    if (order === 'reversed') waiting.reverse();
    this.#onAwake.delete(id);
    for (const wake of waiting) wake();
  }

  /** Another NameServer leads, under a higher epoch; the old one does not know. */
  elect(): void {
    this.leader = new Leader(this, this.leader.reign.epoch + 1, this.#options);
    for (const life of this.alive) if (this.isLinked(life.id, LEADER)) this.leader.report(life, true);
  }

  isLinked(a: number, b: number): boolean {
    return !this.cuts.has(`${a}>${b}`) && !this.cuts.has(`${b}>${a}`);
  }

  /** Time passes, and everything that becomes possible happens. */
  async pass(ms: number, stepMs = 50): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(left, stepMs));
      await turns(4);
      this.leader.step();
      await turns(2);
    }
  }

  whenAwake(id: number, act: () => void): void {
    if (!this.paused.has(id)) act();
    else this.#onAwake.set(id, [...(this.#onAwake.get(id) ?? []), act]);
  }

  /** Runs `act` at the other end, a way later; never where the link is cut. */
  send(from: number, to: number, act: () => void): void {
    const delayMs = 1 + this.random.below(this.#options.delayMsMax ?? 3);
    this.clock.after(delayMs, () => {
      if (!this.cuts.has(`${from}>${to}`)) this.whenAwake(to, act);
    });
  }

  /** OPEN_BLOCK at the leader. */
  grant({ server, incarnation, avoid }: OpenBlock): OpenBlockReply {
    this.avoided.push(...avoid);
    const others = this.alive
      .map(({ id }) => id)
      .filter((id) => id !== server && !avoid.includes(id) && this.isLinked(id, LEADER));
    if (others.length === 0) throw new TfsError('NO_WRITE_SET', 'no other server', { retryAfterMs: 1000 });
    const block = blockId(this.#nextBlock++);
    const { reign, map } = this.leader;
    const version = { epoch: reign.epoch, n: 1 };
    const members = [server, ...others].map((id) => ({ id, incarnation, address: addressOf(id) }));
    map.open(block, { version, members: members.map(({ id }) => id), targetReplicas: REPLICAS });
    const reply = { block, reign, version, targetReplicas: REPLICAS, members };
    this.opened.push(reply);
    return reply;
  }

  /** What the receiver of a call does. */
  async handle(from: number, to: number, op: number, header: Buffer, payload: Buffer): Promise<RpcReply> {
    const request = { header, payload, peer: { role: 'dataserver', id: String(from) } } as never;
    const { replica } = this.life(to);
    const result = await ((): Promise<RpcResult> | RpcResult => {
      switch (op) {
        case Op.CREATE_BLOCK:
          return replica.create(request);
        case Op.APPEND:
          return replica.append(request);
        case Op.READ_RAW:
          return replica.readRaw(request);
        case Op.FENCE:
          return replica.fence(request);
        case Op.SEAL:
          return replica.seal(request);
        default:
          return { header: Buffer.alloc(0) };
      }
    })();
    return { header: result.header, payload: Buffer.concat(result.payload ?? []) };
  }

  lead(op: number, header: Buffer): RpcReply {
    const empty = { header: Buffer.from('{}'), payload: Buffer.alloc(0) };
    if (op === Op.OPEN_BLOCK)
      return { ...empty, header: encodeControl(this.grant(decodeControl(zOpenBlock, header, 'OPEN_BLOCK'))) };
    const end = decodeControl(zEndSession, header, 'END_SESSION');
    this.ended.push(end);
    this.leader.sealer.enqueue(end.block, end.reason, [end.server]);
    return empty;
  }
}

/** What a process sees of the others; in the place of {@link Peers}. */
class Wire {
  readonly #world: SealWorld;
  readonly #from: number;
  life: Life | undefined;

  constructor(world: SealWorld, from: number) {
    this.#world = world;
    this.#from = from;
  }

  call(
    address: HostPort,
    op: number,
    header: Buffer,
    payload: readonly Buffer[] = [],
    deadlineMs = 5000,
  ): Promise<RpcReply> {
    const world = this.#world;
    const [from, to] = [this.#from, address.port - 1000];
    // The dead say nothing.
    if (this.life?.alive === false) return new Promise(() => undefined);
    // What is on its way does not change any more.
    const [head, body] = [Buffer.from(header), Buffer.concat(payload)];
    return new Promise((resolve, reject) => {
      let isOver = false;
      const end = (how: () => void): void => {
        if (isOver) return;
        isOver = true;
        timer.cancel();
        how();
      };
      const timer = world.clock.after(deadlineMs, () =>
        world.whenAwake(from, () => end(() => reject(new TfsError('DEADLINE', `${to} did not answer`)))),
      );
      const fate = world.intercept?.(from, to, op);
      if (fate === 'overloaded') return end(() => reject(new TfsError('OVERLOADED', 'planted')));
      if (fate === 'drop') return;
      const receiver = world.lives.get(to);
      const lose = (): void => {
        const lost = new TfsError('CONNECTION_LOST', `${to} is gone`);
        world.clock.after(1, () => world.whenAwake(from, () => end(() => reject(lost))));
      };
      if (to !== LEADER && !receiver?.alive) return lose();
      world.send(from, to, () => {
        if (to !== LEADER && !receiver?.alive) return lose();
        const work = async (): Promise<RpcReply> =>
          to === LEADER ? world.lead(op, head) : world.handle(from, to, op, head, body);
        work().then(
          (reply) => {
            if (to !== LEADER && !receiver?.alive) return lose();
            world.send(to, from, () => end(() => resolve(reply)));
          },
          (error: unknown) => {
            if (to !== LEADER && !receiver?.alive) return lose();
            world.send(to, from, () => end(() => reject(error as Error)));
          },
        );
      });
    });
  }

  async callControl(
    address: HostPort,
    op: number,
    message: object,
    schema: { parse(value: unknown): object },
    payload?: readonly Buffer[],
    deadlineMs?: number,
  ): Promise<{ message: object; payload: Buffer }> {
    const reply = await this.call(address, op, encodeControl(message), payload, deadlineMs);
    const value: unknown = reply.header.length === 0 ? {} : JSON.parse(reply.header.toString());
    return { message: schema.parse(value), payload: reply.payload };
  }
}

/** A NameServer as far as seals go. */
export class Leader {
  readonly map = new BlockMap();
  readonly reign: Reign;
  readonly sealer: SealCoordinator;
  readonly #world: SealWorld;
  readonly #sweep: Sweep;
  readonly #heardAtMs = new Map<number, number>();

  constructor(world: SealWorld, epoch: number, options: SealWorldOptions) {
    this.#world = world;
    this.reign = { epoch: epoch as Reign['epoch'], nameserver: 0 };
    const { clock } = world;
    const { log = silentLog } = options;
    const wire = new Wire(world, LEADER);
    const commands = {
      fence: async ({ address }: Member, order: object) =>
        (await wire.callControl(address, Op.FENCE, order, zFenceReply, [], options.times.patienceMs)).message,
      seal: async ({ address }: Member, order: object) =>
        (await wire.callControl(address, Op.SEAL, order, zSealReply, [], options.times.patienceMs)).message,
    } as unknown as Commands;
    this.sealer = new SealCoordinator({
      map: this.map,
      commands,
      clock,
      log,
      reign: () => (world.leader === this ? this.reign : undefined),
      reachable: (server) =>
        this.isUp(server)
          ? { id: server, incarnation: 1 as Incarnation, address: addressOf(server) }
          : undefined,
      times: options.times,
      faults: { has: (name) => options.sealFaults?.includes(name) ?? false },
    });
    this.#sweep = new Sweep({
      unsettled: this.map.unsettled,
      facts: (block) => this.map.facts(block),
      isCurrent: (server) => this.isUp(server),
      isLeaving: () => false,
      primarySilentMsMax: options.primarySilentMsMax ?? PRIMARY_SILENT_MS_MAX,
      isFullSetPossible: () => world.alive.every(({ id }) => this.isUp(id)),
      enqueue: (block, why) => this.sealer.enqueue(block, why),
      isQueued: (block) => this.sealer.isQueued(block),
    });
  }

  isUp(server: number): boolean {
    const heardAtMs = this.#heardAtMs.get(server);
    return heardAtMs !== undefined && this.#world.clock.monotonic() - heardAtMs < 2000;
  }

  /** All of its blocks, as of now. @param whole of a process that was not heard before */
  report(life: Life, whole: boolean): void {
    const wasUp = this.isUp(life.id);
    this.#heardAtMs.set(life.id, this.#world.clock.monotonic());
    if (whole) this.map.beginReport(life.id);
    for (const entry of life.store.entries()) this.map.report(life.id, entry);
    if (whole) this.map.endReport(life.id);
    if (whole || !wasUp) this.sealer.serverIsBack(life.id);
  }

  /** Half a second or so of the life of a NameServer. */
  step(): void {
    const world = this.#world;
    for (const life of world.alive)
      if (world.isLinked(life.id, LEADER) && !world.paused.has(life.id)) this.report(life, false);
    this.#sweep.run(world.clock.monotonic());
    this.sealer.pump();
  }
}

export const recordOf = (random: SeededRandom, payload: Buffer): Parameters<SessionPool['append']>[0] => ({
  opId: random.bytes(16),
  sha1: random.bytes(20),
  size: payload.length,
  dataCrc: crc32(payload),
  suffixHash: 0,
  mediaType: 0,
  chunkCrcs: new Uint32Array(0),
  payload,
});
