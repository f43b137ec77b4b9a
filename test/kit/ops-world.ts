import { isTfsError, TfsError } from '../../common/errors.ts';
import { type MutationType, nameFlagsOf, OpType } from '../../common/format/ops.ts';
import {
  ALIAS_BIT,
  type BlockId,
  cookieOf,
  epochOf,
  type FileId,
  type HostPort,
  incarnationOf,
  type ServerId,
  type Slot,
  serverId,
} from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import {
  type ConfigurationWish,
  decodeControl,
  encodeControl,
  type Member,
  type Reign,
  type RequestCfgReply,
  zConfigureReply,
} from '../../common/wire/control.ts';
import { encodeMutate, Mutation, NameFlag, Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcHandler, RpcRequest } from '../../common/wire/rpc-server.ts';
import type { FaultName } from '../../dataserver/block/faults.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { mutate } from '../../dataserver/mutate.ts';
import { OpsSequencer } from '../../dataserver/ops-sequencer.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import type { Reader } from '../../dataserver/reader.ts';
import { Reconfigurer } from '../../dataserver/reconfigure.ts';
import { Replica } from '../../dataserver/replica.ts';
import { Takeover } from '../../dataserver/takeover.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Configurer } from '../../nameserver/configurer.ts';
import { CLUSTER, faultsOf, put, RushingClock, superblockOf, Writer, type Written } from './block-world.ts';
import { FaultyDisk } from './faulty-disk.ts';
import { turn } from './memory-net.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

/** Pictures in the block. */
const NAMES = 16;
export const BLOCK = 0x2_0000 as BlockId;
const IDS = [1, 2, 3].map(serverId);
const addressOf = (id: ServerId): HostPort => ({ host: 'node', port: id });
const idAt = ({ port }: HostPort): ServerId => serverId(port);
const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });

/** What a client asked for, and what it heard. Times only say what came first. */
export interface Attempt {
  readonly fileId: FileId;
  readonly kind: MutationType | typeof OpType.ALIAS;
  readonly opId: string;
  /** It was answered because an operation of its own is in the log; else because the name was so already. */
  ownOp: boolean;
  /** Of an alias: what its client was told. */
  aliasId?: FileId;
  readonly startedAt: number;
  /** Infinity while it may still happen. */
  endedAt: number;
  acked: boolean;
}

/** One process of a DataServer, as far as operations on blocks go, on a disk that outlives it. */
class Node {
  readonly id: ServerId;
  readonly disk: RecordingDisk;
  readonly store: BlockStore;
  readonly ops: OpsSequencer;
  readonly takeover: Takeover;
  readonly handlers: ReadonlyMap<number, RpcHandler>;
  readonly clock: RushingClock;
  dead = false;

  private constructor(
    id: ServerId,
    disk: RecordingDisk,
    parts: { store: BlockStore; promise: PromiseKeeper; world: OpsWorld; clock: RushingClock },
  ) {
    this.id = id;
    this.disk = disk;
    const { store, promise, world, clock } = parts;
    this.store = store;
    this.clock = clock;
    const peers = { call: world.callerOf(id, () => this.dead) } as unknown as Peers;
    const directory = {
      learn: () => undefined,
      address: async (server: ServerId) => addressOf(server),
      refresh: async () => undefined,
    };
    const requestConfiguration = (
      block: BlockId,
      failed: readonly ServerId[],
      wish: ConfigurationWish = {},
    ) => world.request(this.id, block, failed, wish, () => this.dead);
    const { faults } = world;
    const shared = { server: id, store, peers, directory };
    const onSetBack = ({ message }: TfsError) => world.setBack.push(message);
    const isTimeKnown = () => true;
    this.ops = new OpsSequencer({
      ...shared,
      clock,
      minWrite: 2,
      requestConfiguration,
      onSetBack,
      onDiskLate: () => undefined,
      isTimeKnown,
      faults,
    });
    this.takeover = new Takeover({ ...shared, unfit: () => undefined, requestConfiguration });
    const reconfigurer = new Reconfigurer({
      ...shared,
      promise,
      ops: this.ops,
      log: silentLog,
      faults,
    });
    const replica = new Replica({
      ...shared,
      directory: directory as never,
      clusterUuid: CLUSTER,
      promise,
      log: silentLog,
      onSealed: () => undefined,
      onFenced: () => undefined,
    });
    this.handlers = new Map<number, RpcHandler>([
      [Op.OPS, (request) => replica.ops(request)],
      [Op.CONFIGURE, (request) => reconfigurer.configure(request)],
      [Op.PREPARE_OPS, (request) => reconfigurer.prepare(request)],
      [Op.INSTALL_OPS, (request) => reconfigurer.install(request)],
      [Op.CAN_ORDER, () => ({ header: encodeControl({ able: true }) })],
    ]);
  }

