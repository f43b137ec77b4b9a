import type { ServerId } from '../../common/ids.ts';
import type { LiveMember } from '../../nameserver/members.ts';
import type { WorldOptions } from '../kit/block-world.ts';
import type { RecordingDisk } from '../kit/recording-disk.ts';
import { ReplicaWorld } from '../kit/replica-world.ts';
import type { TestContext } from '../kit/suite.ts';
import type { ObservedMedium, ObservedProcess, ObservedServer } from './observed.ts';
import { Observer } from './observer.ts';

/** The durable side of a recording disk, taken when it is asked for; tests change what it shows. */
export class DurableView implements ObservedMedium {
  onDurable: ((path: string) => void) | undefined;
  readonly damaged = new Set<string>();
  readonly #files = new Map<string, Buffer>();

  durable(path: string): Buffer | undefined {
    return this.#files.get(path);
  }

  /** Shown here alone, where a test says so: of a write that the medium lost. */
  readonly cached = new Map<string, Buffer>();

  readable(path: string): Buffer | undefined {
    return this.cached.get(path) ?? this.durable(path);
  }

  durablePaths(): string[] {
    return [...this.#files.keys()].sort();
  }

  set(path: string, bytes: Buffer | undefined): void {
    if (bytes === undefined) this.#files.delete(path);
    else this.#files.set(path, bytes);
    this.onDurable?.(path);
  }

  /** An empty disk is in its place: nothing on it is damaged. */
  wipe(): void {
    this.damaged.clear();
    for (const path of this.durablePaths()) this.set(path, undefined);
  }

  /** Changes what is shown of a file, in a copy. */
  change(path: string, change: (bytes: Buffer) => Buffer | void): void {
    const bytes = Buffer.from(this.#files.get(path)!);
    this.set(path, change(bytes) ?? bytes);
  }

  /** Shows what a power failure now would leave of the disk if it were as bad as it can be. */
  async follow(disk: RecordingDisk): Promise<void> {
    const image = disk.crashPoint().image(() => false);
    for (const path of this.durablePaths()) if (!image.paths.includes(path)) this.set(path, undefined);
    for (const path of image.paths) {
      const bytes = await image.readFile(path);
      if (this.#files.get(path)?.equals(bytes) !== true) this.set(path, bytes);
    }
  }
}

export class ViewedServer implements ObservedServer {
  readonly id: ServerId;
  readonly domain: string;
  readonly medium = new DurableView();
  live: ObservedProcess | undefined;

  constructor(id: number) {
    this.id = id as ServerId;
    this.domain = `host ${id}`;
  }
}

/** The members of a NameServer that knows one process of each server. */
class HeardOf {
  readonly known: ServerId[] = [];
  readonly #processes = new Map<ServerId, LiveMember>();

  get(server: ServerId): LiveMember | undefined {
    return this.#processes.get(server);
  }

  /** A process of the server registers. */
  registers(server: ServerId): void {
    this.#processes.set(server, {} as LiveMember);
  }
}

/** Real stores with the replicas of one block, and the observer that sees their disks. */
export class ObservedWorld {
  readonly world: ReplicaWorld;
  readonly servers: readonly ViewedServer[];
  readonly observer: Observer;
  /** Leads in all reigns; only what tests say that it has heard of. */
  readonly nameserver = { id: 0, live: { members: new HeardOf() } };
  nowMs = 0;

  private constructor(world: ReplicaWorld) {
    this.world = world;
    this.servers = world.replicas.map((_, i) => new ViewedServer(i + 1));
    this.observer = new Observer({
      ...{ servers: this.servers, nameservers: [this.nameserver], minWrite: 2 },
      now: () => this.nowMs,
    });
  }

  static async open(
    t: TestContext,
    sizes: readonly number[],
    options: WorldOptions & { readonly blockBytes?: number; readonly replicas?: number } = {},
  ): Promise<ObservedWorld> {
    const observed = new ObservedWorld(await ReplicaWorld.open(t, [], options));
    await observed.look();
    for (const size of sizes) await observed.append(size);
    return observed;
  }

  /** One more picture on all replicas. */
  async append(size: number): Promise<void> {
    await this.world.append(size);
    await this.look();
  }

  /** What is durable now is seen. */
  async look(): Promise<void> {
    for (const [i, server] of this.servers.entries()) {
      const { disk, store } = this.world.replicas[i]!;
      await server.medium.follow(disk);
      server.live = { store };
    }
    this.observer.step();
  }

  /** As a client hears of the picture in that slot. */
  ack(slot: number, name = `picture ${slot}`): void {
    const { payload, cookie, sha1 } = this.world.records[slot]!;
    const { block } = this.world.writer.superblock;
    const key = { block, fileId: slot as never, cookie };
    this.observer.acked(name, { key, sha1, payload });
  }
}
