import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TfsClient } from '../../client/client.ts';
import { LeveldownKv } from '../../common/adapters/leveldown-kv.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { blockId, type HostPort, serverId } from '../../common/ids.ts';
import { SCRUB_BYTES_PER_SECOND_DEFAULT, UNDELETE_WINDOW_MS_DEFAULT } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { JobQueues } from '../../common/seams/job-queue.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { DataServer } from '../../dataserver/dataserver.ts';
import { formatMount } from '../../dataserver/mount.ts';
import type { DataServerOptions } from '../../dataserver/options.ts';
import { NameServer } from '../../nameserver/nameserver.ts';
import { FaultyDisk } from './faulty-disk.ts';
import { dataServerFaults, nameServerFaults, type PlantedBugName } from './planted-bugs.ts';
import { freePorts } from './ports.ts';
import type { TestContext } from './suite.ts';
import { tempDir } from './temp-dir.ts';

const clusterUuid = 'c0ffee00c0ffee00c0ffee00c0ffee00';
export const LOCAL_KEYRING = Keyring.ofSecret(Buffer.alloc(32, 'local cluster of a test'));

interface ClusterOptions {
  readonly mounts: number;
  readonly replicas: number;
  readonly minWrite: number;
  readonly queues: JobQueues | undefined;
  readonly jobBytesPerSecond: number;
  /** Shorter than usual. */
  readonly deadMs: number | undefined;
  readonly undeleteWindowMs?: number | undefined;
  /** Of each disk; what the file system has when absent. */
  readonly capacityBytes?: number | undefined;
  /** 0 when absent: only when somebody asks for it. */
  readonly scrubPassMs?: number | undefined;
  /** Of all jobs together; no bound when absent. */
  readonly clusterBytesPerSecond?: number | undefined;
  readonly bug?: PlantedBugName | undefined;
}

/**
 * A NameServer, DataServers and a client in one process, over real TCP, real files and LevelDB: for what a test has to
 * reach into, such as a disk that fails at the right moment.
 */
export class LocalCluster {
  readonly root: string;
  readonly disks = new Map<number, FaultyDisk>();
  readonly servers = new Map<number, DataServer>();
  nameserver!: NameServer;
  #nameserverKv!: LeveldownKv;
  client!: TfsClient;
  readonly #options: ClusterOptions;
  #base = 0;
  readonly #peers: Peers;