  static async boot(id: ServerId, disk: RecordingDisk, world: OpsWorld): Promise<Node> {
    const clock = new RushingClock();
    const slow = new FaultyDisk(disk);
    slow.pause = () => world.diskDelay();
    const store = await BlockStore.open({
      disk: slow,
      clock,
      random: new SeededRandom(id),
      clusterUuid: CLUSTER,
      server: id,
      budgets: { indexBytes: 1 << 24, openFiles: 64 },
      log: silentLog,
      faults: world.faults,
      limits: { opsReserveBytes: 0, opsLogBytes: world.opsLogBytes },
    });
    return new Node(id, disk, { store, promise: await PromiseKeeper.open(disk), world, clock });
  }
}

/** A NameServer as far as configurations go: a map from what it hears, and an epoch of its own. */
class Leader {
  readonly reign: Reign;
  readonly map = new BlockMap();
  readonly configurer: Configurer;
  readonly sees = new Set<ServerId>(IDS);
  deposed = false;

  constructor(epoch: number, world: OpsWorld) {
    this.reign = { epoch: epochOf(epoch), nameserver: epoch & 1 };
    const refuse = () => Promise.reject(new Error('not part of this world'));
    this.configurer = new Configurer({
      map: this.map,
      clock: new RushingClock(),
      log: silentLog,
      minWrite: 2,
      reign: () => (this.deposed ? undefined : this.reign),
      reachable: (id) => (this.sees.has(id) && world.nodes.has(id) ? memberOf(id) : undefined),
      address: memberOf,
      domainOf: (id) => `d${id}`,
      domainsInAll: () => Number.POSITIVE_INFINITY,
      isDrained: () => false,
      canWrite: () => true,
      // Who thinks itself current is not looked at here.
      unconfirmedFromMs: () => Number.NEGATIVE_INFINITY,
      seal: () => undefined,
      commands: {
        fence: refuse,
        seal: refuse,
        syncOps: refuse,
        configure: async ({ id }, order) => {
          const reply = await world.send('nameserver', id, Op.CONFIGURE, encodeControl(order));
          return decodeControl(zConfigureReply, reply.header, 'reply');
        },
      },
    });
  }

  /** @returns whether it has heard enough to know of every configuration */
  hear(world: OpsWorld): boolean {
    let heard = 0;
    for (const id of this.sees) {
      const entry = world.nodes.get(id)?.store.entry(BLOCK);
      if (entry === undefined) continue;
      heard++;
      this.map.report(id, entry);
    }
    return heard >= 2;
  }
}

/**
 * Three DataServers' real stores, sequencers and reconfigurers, one sealed block, and one or two leaders, on a network
 * that loses, delays and repeats, with processes that die at any moment and lose what was not durable.
 */
export class OpsWorld {
  readonly nodes = new Map<ServerId, Node>();
  readonly attempts: Attempt[] = [];
  /** Disks that were taken for older copies of themselves: what is lost here is only what was not durable. */
  readonly setBack: string[] = [];
  readonly faults: { has(name: FaultName): boolean };
  readonly opsLogBytes: number;
  /** Deleted names may be purged at any moment, and stay what they are then. */
  readonly purges: boolean;
  readonly #random: SeededRandom;
  #records: readonly Written[] = [];
  readonly #disks = new Map<ServerId, RecordingDisk>();
  #leaders: Leader[] = [];
  #cut = new Set<string>();
  #epoch = 1;
  #events = 0;
  #lossy = true;
  readonly #pending = new Set<Promise<unknown>>();

