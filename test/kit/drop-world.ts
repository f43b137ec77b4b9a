import { TfsError } from '../../common/errors.ts';
import { blockId, epochOf, type HostPort, incarnationOf, type ServerId, serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import {
  compareReigns,
  type Drop,
  decodeControl,
  encodeControl,
  type Member,
  type Reign,
  zConfigureReply,
  zDropReply,
} from '../../common/wire/control.ts';
import { type BlockEntry, BlockState, Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcHandler } from '../../common/wire/rpc-server.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { dropOrder } from '../../dataserver/drop-order.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Reconfigurer } from '../../dataserver/reconfigure.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Configurer } from '../../nameserver/configurer.ts';
import { Dropper } from '../../nameserver/dropper.ts';
import { CLUSTER, put, RushingClock, superblockOf, Writer } from './block-world.ts';
import { turn } from './memory-net.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

const BLOCK = blockId(0x2_0001);
const IDS = [1, 2, 3, 4, 5, 6].map(serverId);
export const COPIES_WANTED = 3;
const addressOf = (id: ServerId): HostPort => ({ host: 'node', port: id });
const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });

/** Protections that a test takes away. */
export type DropFault =
  /** Copies count on whatever was heard of them last, whoever their servers obey now. */
  | 'count-the-unpromised'
  /** A DataServer drops at anybody's word, however old. */
  | 'obey-anyone'
  /** An order does not say under which configuration the replica is not needed. */
  | 'any-version';

class Node {
  readonly id: ServerId;
  readonly disk: RecordingDisk;
  readonly store: BlockStore;
  readonly promise: PromiseKeeper;
  readonly handlers: ReadonlyMap<number, RpcHandler>;
  dead = false;

  private constructor(
    id: ServerId,
    disk: RecordingDisk,
    { store, promise, world }: { store: BlockStore; promise: PromiseKeeper; world: DropWorld },
  ) {
    this.id = id;
    this.disk = disk;
    this.store = store;
    this.promise = promise;
    const call: Peers['call'] = (to, op, header, payload) =>
      world.send(id, serverId(to.port), { op, header, payload: Buffer.concat(payload ?? []) });
    const reconfigurer = new Reconfigurer({
      server: id,
      store,
      peers: { call } as Peers,
      promise,
      directory: { learn: () => undefined } as never,
      ops: { reset: () => undefined } as never,
      log: silentLog,
    });
    const anyone = { during: async <T>(_: Reign, work: () => Promise<T>) => work() };
    this.handlers = new Map<number, RpcHandler>([
      [Op.CONFIGURE, (request) => reconfigurer.configure(request)],
      [Op.PREPARE_OPS, (request) => reconfigurer.prepare(request)],
      [Op.INSTALL_OPS, (request) => reconfigurer.install(request)],
      [
        Op.DROP,
        (request) =>
          dropOrder({ store, promise: world.faults.includes('obey-anyone') ? anyone : promise }, request),
      ],
    ]);
  }

  static async boot(id: ServerId, disk: RecordingDisk, world: DropWorld): Promise<Node> {
    const store = await BlockStore.open({
      disk,
      clock: new RushingClock(),
      random: new SeededRandom(id),
      clusterUuid: CLUSTER,
      server: id,
      budgets: { indexBytes: 1 << 24, openFiles: 64 },
      log: silentLog,
      limits: { opsReserveBytes: 0 },
    });
    return new Node(id, disk, { store, promise: await PromiseKeeper.open(disk), world });
  }
}

interface Word {
  readonly promise: Reign;
  readonly entry: BlockEntry | undefined;
}

/** A NameServer as far as configurations and drops go: a map from what it hears, and a reign of its own. */
class Leader {
  readonly reign: Reign;
  readonly map = new BlockMap();
  readonly dropper: Dropper;
  readonly configurer: Configurer;
  /** Words of each server that are on their way, in their order. */
  readonly words = new Map<ServerId, Word[]>(IDS.map((id) => [id, []]));
  /** The promise that the last word of each was said under. */
  readonly heard = new Map<ServerId, Reign>();
  readonly clock = new RushingClock();
  deposed = false;