  private constructor(root: string, options: ClusterOptions) {
    this.root = root;
    this.#options = options;
    this.#peers = Peers.open({
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      keyring: LOCAL_KEYRING,
      role: 'gateway',
      id: 'test',
    });
  }

  static async start(
    t: TestContext,
    {
      mounts = 3,
      replicas = 3,
      minWrite = 2,
      undeleteWindowMs,
      prepareMount,
      queues,
      jobBytesPerSecond = 1e9,
      deadMs,
      capacityBytes,
      scrubPassMs,
      clusterBytesPerSecond,
      bug,
    }: {
      mounts?: number;
      replicas?: number;
      minWrite?: number;
      undeleteWindowMs?: number;
      /** Runs before a mount is formatted. */
      prepareMount?: (id: number, path: string) => Promise<void>;
      queues?: JobQueues;
      jobBytesPerSecond?: number;
      deadMs?: number;
      capacityBytes?: number;
      scrubPassMs?: number;
      clusterBytesPerSecond?: number;
      bug?: PlantedBugName;
    } = {},
  ): Promise<LocalCluster> {
    const cluster = new LocalCluster(tempDir(t, 'tfs-local-'), {
      mounts,
      replicas,
      minWrite,
      queues,
      jobBytesPerSecond,
      deadMs,
      undeleteWindowMs,
      capacityBytes,
      scrubPassMs,
      clusterBytesPerSecond,
      bug,
    });
    t.defer(() => cluster.close());
    cluster.#base = await freePorts(2 + mounts);
    await cluster.startNameServer();
    for (let id = 1; id <= mounts; id++) {
      await prepareMount?.(id, cluster.mountPath(id));
      await formatMount({ path: cluster.mountPath(id), clusterUuid, server: serverId(id) });
      await cluster.startServer(id);
    }
    cluster.client = await TfsClient.open({
      peers: cluster.#peers,
      nameservers: [cluster.#address(0)],
      rendezvousKey: LOCAL_KEYRING.rendezvousKey,
      clusterDigit: 1,
      clusterUuid,
      clock: nodeClock,
      random: nodeRandom,
      log: silentLog,
    });
    await cluster.client.ready(5000);
    await cluster.confirmed();
    return cluster;
  }

  /** Every DataServer that runs was told by the leader that its replicas are the newest, but those it named. */
  async confirmed(): Promise<void> {
    const anyBlock = blockId(0);
    while (![...this.servers.values()].every(({ nameservers }) => nameservers.isConfirmed(anyBlock)))
      await sleep(20);
  }

  mountPath(id: number): string {
    return join(this.root, `m${id}`);
  }

  async startNameServer(): Promise<void> {
    const dir = join(this.root, 'ns');
    mkdirSync(dir, { recursive: true });
    this.#nameserverKv = await LeveldownKv.open({ directory: dir });
    const { queues, jobBytesPerSecond, clusterBytesPerSecond, bug } = this.#options;
    this.nameserver = await NameServer.open({
      id: 0,
      clusterUuid,
      clusterDigit: 1,
      replicas: this.#options.replicas,
      minWrite: this.#options.minWrite,
      ...(this.#options.deadMs === undefined ? {} : { deadMs: this.#options.deadMs }),
      ...(queues === undefined
        ? {}
        : { jobs: { queues, bytesPerSecond: jobBytesPerSecond, clusterBytesPerSecond } }),
      configured: Array.from({ length: this.#options.mounts }, (_, i) => ({
        id: serverId(i + 1),
        address: this.#address(i + 1),
        adminPort: 1,
        mount: this.mountPath(i + 1),
        domain: `d${i + 1}`,
      })),
      address: this.#address(0),
      keyring: LOCAL_KEYRING,
      kv: this.#nameserverKv,
      ...(bug === undefined ? {} : { faults: nameServerFaults(bug) }),
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      log: silentLog,
      pid: process.pid,
      version: 'test',
    });
  }

  async stopNameServer(): Promise<void> {
    await this.nameserver?.close();
    await this.#nameserverKv?.close();
  }

  async startServer(id: number, overrides: Partial<DataServerOptions> = {}): Promise<DataServer> {
    const path = this.mountPath(id);
    const { bug } = this.#options;
    const disk = new FaultyDisk(await NodeDisk.open(path));
    this.disks.set(id, disk);
    const server = await DataServer.open({
      clusterUuid,
      server: serverId(id),
      address: this.#address(id),
      adminPort: 1,
      nameservers: [{ id: 0, ...this.#address(0) }],
      disk,
      mountPath: path,
      kv: await LeveldownKv.open({ directory: join(path, 'kv') }),
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      keyring: LOCAL_KEYRING,
      log: silentLog,
      domain: `d${id}`,
      capacityBytes: this.#options.capacityBytes,
      blockBytes: 1 << 20,
      openBlocks: 2,
      spareBlocks: 0,
      indexBytes: 16 << 20,
      openFiles: 64,
      memberAckMs: 1000,
      undeleteWindowMs: this.#options.undeleteWindowMs ?? UNDELETE_WINDOW_MS_DEFAULT,
      scrubPassMs: this.#options.scrubPassMs ?? 0,
      scrubBytesPerSecond: SCRUB_BYTES_PER_SECOND_DEFAULT,
      minWrite: this.#options.minWrite,
      ...(this.#options.queues === undefined
        ? {}
        : { jobs: { queues: this.#options.queues, concurrency: 2 } }),
      pid: process.pid,
      version: 'test',
      onRefused: (error) => {
        throw error;
      },
      onMountTaken: (error) => {
        throw error;
      },
      ...(bug === undefined ? {} : { faults: dataServerFaults(bug) }),
      ...overrides,
    });
    this.servers.set(id, server);
    return server;
  }

  async stopServer(id: number): Promise<void> {
    const server = this.servers.get(id);
    this.servers.delete(id);
    this.disks.get(id)?.release();
    await server?.close();
  }

  async close(): Promise<void> {
    await this.client?.close();
    await this.#peers.close();
    for (const id of [...this.servers.keys()]) await this.stopServer(id);
    await this.stopNameServer();
  }

  #address(n: number): HostPort {
    return { host: '127.0.0.1', port: this.#base + n };
  }
}
