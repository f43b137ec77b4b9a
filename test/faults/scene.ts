import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ConfigInput, defaultConfig } from '../../common/config.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { ClusterProbe, keyOf } from '../kit/cluster-probe.ts';
import { type FaultWindow, History } from '../kit/history.ts';
import { Namespaces } from '../kit/namespaces.ts';
import { ProcessCluster, type ProcessName, processNames } from '../kit/process-cluster.ts';
import { type LoadOptions, VerifyingLoad } from '../kit/verifying-load.ts';

const run = promisify(execFile);

const PARTS = { gateways: 2, nameservers: 2, redis: true } as const;
/** Small, so that blocks fill, are sealed and opened all the time. */
const BLOCK_BYTES = 2 << 20;
/** Large pictures need larger blocks. */
const PICTURE_BYTES_MAX = 256 << 10;
/** Little, so that most reads reach a DataServer. */
const HOT_BYTES = 1 << 20;
const MOUNTS = 3;
const SMALL_DISK_BYTES = 256 << 20;

/** Parts by what they do at the moment. `gateway` is one of two. */
export type Part = 'leader' | 'standby' | 'primary' | 'secondary' | 'gateway' | 'redis';

export interface SceneOptions {
  /** Of each kind of request. */
  readonly perSecond: number;
  /** DataServer 2 gets a disk of its own, a small tmpfs. */
  readonly smallDisk?: boolean;
  /** Without a Redis: it is configured and never started. */
  readonly withoutRedis?: boolean;
  /** DataServers can be stopped at any step of their work on the files of a block. */
  readonly steps?: boolean;
  /** Sections of the configuration that differ from those of other scenes. */
  readonly config?: Partial<ConfigInput>;
  /** DataServers; 3 when left out. */
  readonly mounts?: number;
  /** The home stays, to be looked at. */
  readonly keep?: boolean;
}

/**
 * A whole cluster under supervision, each process in a network namespace of its own where that is possible, a probe to
 * look into it, and the history of all that was done to it.
 */
export class Scene {
  readonly cluster: ProcessCluster;
  readonly probe: ClusterProbe;
  readonly namespaces: Namespaces | undefined;
  /** Why there are none. */
  readonly namespacesRefused: string | undefined;
  /** Where DataServer 2's small disk is mounted. */
  readonly smallDisk: string | undefined;
  readonly history = new History();
  /** All there were, because the history is one: what was seen during an earlier one is looked at again. */
  readonly faults: FaultWindow[] = [];
  /** Blocks that something was done to already. */
  readonly usedBlocks = new Set<BlockId>();
  readonly #options: SceneOptions;
  #load: VerifyingLoad | undefined;

