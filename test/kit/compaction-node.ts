import type { z } from 'zod';
import { TfsError } from '../../common/errors.ts';
import {
  type BlockId,
  epochOf,
  type HostPort,
  incarnationOf,
  type ServerId,
  serverId,
} from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import {
  type ConfigurationWish,
  type Configure,
  decodeControl,
  encodeControl,
  type Member,
  type Reign,
  type RequestCfgReply,
  zConfigureReply,
} from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcHandler } from '../../common/wire/rpc-server.ts';
import type { Faults } from '../../dataserver/block/faults.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { CompactionSteps } from '../../dataserver/compaction.ts';
import { OpsSequencer } from '../../dataserver/ops-sequencer.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Reconfigurer } from '../../dataserver/reconfigure.ts';
import { ReplicaRepair } from '../../dataserver/repair.ts';
import { Replica } from '../../dataserver/replica.ts';
import { ReadClock } from '../../dataserver/scrub/read-times.ts';
import { Takeover } from '../../dataserver/takeover.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Compaction } from '../../nameserver/compaction.ts';
import { compactionCommandsOver } from '../../nameserver/compaction-commands.ts';
import { Configurer } from '../../nameserver/configurer.ts';
import { Repairer } from '../../nameserver/repair.ts';
import { repairCommandsOver } from '../../nameserver/repair-commands.ts';
import { CLUSTER, RushingClock } from './block-world.ts';
import { FaultyDisk } from './faulty-disk.ts';
import type { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

export const IDS = [1, 2, 3].map(serverId);
export const addressOf = (id: ServerId): HostPort => ({ host: 'node', port: id });
const memberOf = (id: ServerId): Member => ({ id, incarnation: incarnationOf(1), address: addressOf(id) });

/** What carries messages between processes that may die, and how long things take. */
export interface Carrier {
  readonly faults: Faults;
  send(
    from: ServerId | 'nameserver',
    to: ServerId,
    op: number,
    message: { readonly header: Buffer; readonly payload: Buffer },
    isDead: () => boolean,
  ): Promise<{ header: Buffer; payload: Buffer }>;
  request(
    from: ServerId,
    block: BlockId,
    failed: readonly ServerId[],
    wish: ConfigurationWish,
  ): Promise<RequestCfgReply>;
  diskDelay(): Promise<void>;
}

/** One process of a DataServer, as far as operations, repairs and compactions of blocks go, on a disk that outlives it. */
export class DataNode {
  readonly id: ServerId;
  readonly disk: RecordingDisk;
  readonly store: BlockStore;
  readonly promise: PromiseKeeper;
  readonly ops: OpsSequencer;
  readonly takeover: Takeover;
  readonly handlers: ReadonlyMap<number, RpcHandler>;
  readonly clock: RushingClock;
  dead = false;

  static async boot(id: ServerId, disk: RecordingDisk, carrier: Carrier): Promise<DataNode> {
    const clock = new RushingClock();
    const slow = new FaultyDisk(disk);
    slow.pause = () => carrier.diskDelay();
    const store = await BlockStore.open({
      disk: slow,
      clock,
      random: new SeededRandom(id),
      clusterUuid: CLUSTER,
      server: id,
      budgets: { indexBytes: 1 << 24, openFiles: 64 },
      log: silentLog,
      faults: carrier.faults,
      limits: { opsReserveBytes: 0, opsLogBytes: 4000 },
    });
    return new DataNode(id, disk, { store, promise: await PromiseKeeper.open(disk), clock, carrier });
  }

  private constructor(
    id: ServerId,
    disk: RecordingDisk,
    parts: { store: BlockStore; promise: PromiseKeeper; clock: RushingClock; carrier: Carrier },
  ) {
    const { store, promise, clock, carrier } = parts;
    this.id = id;
    this.disk = disk;
    this.store = store;
    this.promise = promise;
    this.clock = clock;
    const call: Peers['call'] = (to, op, header, payload) =>
      carrier.send(
        id,
        serverId(to.port),
        op,
        { header, payload: Buffer.concat(payload ?? []) },
        () => this.dead,
      );
    const directory = {
      learn: () => undefined,
      address: async (server: ServerId) => addressOf(server),
      refresh: async () => undefined,
    } as never;
    const requestConfiguration = (
      block: BlockId,
      failed: readonly ServerId[],
      wish: ConfigurationWish = {},
    ) => carrier.request(id, block, failed, wish);
    const { faults } = carrier;
    const shared = { server: id, store, peers: { call } as unknown as Peers, directory, promise, clock };
    const onSetBack = (error: TfsError) => {
      throw error;
    };
    const isTimeKnown = () => true;
    this.ops = new OpsSequencer({
      ...shared,
      minWrite: 2,
      requestConfiguration,
      onSetBack,
      onDiskLate: () => undefined,
      isTimeKnown,
      faults,
    });
    this.takeover = new Takeover({ ...shared, unfit: () => undefined, requestConfiguration });
    const reconfigurer = new Reconfigurer({ ...shared, ops: this.ops, log: silentLog, faults });
    const nothing = () => undefined;
    const replica = new Replica({
      ...shared,
      clusterUuid: CLUSTER,
      log: silentLog,
      onSealed: nothing,
      onFenced: nothing,
    });
    const repair = new ReplicaRepair({ ...shared, onRepaired: nothing });
    const steps = new CompactionSteps({
      ...shared,
      reads: new ReadClock(shared.clock),
      ops: this.ops,
      donors: (order) => repair.donors(order),
      random: new SeededRandom(id + 100),
      undeleteWindowMs: 0,
      onCommitted: nothing,
    });
    this.handlers = new Map<number, RpcHandler>([
      [Op.OPS, (request) => replica.ops(request)],
      [Op.READ_RAW, (request) => replica.readRaw(request)],
      [Op.OPS_TAIL, (request) => replica.opsTail(request)],
      [Op.CONFIGURE, (request) => reconfigurer.configure(request)],
      [Op.PREPARE_OPS, (request) => reconfigurer.prepare(request)],
      [Op.INSTALL_OPS, (request) => reconfigurer.install(request)],
      [Op.REPAIR, (request) => repair.repair(request)],
      [Op.BLOCK_HEAD, (request) => repair.head(request)],
      [Op.PURGE, (request) => steps.purge(request)],
      [Op.PREPARE_GENERATION, (request) => steps.prepare(request)],
      [Op.COMMIT_GENERATION, (request) => steps.commit(request)],
      [Op.ABANDON_GENERATION, (request) => steps.abandon(request)],
      [Op.CAN_ORDER, () => ({ header: encodeControl({ able: true }) })],
    ]);
  }
}

/** A NameServer that thinks it leads, with an epoch of its own, and knows what it has heard last. */
export class LeadNode {
  readonly reign: Reign;
  readonly map = new BlockMap();
  readonly clock = new RushingClock();
  readonly configurer: Configurer;
  readonly compaction: Compaction;
  readonly repairer: Repairer;
  readonly sees = new Set<ServerId>(IDS);
  deposed = false;
  readonly #nodes: ReadonlyMap<ServerId, DataNode>;

  constructor(epoch: number, nodes: ReadonlyMap<ServerId, DataNode>, carrier: Carrier) {
    this.reign = { epoch: epochOf(epoch), nameserver: epoch & 1 };
    this.#nodes = nodes;
    const send = async (to: ServerId, op: number, message: object) =>
      carrier.send(
        'nameserver',
        to,
        op,
        { header: encodeControl(message), payload: Buffer.alloc(0) },
        () => false,
      );
    const peers = {
      callControl: async (to: HostPort, op: number, message: object, schema: z.ZodType) => ({
        message: decodeControl(schema, (await send(serverId(to.port), op, message)).header, 'reply'),
        payload: Buffer.alloc(0),
      }),
    } as unknown as Peers;
    const reachable = (id: ServerId) => {
      const promised = nodes.get(id)?.promise.reign.epoch;
      return this.sees.has(id) && promised === this.reign.epoch ? memberOf(id) : undefined;
    };
    const refuse = () => Promise.reject(new TfsError('UNAVAILABLE', 'not part of this world'));
    const orders = {
      map: this.map,
      clock: this.clock,
      log: silentLog,
      reign: () => (this.deposed ? undefined : this.reign),
      reachable,
      isCurrent: (id: ServerId) => reachable(id) !== undefined,
      canWrite: () => true,
    };
    this.configurer = new Configurer({
      ...orders,
      minWrite: 2,
      address: memberOf,
      domainOf: (id) => `d${id}`,
      domainsInAll: () => Number.POSITIVE_INFINITY,
      isDrained: () => false,
      unconfirmedFromMs: () => Number.NEGATIVE_INFINITY,
      seal: () => undefined,
      commands: {
        fence: refuse,
        seal: refuse,
        syncOps: refuse,
        configure: async ({ id }: Member, order: Configure) =>
          decodeControl(zConfigureReply, (await send(id, Op.CONFIGURE, order)).header, 'reply'),
      },
    });
    this.compaction = new Compaction({
      ...orders,
      time: { earliest: () => orders.clock.now() },
      commands: compactionCommandsOver(peers, () => undefined),
      isPaused: () => false,
      isQueued: () => false,
      isViewComplete: () => this.#heard >= 2,
    });
    this.repairer = new Repairer({
      ...orders,
      commands: repairCommandsOver(peers, () => undefined),
      absent: new Set(),
      seal: () => undefined,
    });
  }

  #heard = 0;

  /** @returns whether it has heard enough to know of every configuration */
  async hear(block: BlockId): Promise<boolean> {
    this.#heard = 0;
    for (const id of this.sees) {
      const node = this.#nodes.get(id);
      const isPromised = await node?.promise.accept(this.reign).then(
        () => true,
        () => false,
      );
      const entry = isPromised === true ? node?.store.entry(block) : undefined;
      if (entry === undefined) continue;
      this.#heard++;
      this.map.report(id, entry);
    }
    return this.#heard >= 2;
  }

  /** What it does now and then. */
  pump(): void {
    this.clock.advance(1_000);
    this.configurer.pump();
    this.compaction.pump();
    this.repairer.pump();
  }
}