  constructor(epoch: number, world: DropWorld) {
    this.reign = { epoch: epochOf(epoch), nameserver: epoch & 1 };
    const refuse = () => Promise.reject(new Error('not part of this world'));
    const hasPromised = (id: ServerId): boolean => {
      const promise = this.heard.get(id);
      return promise !== undefined && compareReigns(promise, this.reign) === 0;
    };
    const orders = {
      map: this.map,
      clock: this.clock,
      log: silentLog,
      reign: () => (this.deposed ? undefined : this.reign),
      reachable: (id: ServerId) => (this.heard.has(id) ? memberOf(id) : undefined),
      domainOf: (id: ServerId) => `d${id}`,
      domainsInAll: () => Number.POSITIVE_INFINITY,
      isDrained: () => false,
      canWrite: () => true,
    };
    this.configurer = new Configurer({
      ...orders,
      minWrite: 2,
      address: memberOf,
      unconfirmedFromMs: () => Number.NEGATIVE_INFINITY,
      seal: () => undefined,
      commands: {
        fence: refuse,
        seal: refuse,
        syncOps: refuse,
        configure: async ({ id }, order) => {
          const reply = await world.command(this, id, Op.CONFIGURE, order);
          return decodeControl(zConfigureReply, reply.header, 'reply');
        },
      },
    });
    this.dropper = new Dropper({
      ...orders,
      empty: new Set(),
      configurer: this.configurer,
      isViewComplete: () => true,
      missing: () => [...this.words.keys()].filter((id) => !hasPromised(id)),
      isCurrent: (id) =>
        world.faults.includes('count-the-unpromised') ? this.heard.has(id) : hasPromised(id),
      usedPercent: (id) => world.usedPercent(id),
      commands: {
        drop: async ({ id }, order) => {
          const version = { epoch: epochOf(2 ** 48 - 1), n: 0xffff };
          const sent: Drop = world.faults.includes('any-version') ? { ...order, version } : order;
          const reply = await world.command(this, id, Op.DROP, sent);
          return decodeControl(zDropReply, reply.header, 'reply');
        },
      },
    });
  }

  hear(server: ServerId): void {
    const word = this.words.get(server)!.shift();
    if (word === undefined) return;
    this.heard.set(server, word.promise);
    if (word.entry === undefined) this.map.absent(BLOCK, server);
    else this.map.report(server, word.entry);
  }
}

/**
 * Six DataServers' real stores and promises, one sealed block with more copies than are wanted, and up to two NameServers
 * that both think that they lead. Orders and reports are lost, repeated and late; servers die and come back with what was
 * durable; disks fill up, so that other copies are the ones too many.
 */
export class DropWorld {
  readonly nodes = new Map<ServerId, Node>();
  readonly faults: readonly DropFault[];
  drops = 0;
  readonly #random: SeededRandom;
  readonly #used = new Map<ServerId, number>();
  #leaders: Leader[] = [];
  #epoch = 1;
  #lossy = true;
  #busy = 0;
  /** Orders on their way. */
  #late: (() => void)[] = [];

  private constructor(seed: number, faults: readonly DropFault[]) {
    this.#random = new SeededRandom(seed);
    this.faults = faults;
  }

  /** @returns what is wrong, or undefined; and how many replicas were let go of */
  static async run(
    seed: number,
    steps: number,
    faults: readonly DropFault[] = [],
  ): Promise<{ readonly wrong: string | undefined; readonly drops: number }> {
    const world = new DropWorld(seed, faults);
    await world.#start();
    try {
      let wrong: string | undefined;
      for (let i = 0; i < steps && wrong === undefined; i++) {
        await world.#step();
        wrong = world.#wrong();
      }
      wrong ??= faults.length === 0 ? await world.#heal() : undefined;
      return { wrong, drops: world.drops };
    } finally {
      await world.#end();
      for (const node of world.nodes.values()) await node.store.close();
    }
  }