  private constructor(seed: number, faults: readonly FaultName[]) {
    this.#random = new SeededRandom(seed);
    this.faults = faultsOf(...faults);
    // Some worlds fold their logs all the time.
    this.opsLogBytes = this.#random.below(2) === 0 ? 1 << 20 : 1200;
    this.purges = seed % 3 === 0;
  }

  /** @returns what is wrong, or undefined */
  static async run(
    seed: number,
    steps: number,
    faults: readonly FaultName[] = [],
  ): Promise<string | undefined> {
    const world = new OpsWorld(seed, faults);
    await world.#start();
    try {
      for (let i = 0; i < steps; i++) await world.#step();
      return world.setBack[0] ?? (await world.#heal()) ?? (await world.#judge()) ?? world.setBack[0];
    } finally {
      for (const node of world.nodes.values()) await node.store.close();
    }
  }

  /** @param isDead whether that process of the server has died: it sends nothing, and hears nothing, any more */
  callerOf(from: ServerId, isDead: () => boolean): Peers['call'] {
    return (to, op, header, payload) => {
      const reply = this.send(from, idAt(to), op, header, Buffer.concat(payload ?? []), isDead);
      return reply.then(({ header: own, payload: body }) => ({ header: own, payload: body }));
    };
  }

  async send(
    from: ServerId | 'nameserver',
    to: ServerId,
    op: number,
    header: Buffer,
    payload: Buffer = Buffer.alloc(0),
    isDead: () => boolean = () => false,
  ): Promise<{ header: Buffer; payload: Buffer }> {
    const random = this.#random;
    const receiver = this.nodes.get(to);
    await this.#delay();
    if (
      isDead() ||
      receiver === undefined ||
      receiver.dead ||
      this.#isCut(from, to) ||
      (this.#lossy && random.below(40) === 0)
    )
      throw new TfsError('CONNECTION_LOST', `no way from ${from} to ${to}`);
    const request: RpcRequest = {
      op,
      header,
      payload,
      deadlineAt: Number.MAX_SAFE_INTEGER as RpcRequest['deadlineAt'],
      peer: {
        role: from === 'nameserver' ? 'nameserver' : 'dataserver',
        id: String(from),
        remote: addressOf(to),
      },
    };
    const handler = receiver.handlers.get(op);
    if (handler === undefined) throw new Error(`no handler for ${op}`);
    // A repeat that nobody waits for.
    if (this.#lossy && random.below(op === Op.CONFIGURE ? 4 : 40) === 0)
      this.#keep(this.#delay().then(() => handler(request))).catch(() => undefined);
    const result = await handler(request);
    await this.#delay();
    if (receiver.dead || isDead() || this.#isCut(from, to) || (this.#lossy && random.below(40) === 0))
      throw new TfsError('DEADLINE', `no answer from ${to} to ${from}`);
    return { header: result.header, payload: Buffer.concat(result.payload ?? []) };
  }

  /** REQUEST_CFG: to whichever leader that member follows. */
  async request(
    from: ServerId,
    block: BlockId,
    failed: readonly ServerId[],
    wish: ConfigurationWish,
    isDead: () => boolean,
  ): Promise<RequestCfgReply> {
    await this.#delay();
    if (isDead()) throw new TfsError('CONNECTION_LOST', 'it died');
    const leader = this.#leaders.filter(({ sees }) => sees.has(from)).at(-1);
    if (leader === undefined || !leader.hear(this)) throw new TfsError('UNAVAILABLE', 'no leader', {});
    return leader.configurer.request(block, failed, { ...wish, server: from });
  }

  async #start(): Promise<void> {
    for (const id of IDS) {
      this.#disks.set(id, new RecordingDisk());
      const node = await Node.boot(id, this.#disks.get(id)!, this);
      const writer = new Writer(superblockOf(BLOCK));
      await node.store.create(writer.superblock, {
        version: { epoch: epochOf(1), n: 1 },
        opsPrimary: IDS[0]!,
        members: IDS,
      });
      const payloads = Array.from({ length: NAMES }, (_, i) => Buffer.alloc(64, i));
      this.#records = await put(node.store, writer, payloads);
      const facts = await node.store.fence(BLOCK, epochOf(1));
      await node.store.seal(BLOCK, {
        length: facts.validLength,
        slots: facts.slots,
        digest: undefined,
        epoch: epochOf(1),
      });
      this.nodes.set(id, node);
    }
    this.#leaders = [new Leader(1, this)];
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const action = random.below(100);
    if (action < 45) this.#visit();
    else if (action < 65) this.#cut = random.below(2) === 0 ? new Set() : this.#someCut();
    else if (action < 70) await this.#crash(random.pick(IDS));
    else if (action < 80) await this.#restart();
    else if (action < 85) this.#newLeader();
    else if (action < 91) this.#exclude();
    else if (action < 95 && this.purges) this.#purge();
    else for (const leader of this.#leaders) if (leader.hear(this)) leader.configurer.pump();
    for (let i = random.below(30); i > 0; i--) await turn();
  }

  /** What began or ended later has a higher one. */
  #now(): number {
    return ++this.#events;
  }

  /** Somebody deletes a picture, perhaps thinks better of it, perhaps again; or gives it a second name. */
  #visit(): void {
    const random = this.#random;
    const fileId = random.below(NAMES) as FileId;
    const first = random.pick([OpType.DELETE, OpType.UNDELETE] as const);
    const second = first === OpType.DELETE ? OpType.UNDELETE : OpType.DELETE;
    const kinds =
      random.below(4) === 0 ? [OpType.ALIAS] : [first, second, first].slice(0, 1 + random.below(3));
    const visit = async () => {
      for (const kind of kinds) await this.#attempt(fileId, kind);
    };
    this.#keep(visit()).catch((error: unknown) => {
      if (!isTfsError(error)) throw error;
    });
  }

  /** A client repeats what failed, with the same opId, and not always at the same server. */
  async #attempt(fileId: FileId, kind: Attempt['kind']): Promise<void> {
    const random = this.#random;
    const opId = random.bytes(16);
    const attempt: Attempt = {
      fileId,
      kind,
      opId: opId.toString('hex'),
      ownOp: true,
      startedAt: this.#now(),
      endedAt: Number.POSITIVE_INFINITY,
      acked: false,
    };
    this.attempts.push(attempt);
    for (let tries = random.below(10); ; tries--) {
      const node = this.nodes.get(random.pick(IDS));
      try {
        if (node === undefined) throw new TfsError('CONNECTION_LOST', 'it is down');
        await (kind === OpType.ALIAS ? this.#alias(node, attempt, opId) : this.#mutate(node, attempt, opId));
        if (node.dead) throw new TfsError('CONNECTION_LOST', 'it died');
        break;
      } catch (error) {
        if (tries <= 0) throw error;
        for (let i = random.below(100); i > 0; i--) await turn();
      }
    }
    attempt.acked = true;
    attempt.endedAt = this.#now();
  }

  async #mutate({ store, ops, takeover, clock }: Node, attempt: Attempt, opId: Buffer): Promise<void> {
    const { fileId } = attempt;
    const { cookie } = this.#records[fileId]!;
    const kind = attempt.kind === OpType.DELETE ? Mutation.DELETE : Mutation.UNDELETE;
    attempt.ownOp = false;
    const watched = {
      mutate: (...of: Parameters<OpsSequencer['mutate']>) => {
        attempt.ownOp = true;
        return ops.mutate(...of);
      },
      confirm: (block: BlockId) => {
        attempt.ownOp = false;
        return ops.confirm(block);
      },
    } as OpsSequencer;
    const reader = { knows: () => true, honest: (error: unknown) => error } as unknown as Reader;
    const request = { header: encodeMutate({ block: BLOCK, fileId, cookie, kind, opId }) } as RpcRequest;
    await mutate({ store, ops: watched, reader, takeover, clock }, request);
  }

