import { TfsClient } from '../../client/client.ts';
import type { HostPort, ServerId } from '../../common/ids.ts';
import { serverId } from '../../common/ids.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { DataServer } from '../../dataserver/dataserver.ts';
import { takeDisk } from '../../dataserver/mount.ts';
import { NameServer } from '../../nameserver/nameserver.ts';
import { dataServerFaults, nameServerFaults, type PlantedBugName } from '../kit/planted-bugs.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { SimMedium } from './disk.ts';
import { SimKvMedium } from './kv.ts';
import { simLog } from './log.ts';
import { SimNetwork } from './network.ts';
import { SimNode } from './node.ts';
import type { Plan } from './plan.ts';
import { SimProcess, WallClock } from './process.ts';
import { SimRedis } from './redis.ts';
import type { Scheduler } from './scheduler.ts';

const CLUSTER_UUID = '51'.repeat(16);
const KEYRING = Keyring.ofSecret(Buffer.alloc(32, 'a simulated cluster'));
const VERSION = 'simulated';
const DISK_BYTES = 1 << 30;

/** One DataServer over all its lives, with the disk under it. */
export interface SimDataServer {
  readonly id: ServerId;
  readonly node: SimNode<DataServer>;
  readonly domain: string;
  readonly medium: SimMedium;
  /** While it serves. */
  readonly live: DataServer | undefined;
  readonly kv: SimKvMedium;
}

export interface SimNameServer {
  readonly id: number;
  /** While it serves. */
  readonly live: NameServer | undefined;
  readonly node: SimNode<NameServer>;
  readonly kv: SimKvMedium;
}

export interface SimClient {
  readonly process: SimProcess;
  readonly client: TfsClient;
}

/** The whole cluster of a plan: the real servers and the real client, on simulated machines. */
export class SimCluster {
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  readonly network: SimNetwork;
  readonly redis: SimRedis;
  readonly dataservers: SimDataServer[] = [];
  readonly nameservers: SimNameServer[] = [];
  readonly clients: SimClient[] = [];
  /** The date as each host believes it. */
  readonly walls = new Map<string, WallClock>();
  readonly random: SeededRandom;
  /** Two disks are where they do not belong. */
  hasSwappedDisks = false;
  /** Somebody waits for a rare branch. */
  isListeningToMarks = false;
  /** Taken out for good: others serve in their place. */
  readonly gone: SimDataServer[] = [];
  readonly #bug: PlantedBugName | undefined;
  /** Of each id that ever was, from 1. */
  readonly #hostOf: string[];

  private constructor(plan: Plan, scheduler: Scheduler, bug: PlantedBugName | undefined) {
    this.#bug = bug;
    this.plan = plan;
    this.scheduler = scheduler;
    this.#hostOf = [...plan.hosts];
    this.random = new SeededRandom(plan.seed ^ 0x0c1a_57e2);
    this.network = new SimNetwork(scheduler, this.random.u32());
    this.redis = new SimRedis(this.network, this.random.u32());
  }

  /** Formats the disks and starts everything. */
  static async open(plan: Plan, scheduler: Scheduler, bug?: PlantedBugName): Promise<SimCluster> {
    const cluster = new SimCluster(plan, scheduler, bug);
    for (const [i, host] of plan.hosts.entries()) await cluster.#addDataServer(serverId(i + 1), host);
    // NameServers share machines with the first DataServers, as on small clusters they do.
    for (const id of [0, 1]) cluster.#addNameServer(id, `h${(id % new Set(plan.hosts).size) + 1}`);
    for (let i = 0; i < plan.clients; i++) await cluster.#addClient(i);
    for (const { node } of cluster.nodes) node.startIn(cluster.random.float() * 200);
    return cluster;
  }

  get nodes(): readonly { readonly node: SimNode<DataServer> | SimNode<NameServer> }[] {
    return [...this.nameservers, ...this.dataservers];
  }

  /** Every host that servers or clients run on. */
  get hosts(): string[] {
    return [...this.walls.keys()];
  }

  wall(host: string): WallClock {
    let wall = this.walls.get(host);
    if (wall === undefined) {
      wall = new WallClock();
      this.walls.set(host, wall);
    }
    return wall;
  }

  /** Undefined when it is gone. */
  dataServer(id: number): SimDataServer | undefined {
    return this.dataservers.find((server) => server.id === id);
  }

  /** A new disk, with a new id, in place of one that must not serve any more; the operator has the old one removed. */
  async replace(old: SimDataServer): Promise<SimDataServer> {
    const host = old.node.host;
    this.dataservers.splice(this.dataservers.indexOf(old), 1);
    this.gone.push(old);
    this.#hostOf.push(host);
    const fresh = await this.#addDataServer(serverId(this.#hostOf.length), host);
    fresh.node.startIn(0);
    return fresh;
  }

  /** Everything that was done to the machines is undone, and whatever does not run is started. */
  heal(): void {
    const { network, redis } = this;
    network.heal();
    redis.heal();
    for (const wall of this.walls.values()) wall.correct();
    for (const host of new Set(this.plan.hosts)) network.power(host, true);
    for (const { node } of this.nodes) {
      node.isHeld = false;
      node.fuses = [];
      const { process } = node;
      if (process !== undefined) {
        process.fuse = undefined;
        process.slowness = 1;
        if (process.isPaused) process.resume();
      }
      node.startIn(0);
    }
    for (const { medium, live, node } of this.dataservers) {
      medium.faults.heal();
      medium.capacityBytes = DISK_BYTES;
      // Nothing but a start takes back that a disk failed.
      if (live?.store.readOnly !== undefined) node.kill();
    }
  }

  #address(id: number): HostPort {
    return { host: this.#hostOf[id - 1]!, port: 7000 + id };
  }