  /** What is under way ends, and nothing new begins. */
  async #end(): Promise<void> {
    this.#lossy = false;
    let isOver = false;
    const closing = Promise.all(
      this.#leaders.flatMap((one) => [one.dropper.close(), one.configurer.close()]),
    );
    void closing.then(() => {
      isOver = true;
    });
    while (!isOver || this.#late.length > 0) {
      for (const deliver of this.#late.splice(0)) deliver();
      await turn();
    }
  }

  usedPercent(id: ServerId): number {
    return this.#used.get(id) ?? 50;
  }

  /** A NameServer's order: it arrives when its turn comes, once, never or twice. */
  async command(from: Leader, to: ServerId, op: number, order: object) {
    const request = { op, header: encodeControl(order), payload: Buffer.alloc(0) };
    const arrival = () => this.#arrive(String(from.reign.nameserver), 'nameserver', to, request);
    await new Promise<void>((resolve) => {
      this.#late.push(resolve);
    });
    if (this.#lossy && this.#random.below(6) === 0) this.#later(arrival);
    if (this.#lossy && this.#random.below(8) === 0) {
      // Given up by the one who sent it, and still on its way.
      this.#later(arrival);
      throw new TfsError('DEADLINE', `no answer from ${to}`);
    }
    try {
      return await arrival();
    } catch (error) {
      const isOver = (error as TfsError).code === 'STALE_EPOCH';
      // It may not notice for a while: it was stopped, or is slow.
      if (isOver && this.#random.below(3) === 0) from.deposed = true;
      throw error;
    }
  }

  send(from: ServerId, to: ServerId, request: { op: number; header: Buffer; payload: Buffer }) {
    return this.#arrive(String(from), 'dataserver', to, request);
  }

  #later(arrival: () => Promise<unknown>): void {
    this.#late.push(() => void arrival().catch(() => undefined));
  }

  async #arrive(
    id: string,
    role: 'nameserver' | 'dataserver',
    to: ServerId,
    request: { op: number; header: Buffer; payload: Buffer },
  ) {
    const node = this.nodes.get(to)!;
    const handler = node.handlers.get(request.op)!;
    await turn();
    if (node.dead) throw new TfsError('CONNECTION_LOST', `${to} is dead`);
    const held = node.store.info(BLOCK) !== undefined;
    const peer = { role, id, remote: addressOf(to) };
    const result = await handler({ ...request, deadlineAt: Number.MAX_SAFE_INTEGER as never, peer });
    if (request.op === Op.DROP && held) this.drops++;
    if (node.dead || (this.#lossy && this.#random.below(12) === 0))
      throw new TfsError('DEADLINE', `no answer from ${to}`);
    return { header: result.header, payload: Buffer.concat(result.payload ?? []) };
  }

  async #start(): Promise<void> {
    const superblock = superblockOf(BLOCK);
    const extra = this.#random.below(4) > 0 ? 1 : 2;
    for (const id of IDS) {
      const node = await Node.boot(id, new RecordingDisk(), this);
      this.nodes.set(id, node);
      if (id > COPIES_WANTED + extra) continue;
      await node.store.create(superblock, {
        version: { epoch: epochOf(1), n: 1 },
        opsPrimary: IDS[0]!,
        members: IDS.slice(0, COPIES_WANTED),
      });
      const writer = new Writer(superblock, new SeededRandom(3));
      await put(node.store, writer, [Buffer.from('a picture')]);
      const { validLength: length, slots } = await node.store.fence(BLOCK, epochOf(1));
      await node.store.seal(BLOCK, { length, slots, digest: undefined, epoch: epochOf(1) });
    }
    this.#leaders = [new Leader(1, this)];
  }

  async #step(): Promise<void> {
    const random = this.#random;
    // For a while one of them is busy and the other one hears nothing.
    if (random.below(5) === 0) this.#busy = random.below(2);
    const leader = this.#leaders[this.#busy] ?? this.#leaders[0]!;
    const action = random.below(100);
    if (action < 40) this.#beat(leader);
    else if (action < 60) {
      leader.clock.advance(random.below(5_000));
      leader.dropper.pump();
    } else if (action < 62) leader.configurer.pump();
    else if (action < 78 && this.#late.length > 0)
      this.#late.splice(random.below(this.#late.length), 1)[0]!();
    else if (action < 80) await this.#crash(random.pick(IDS));
    else if (action < 88) this.#newLeader();
    else this.#used.set(random.pick(IDS), random.below(100));
    for (let i = random.below(12); i > 0; i--) await turn();
  }

  /** Most servers say something, and the leader hears most of it. */
  #beat(leader: Leader): void {
    for (const id of IDS) {
      if (this.#random.below(4) > 0) this.#speak(id, leader);
      while (this.#random.below(8) > 0 && leader.words.get(id)!.length > 0) leader.hear(id);
    }
  }

  /** As with a heartbeat: it may promise first, and says what it holds. */
  #speak(id: ServerId, leader: Leader): void {
    const node = this.nodes.get(id)!;
    const say = (): void => {
      if (node.dead) return;
      const entry = node.store.entry(BLOCK);
      leader.words.get(id)!.push({ promise: node.promise.reign, entry });
    };
    say();
    if (this.#random.below(2) === 0) node.promise.accept(leader.reign).then(say, () => undefined);
  }

  /** It may have lost any part of what was not durable. */
  async #crash(id: ServerId): Promise<void> {
    const node = this.nodes.get(id)!;
    node.dead = true;
    const image = node.disk.crashPoint().image(() => this.#random.below(2) === 0);
    this.nodes.set(id, await Node.boot(id, image, this));
    // A registration tells all of it anew; what the dead process had said may still be read before.
    for (const leader of this.#leaders) this.#speak(id, leader);
  }

  /** It has heard what the servers hold all the time, as a standby does. */
  #newLeader(): void {
    const leader = new Leader(++this.#epoch, this);
    for (const id of IDS) {
      const { store, promise } = this.nodes.get(id)!;
      leader.words.get(id)!.push({ promise: promise.reign, entry: store.entry(BLOCK) });
      if (this.#random.below(4) > 0) leader.hear(id);
    }
    this.#leaders = [...this.#leaders.slice(-1), leader];
  }

  /** Copies that the servers hold now, whatever anybody believes. */
  get copies(): ServerId[] {
    return IDS.filter((id) => {
      const info = this.nodes.get(id)!.store.info(BLOCK);
      return info?.state === BlockState.SEALED && info.flags === 0;
    });
  }

  #wrong(): string | undefined {
    const { copies } = this;
    return copies.length < COPIES_WANTED
      ? `only ${copies.length} copies are left: ${copies.join()}`
      : undefined;
  }

  /** One leader that hears everyone: in the end there are as many copies as are wanted, all of them members. */
  async #heal(): Promise<string | undefined> {
    this.#lossy = false;
    this.#newLeader();
    const leader = this.#leaders.at(-1)!;
    for (const other of this.#leaders) if (other !== leader) other.deposed = true;
    for (let round = 0; round < 60; round++) {
      for (const deliver of this.#late.splice(0)) deliver();
      for (const id of IDS) {
        await this.nodes.get(id)!.promise.accept(leader.reign);
        leader.words.set(id, []);
        this.#speak(id, leader);
        leader.hear(id);
      }
      leader.clock.advance(10_000);
      leader.configurer.pump();
      leader.dropper.pump();
      for (let i = 0; i < 40; i++) await turn();
      const wrong = this.#wrong();
      if (wrong !== undefined) return wrong;
      if (this.copies.length === COPIES_WANTED && this.#areMembers()) return undefined;
    }
    return `after all of it ${this.copies.join()} hold the block`;
  }

  #areMembers(): boolean {
    const { copies } = this;
    return copies.every((id) => {
      const { members } = this.nodes.get(id)!.store.info(BLOCK)!;
      return members.length === copies.length && members.every((member) => copies.includes(member));
    });
  }
}