  /** @returns why not, when this machine or its privileges do not allow it */
  static async open(options: SceneOptions): Promise<Scene | string> {
    const smallDisk = options.smallDisk ? await mountSmallDisk() : undefined;
    if (smallDisk instanceof Error) return `mounting a tmpfs was refused: ${smallDisk.message}`;
    const { config, steps = false, mounts = MOUNTS } = options;
    const parts = { ...PARTS, mounts };
    const namespaces = await Namespaces.open(processNames(parts));
    let cluster: ProcessCluster | undefined;
    try {
      cluster = await ProcessCluster.create({
        ...parts,
        steps,
        ...(typeof namespaces === 'string' ? {} : { namespaces }),
        config: {
          ...config,
          dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 1, ...config?.dataserver },
          gateway: {
            ...defaultConfig({ uuid: '' }).gateway,
            maxPictureBytes: PICTURE_BYTES_MAX,
            hotBytes: HOT_BYTES,
          },
          ...(smallDisk === undefined ? {} : { mounts: mountsWith(smallDisk, mounts) }),
        },
      });
      const scene = new Scene({
        cluster,
        probe: await ClusterProbe.open(cluster),
        namespaces,
        smallDisk,
        options,
      });
      await scene.start();
      return scene;
    } catch (error) {
      const logs = cluster?.logs() ?? '';
      if (options.keep) await cluster?.killAll();
      else await cluster?.destroy();
      if (typeof namespaces !== 'string') await namespaces.close();
      throw new Error(`the cluster did not start: ${String(error)}\n${logs}`, { cause: error });
    }
  }

  private constructor(parts: {
    cluster: ProcessCluster;
    probe: ClusterProbe;
    namespaces: Namespaces | string;
    smallDisk: string | undefined;
    options: SceneOptions;
  }) {
    this.cluster = parts.cluster;
    this.probe = parts.probe;
    this.namespaces = typeof parts.namespaces === 'string' ? undefined : parts.namespaces;
    this.namespacesRefused = typeof parts.namespaces === 'string' ? parts.namespaces : undefined;
    this.smallDisk = parts.smallDisk;
    this.#options = parts.options;
  }

  /** Everything that should run, until a picture can be stored. */
  async start(): Promise<void> {
    const { cluster } = this;
    cluster.supervise(true);
    const wanted = cluster.names.filter((name) => name !== 'redis' || this.#options.withoutRedis !== true);
    await Promise.all(wanted.filter((name) => !cluster.running(name)).map((name) => cluster.startOne(name)));
    await cluster.writable();
  }

  startLoad(options: Partial<LoadOptions> = {}): VerifyingLoad {
    const { perSecond } = this.#options;
    this.#load = VerifyingLoad.start({
      urls: this.cluster.urls,
      token: this.cluster.token.text,
      history: this.history,
      putsPerSecond: perSecond,
      getsPerSecond: perSecond,
      ...options,
    });
    return this.#load;
  }

  /** The one that was started last. */
  get load(): VerifyingLoad {
    if (this.#load === undefined) throw new Error('no load was started');
    return this.#load;
  }

  /** Which process is that now. Primary and secondary: of the block of the newest upload. */
  async find(part: Part): Promise<ProcessName> {
    if (part === 'redis') return 'redis';
    if (part === 'gateway') return 'gw1';
    const leader = (await this.probe.untilLed(10_000)).name;
    if (part === 'leader') return leader;
    if (part === 'standby') return leader === 'ns0' ? 'ns1' : 'ns0';
    const { opsPrimary, members } = await this.#newestBlock();
    if (part === 'primary') return `ds${opsPrimary}`;
    const other = members.find((id) => id !== opsPrimary);
    if (other === undefined) throw new Error('the block has no second member');
    return `ds${other}`;
  }

  async #newestBlock(): Promise<{ opsPrimary: number; members: readonly ServerId[] }> {
    const name = this.#load?.newestName;
    if (name === undefined) throw new Error('nothing was stored yet');
    const { block } = keyOf(name);
    const location = (await this.probe.locate([block])).get(block);
    if (location === undefined || location.opsPrimary === 0) throw new Error(`block ${block} has no primary`);
    return location;
  }

  /** What the checkers have to know of this cluster. */
  get checks(): { readonly faults: readonly FaultWindow[]; readonly undeleteWindowMs: number } {
    return { faults: this.faults, undeleteWindowMs: this.cluster.config.dataserver.undeleteWindowMs };
  }

  async close(): Promise<void> {
    await this.probe.close();
    if (this.#options.keep) await this.cluster.killAll();
    else await this.cluster.destroy();
    await this.namespaces?.close();
    if (this.smallDisk !== undefined) {
      await run('umount', [this.smallDisk]);
      rmSync(this.smallDisk, { recursive: true, force: true });
    }
  }
}

function mountsWith(smallDisk: string, mounts: number) {
  return defaultConfig({ uuid: '', mounts }).mounts.map((mount) =>
    mount.id === 2 ? { ...mount, path: join(smallDisk, 'mount') } : mount,
  );
}

async function mountSmallDisk(): Promise<string | Error> {
  const directory = mkdtempSync(join(tmpdir(), 'tfs-disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_DISK_BYTES}`, 'tfs-test', directory]);
    return directory;
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    return error as Error;
  }
}