  async #alias({ ops, takeover }: Node, attempt: Attempt, opId: Buffer): Promise<void> {
    await takeover.ensure(BLOCK);
    const aliasId = ((ALIAS_BIT | (this.#random.u32() & 0x7fff_ffff)) >>> 0) as FileId;
    const target = attempt.fileId as number as Slot;
    attempt.aliasId = await ops.alias(BLOCK, { aliasId, cookie: cookieOf(1), target, opId });
  }

  #purge(): void {
    const node = this.nodes.get(this.#random.pick(IDS));
    const ask = { windowMs: 0, nowMs: 0, opId: this.#random.bytes(16) };
    const work = async (): Promise<void> => {
      await node?.takeover.ensure(BLOCK);
      await node?.ops.purge(BLOCK, ask);
    };
    this.#keep(work()).catch((error: unknown) => {
      if (!isTfsError(error)) throw error;
    });
  }

  /** Somebody cannot reach a member that lives and goes on: the hardest case, because that one may be the sequencer. */
  #exclude(): void {
    const leader = this.#leaders.at(-1)!;
    if (!leader.hear(this)) return;
    this.#keep(leader.configurer.request(BLOCK, [this.#random.pick(IDS)])).catch((error: unknown) => {
      if (!isTfsError(error)) throw error;
    });
  }

  #someCut(): Set<string> {
    const a = this.#random.pick(IDS);
    const b = this.#random.pick(IDS);
    const alone = this.#random.below(2) === 0;
    const cut = new Set<string>();
    for (const other of IDS)
      if (other !== a && (alone || other === b)) cut.add(`${a} ${other}`).add(`${other} ${a}`);
    if (alone && this.#random.below(2) === 0) cut.add(`nameserver ${a}`);
    for (const leader of this.#leaders) {
      leader.sees.clear();
      for (const id of IDS)
        if (!cut.has(`nameserver ${id}`) || this.#random.below(4) === 0) leader.sees.add(id);
    }
    return cut;
  }

  #isCut(from: ServerId | 'nameserver', to: ServerId): boolean {
    return this.#cut.has(`${from} ${to}`);
  }

  async #crash(id: ServerId): Promise<void> {
    const node = this.nodes.get(id);
    if (node === undefined || this.nodes.size < 2) return;
    node.dead = true;
    this.nodes.delete(id);
    const random = this.#random;
    const how = random.below(3);
    const image =
      how === 0
        ? node.disk.fork()
        : node.disk.crashPoint().image(() => (how === 1 ? random.below(2) === 0 : false));
    this.#disks.set(id, image);
    await node.store.close().catch(() => undefined);
  }

  async #restart(): Promise<void> {
    for (const id of IDS)
      if (!this.nodes.has(id)) this.nodes.set(id, await Node.boot(id, this.#disks.get(id)!, this));
  }

  /** The old one may go on for a while: only promises keep it from doing harm. */
  #newLeader(): void {
    this.#epoch++;
    const old = this.#leaders.at(-1)!;
    const keepsOld = this.#random.below(2) === 0;
    const leader = new Leader(this.#epoch, this);
    this.#leaders = keepsOld ? [old, leader] : [leader];
    if (!keepsOld) old.deposed = true;
  }

  /** Everything works again: within a while all members must hold the same. */
  async #heal(): Promise<string | undefined> {
    this.#lossy = false;
    this.#cut = new Set();
    await this.#restart();
    for (const leader of this.#leaders) leader.deposed = true;
    await Promise.allSettled(this.#pending);
    this.#epoch++;
    const leader = new Leader(this.#epoch, this);
    this.#leaders = [leader];
    for (let i = 0; i < 60; i++) {
      leader.hear(this);
      for (const { clock } of this.nodes.values()) clock.advance(1_000);
      try {
        await leader.configurer.request(BLOCK, []);
        const primary = leader.map.facts(BLOCK)?.opsPrimary;
        await this.nodes.get(primary!)?.ops.confirm(BLOCK);
      } catch (error) {
        if (!isTfsError(error)) throw error;
      }
      leader.hear(this);
      if (this.#isSettled()) return undefined;
      await turn();
    }
    const states = [...this.nodes.values()].map(({ id, store }) => {
      const { version, seq, members, opsPrimary } = store.info(BLOCK)!;
      return `${id}: (${version.epoch}, ${version.n}) ${seq} of ${opsPrimary} in ${members.join()}`;
    });
    return `it does not settle: ${states.join('; ')}`;
  }

  #isSettled(): boolean {
    const infos = [...this.nodes.values()].map(({ store }) => store.info(BLOCK)!);
    const [first] = infos;
    return infos.every(
      ({ version, seq, members }) =>
        version.epoch === first!.version.epoch &&
        version.n === first!.version.n &&
        seq === first!.seq &&
        members.length === IDS.length,
    );
  }

  async #judge(): Promise<string | undefined> {
    const images: string[] = [];
    for (const { store } of this.nodes.values()) {
      const state = await store.opsState(BLOCK);
      const { aliases } = state;
      const ids = Array.from({ length: aliases?.count ?? 0 }, (_, at) => aliases!.idAt(at));
      images.push(
        `${Buffer.from(state.slotFlags.slice(0, NAMES))
          .toString('hex')
          .padEnd(2 * NAMES, '0')} ${ids.join()}`,
      );
    }
    if (new Set(images).size > 1) return `members differ: ${images.join(' | ')}`;
    const state = await this.nodes.get(IDS[0]!)!.store.opsState(BLOCK);
    const acked = this.attempts.filter((attempt) => attempt.acked);
    // Far fewer than the log remembers: whatever was acknowledged is in it, even if another operation came behind.
    const lost = acked.find(
      ({ ownOp, opId, aliasId }) =>
        (ownOp && !state.recentOps?.has(opId)) ||
        (aliasId !== undefined && (state.aliases?.find(aliasId) ?? -1) < 0),
    );
    if (lost !== undefined)
      return `operation ${lost.opId.slice(0, 6)} of ${lost.startedAt}-${lost.endedAt} on name ${lost.fileId} was acknowledged and is in no log`;
    const purged = acked.find(
      ({ aliasId }) => aliasId !== undefined && ((nameFlagsOf(state, aliasId) ?? 0) & NameFlag.PURGED) !== 0,
    );
    if (purged !== undefined)
      return `a second name of ${purged.fileId}, given out at ${purged.endedAt}, has lost its bytes to a purge`;
    for (let fileId = 0; fileId < NAMES; fileId++) {
      const isDeleted = ((state.slotFlags[fileId] ?? 0) & NameFlag.DELETED) !== 0;
      const mine = this.attempts.filter(
        (attempt) => attempt.fileId === fileId && attempt.kind !== OpType.ALIAS,
      );
      // The state is what some attempt left, after which no acknowledged one began; or nobody ever left anything.
      const isLast = (last: Attempt) =>
        !mine.some((other) => other.acked && other !== last && other.startedAt > last.endedAt);
      const fits = mine.some((attempt) => (attempt.kind === OpType.DELETE) === isDeleted && isLast(attempt));
      if (fits || (!isDeleted && !mine.some((attempt) => attempt.acked))) continue;
      const told = mine
        .filter((attempt) => attempt.acked)
        .map(({ kind, startedAt, endedAt }) => `${kind}@${startedAt}-${endedAt}`);
      return `name ${fileId} is ${isDeleted ? '' : 'not '}deleted after ${told.join(' ')}`;
    }
    return undefined;
  }

  /** Between a write and its durability, or that and the answer, other things happen; few where that gets a step done. */
  async diskDelay(): Promise<void> {
    for (let i = this.#random.below(3); i > 0; i--) await turn();
  }

  async #delay(): Promise<void> {
    for (let i = this.#random.below(4); i > 0; i--) await turn();
  }

  #keep<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    work.finally(() => this.#pending.delete(work)).catch(() => undefined);
    return work;
  }
}