  #nameserverAddress(id: number): HostPort {
    return { host: `h${(id % new Set(this.plan.hosts).size) + 1}`, port: 6000 + id };
  }

  async #addDataServer(id: ServerId, host: string): Promise<SimDataServer> {
    const medium = new SimMedium({ name: `/disk${id}`, seed: this.random.u32() });
    await medium.format({ clusterUuid: CLUSTER_UUID, server: id });
    const kv = new SimKvMedium({ seed: this.random.u32(), disk: medium });
    const node = new SimNode<DataServer>({
      name: `ds${id}`,
      host,
      wall: this.wall(host),
      network: this.network,
      random: this.random,
      boot: (process, self) => this.#bootDataServer(found, process, self),
      onGone: (how) => {
        if (how === 'power') {
          medium.powerCut(this.random);
          kv.powerCut(this.random);
        } else medium.processKilled();
      },
    });
    const found: SimDataServer = {
      id,
      node,
      domain: host,
      medium,
      kv,
      get live() {
        return node.live;
      },
    };
    this.dataservers.push(found);
    return found;
  }

  async #bootDataServer(
    { id, medium, kv }: SimDataServer,
    process: SimProcess,
    node: SimNode<DataServer>,
  ): Promise<DataServer> {
    const { plan } = this;
    const disk = medium.mount(process);
    await takeDisk(disk, { path: medium.name, clusterUuid: CLUSTER_UUID, server: id });
    return DataServer.open({
      clusterUuid: CLUSTER_UUID,
      server: id,
      address: this.#address(id),
      adminPort: 1,
      nameservers: [0, 1].map((nameserver) => ({ id: nameserver, ...this.#nameserverAddress(nameserver) })),
      disk,
      mountPath: medium.name,
      kv: await kv.open(process),
      net: this.network.of(process),
      clock: process.clock,
      random: process.random,
      keyring: KEYRING,
      log: simLog(process),
      domain: node.host,
      capacityBytes: undefined,
      blockBytes: plan.blockBytes,
      openBlocks: plan.openBlocks,
      spareBlocks: plan.spareBlocks,
      indexBytes: 1 << 20,
      openFiles: 16,
      memberAckMs: 1000,
      undeleteWindowMs: plan.undeleteWindowMs,
      scrubPassMs: plan.scrubPassMs,
      scrubBytesPerSecond: 1 << 20,
      minWrite: plan.minWrite,
      jobs: { queues: this.redis.queues.of(process), concurrency: 2 },
      pid: node.lives,
      version: VERSION,
      ...(this.#bug === undefined ? {} : { faults: dataServerFaults(this.#bug) }),
      onRefused: (error) => node.exit(error),
      onMountTaken: (error) => node.exit(error),
    });
  }

  #addNameServer(id: number, host: string): void {
    const kv = new SimKvMedium({ seed: this.random.u32() });
    const node = new SimNode<NameServer>({
      name: `ns${id}`,
      host,
      wall: this.wall(host),
      network: this.network,
      random: this.random,
      boot: (process, self) => this.#bootNameServer(id, kv, process, self),
      onGone: (how) => {
        if (how === 'power') kv.powerCut(this.random);
      },
    });
    this.nameservers.push({
      id,
      node,
      kv,
      get live() {
        return node.live;
      },
    });
  }

  async #bootNameServer(
    id: number,
    kv: SimKvMedium,
    process: SimProcess,
    node: SimNode<NameServer>,
  ): Promise<NameServer> {
    const { plan } = this;
    return NameServer.open({
      id,
      clusterUuid: CLUSTER_UUID,
      clusterDigit: 1,
      replicas: plan.replicas,
      minWrite: plan.minWrite,
      deadMs: plan.deadMs,
      sealTimes: { patienceMs: 6_000, deadMs: plan.deadMs },
      configured: this.dataservers.map(({ id: server, domain, medium }) => ({
        id: server,
        address: this.#address(server),
        adminPort: 1,
        mount: medium.name,
        domain,
      })),
      rival: { address: this.#nameserverAddress(1 - id), lock: this.redis.lockFor(process) },
      jobs: {
        queues: this.redis.queues.of(process),
        bytesPerSecond: 1 << 20,
        clusterBytesPerSecond: undefined,
      },
      compaction: {
        garbagePercent: plan.garbagePercent,
        bytesPerSecond: 8 << 20,
        undeleteWindowMs: plan.undeleteWindowMs,
      },
      address: this.#nameserverAddress(id),
      keyring: KEYRING,
      kv: await kv.open(process),
      net: this.network.of(process),
      clock: process.clock,
      random: process.random,
      log: simLog(process),
      pid: node.lives,
      version: VERSION,
      ...(this.#bug === undefined ? {} : { faults: nameServerFaults(this.#bug) }),
    });
  }

  async #addClient(i: number): Promise<void> {
    const host = `c${i + 1}`;
    const process = new SimProcess({
      name: `client${i + 1}`,
      host,
      scheduler: this.scheduler,
      seed: this.random.u32(),
      wall: this.wall(host),
    });
    const peers = Peers.open({
      net: this.network.of(process),
      clock: process.clock,
      random: process.random,
      keyring: KEYRING,
      role: 'gateway',
      id: host,
    });
    const client = await TfsClient.open({
      peers,
      nameservers: [0, 1].map((id) => this.#nameserverAddress(id)),
      rendezvousKey: KEYRING.rendezvousKey,
      clusterDigit: 1,
      clusterUuid: CLUSTER_UUID,
      clock: process.clock,
      random: process.random,
      log: simLog(process),
      reads: this.plan.reads,
    });
    this.clients.push({ process, client });
  }
}
