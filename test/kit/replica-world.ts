import { TfsError } from '../../common/errors.ts';
import type { BlockId, Epoch, ServerId } from '../../common/ids.ts';
import type { BlockStore, Donor, Received, ReceiveOrder, SealInfo } from '../../dataserver/block/store.ts';
import {
  CONFIGURATION,
  openStore,
  raw,
  superblockOf,
  type WorldOptions,
  Writer,
  type Written,
} from './block-world.ts';
import { RecordingDisk } from './recording-disk.ts';
import type { TestContext } from './suite.ts';

export const BLOCK = 65_537 as BlockId;
export const BLOCK_PATH = 'blocks/65537.0.blk';
export const OPS_PATH = 'blocks/65537.0.ops';
export const IDX_PATH = 'blocks/65537.0.idx';
export const SEAL_EPOCH = 1 as Epoch;

export interface Replica {
  disk: RecordingDisk;
  store: BlockStore;
}

/** Replicas of one block on disks of their own, as one write session leaves them. */
export class ReplicaWorld {
  readonly writer: Writer;
  readonly replicas: Replica[] = [];
  readonly #t: TestContext;
  readonly #options: WorldOptions;

  private constructor(t: TestContext, options: WorldOptions, blockBytes: number | undefined) {
    this.#t = t;
    this.#options = options;
    this.writer = new Writer(superblockOf(BLOCK, 7, 'a5', blockBytes));
  }

  /** @param sizes of the payloads, a batch each, acknowledged by all replicas */
  static async open(
    t: TestContext,
    sizes: readonly number[],
    { replicas = 3, blockBytes, ...options }: WorldOptions & { replicas?: number; blockBytes?: number } = {},
  ): Promise<ReplicaWorld> {
    const world = new ReplicaWorld(t, options, blockBytes);
    for (let i = 0; i < replicas; i++) {
      const disk = new RecordingDisk();
      world.replicas.push({ disk, store: await world.#open(disk, i) });
      await world.replicas[i]!.store.create(world.writer.superblock, CONFIGURATION);
    }
    for (const size of sizes) await world.append(size);
    return world;
  }

  get records(): readonly Written[] {
    return this.writer.written;
  }

  startOf(slot: number): number {
    return slot === 0 ? 4096 : this.records[slot - 1]!.end;
  }

  async append(size: number): Promise<void> {
    const { writer, replicas } = this;
    const batch = writer.batch([writer.random.bytes(size)]);
    const { session } = writer.superblock;
    for (const { store } of replicas)
      await store.appendRaw(BLOCK, session, batch.offset, raw(batch), writer.acked);
    writer.acked = writer.offset;
    for (const { store } of replicas) store.setAcked(BLOCK, writer.acked);
  }

  async seal(): Promise<SealInfo> {
    let digest: Buffer | undefined;
    for (const { store } of this.replicas) {
      const { validLength: length, slots } = await store.fence(BLOCK, SEAL_EPOCH);
      ({ digest } = await store.seal(BLOCK, { length, slots, digest, epoch: SEAL_EPOCH }));
    }
    return this.replicas[0]!.store.info(BLOCK)!.seal!;
  }

  /** Changes what the medium holds. */
  flip(replica: number, offset: number, path = BLOCK_PATH): void {
    this.replicas[replica]!.disk.corrupt(path, (bytes) => {
      bytes[offset]! ^= 0x10;
    });
  }

  /** To repair a replica of this block by. */
  order(): ReceiveOrder {
    const infos = this.replicas.flatMap(({ store }) => store.info(BLOCK) ?? []);
    const sealed = infos.filter(({ seal }) => seal !== undefined);
    const info = sealed.reduce((a, b) => (b.generation > a.generation ? b : a));
    return { block: BLOCK, generation: info.generation, seal: info.seal!, version: info.version };
  }

  /** Replica i is that of server i + 1, as the superblock says. */
  donor(replica: number): Donor {
    return donorOf(this.replicas[replica]!.store, (replica + 1) as ServerId);
  }

  /** One that does not answer. */
  lostDonor(replica: number): Donor {
    const lost = async () => Promise.reject(new TfsError('CONNECTION_LOST', 'planted'));
    return { server: (replica + 1) as ServerId, head: lost, records: lost, ops: lost };
  }

  receive(replica: number, donors: readonly Donor[], order = this.order()): Promise<Received> {
    return this.replicas[replica]!.store.receiveReplica(order, donors);
  }

  repair(replica: number, from: readonly number[]): Promise<Received> {
    return this.receive(
      replica,
      from.map((source) => this.donor(source)),
    );
  }

  /** The same disk under a new process. */
  async restart(replica: number, change: (disk: RecordingDisk) => void | Promise<void> = () => undefined) {
    const held = this.replicas[replica]!;
    await held.store.close();
    held.disk = held.disk.settled();
    await change(held.disk);
    held.store = await this.#open(held.disk, replica);
  }

  async #open(disk: RecordingDisk, replica: number): Promise<BlockStore> {
    const store = await openStore(disk, { ...this.#options, server: (replica + 1) as ServerId });
    this.#t.defer(() => store.close());
    return store;
  }
}

/** A replica of a store in this process, as a source for another. */
export function donorOf(store: BlockStore, server: ServerId): Donor {
  return {
    server,
    head: async () => store.head(BLOCK),
    records: (offset, length) => store.readRaw(BLOCK, store.info(BLOCK)!.generation, offset, length),
    ops: async () => ({ version: store.info(BLOCK)!.version, ops: await store.opsAfter(BLOCK, 0) }),
  };
}
