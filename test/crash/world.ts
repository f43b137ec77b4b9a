import { isTfsError } from '../../common/errors.ts';
import { emptyOpsState, foldOp, type Op, type OpContent, type OpsState } from '../../common/format/ops.ts';
import type { BlockId, ServerId, Version } from '../../common/ids.ts';
import type { BlockStore, Donor, Faults, ReceiveOrder } from '../../dataserver/block/store.ts';
import { openStore, type RushingClock } from '../kit/block-world.ts';
import { demand, type ModelBlock, outcome } from '../kit/crash-model.ts';
import type { RecordingDisk } from '../kit/recording-disk.ts';
import type { SeededRandom } from '../kit/seeded-random.ts';
import { Mount } from './mount.ts';
import { checkMount, type Given, type MountModel } from './mount-model.ts';

/** The block that most of the alphabet is about. */
export const MAIN = 65_537 as BlockId;
/** One that other servers have. */
export const OTHER = 65_538 as BlockId;
/** Who has what is not here. */
export const DONORS = [2, 3] as ServerId[];
export const BLOCK_BYTES = 96 * 1024;

/** Another server's disk with a block that this mount may be given, and what this mount has to have of it then. */
export interface Elsewhere {
  readonly disk: RecordingDisk;
  readonly block: ModelBlock;
}

/** A mount at work, and the model of what it has confirmed. */
export class World {
  mount: Mount;
  readonly model: MountModel;
  readonly random: SeededRandom;
  readonly faults: Faults;
  readonly elsewhere: Elsewhere;
  /** Where this mount has let go of MAIN: another disk that has it still. */
  kept: RecordingDisk | undefined;
  /** Called with every disk that it goes on with, before it does. */
  onDisk: (disk: RecordingDisk) => void = () => undefined;
  #unique = 0;

  constructor(parts: {
    mount: Mount;
    model: MountModel;
    random: SeededRandom;
    faults: Faults;
    elsewhere: Elsewhere;
  }) {
    this.mount = parts.mount;
    this.model = parts.model;
    this.random = parts.random;
    this.faults = parts.faults;
    this.elsewhere = parts.elsewhere;
  }

  get store(): BlockStore {
    return this.mount.store;
  }

  get disk(): RecordingDisk {
    return this.mount.disk;
  }

  get clock(): RushingClock {
    return this.mount.clock;
  }

  /** Of the block, unless it is not here. */
  block(id: BlockId = MAIN): ModelBlock | undefined {
    const block = this.model.blocks.get(id);
    return block === undefined || block.gone || !block.created ? undefined : block;
  }

  unique(): number {
    return ++this.#unique;
  }

  /**
   * Gives operations their places and appends them; told to the model before and after.
   *
   * @param version of a new configuration; absent: the present one
   */
  async operate(id: BlockId, contents: readonly OpContent[], version?: Version): Promise<void> {
    const block = this.model.blocks.get(id);
    const info = this.store.info(id);
    if (block === undefined || block.gone || info === undefined) return;
    const before = block.opsGiven.length;
    const held = block.opsGiven.at(-1)!.version;
    const ops = contents.map((content, i) => {
      const place = { version: version ?? held, seq: before + 1 + i, atMs: this.clock.now() };
      return { ...content, ...place, opId: this.random.bytes(16) } as Op;
    });
    block.opsGiven = [...block.opsGiven, ...ops];
    const seq = before + ops.length;
    const done = await outcome(() => this.store.appendOps(id, ops));
    if (!('error' in done)) block.opsAcked = Math.max(block.opsAcked, seq);
    // Nothing else fails on a disk without faults.
    else if (isRefusal(done.error)) block.opsGiven = block.opsGiven.slice(0, before);
    else throw done.error;
  }

  /** Of what the block was given. */
  opsState(block: ModelBlock): OpsState {
    const state = emptyOpsState();
    for (const op of block.opsGiven) foldOp(state, op);
    return state;
  }

  /** Opens a replica that both other servers have, as sources. */
  async donorsOf(disk: RecordingDisk, id: BlockId): Promise<{ store: BlockStore; donors: Donor[] }> {
    const store = await openStore(disk.settled(), { faults: this.faults, server: DONORS[0]! });
    const donors = DONORS.map(
      (server): Donor => ({
        server,
        head: async () => store.head(id),
        records: (offset, length) => store.readRaw(id, store.info(id)!.generation, offset, length),
        ops: async () => ({ version: store.info(id)!.version, ops: await store.opsAfter(id, 0) }),
      }),
    );
    return { store, donors };
  }

  orderOf(store: BlockStore, id: BlockId): ReceiveOrder {
    const { generation, seal, version } = store.info(id)!;
    return { block: id, generation, seal: seal!, version };
  }

  /** Replaces one of the small values of the mount. @returns whether it was confirmed */
  async give<K extends 'reign' | 'members' | 'nonce'>(
    key: K,
    value: MountModel[K]['acked'],
    work: () => Promise<unknown>,
  ): Promise<void> {
    const model = this.model as { [P in K]: Given<unknown> };
    const { acked, given } = model[key];
    model[key] = { acked, given: [...given, value] };
    await work();
    model[key] = { acked: value, given: model[key].given.filter((each) => each !== value) };
  }

  /** Another life on this disk, or on what a power failure has left of it. */
  async restart(disk: RecordingDisk, cause: 'kill' | 'power'): Promise<void> {
    const { clock } = this;
    this.onDisk(disk);
    this.mount = await Mount.open(disk, this.faults, true, clock);
    // While it checks, nothing else happens: what it finds out it may write.
    const decided = await checkMount(this.mount, this.model, cause);
    Object.assign(this.model, decided);
  }
}

/** Refused before anything was done. */
export const isRefusal = (error: unknown): boolean =>
  isTfsError(error, 'CONFLICT') ||
  isTfsError(error, 'DONT_KNOW') ||
  isTfsError(error, 'STALE_EPOCH') ||
  isTfsError(error, 'OPS_GAP') ||
  isTfsError(error, 'SESSION_ENDED') ||
  isTfsError(error, 'DISK_FULL');

/** @throws Violation when it is done all the same */
export async function mustRefuse(what: string, work: () => Promise<unknown>): Promise<void> {
  const done = await outcome(work);
  demand('error' in done, `${what} was not refused`);
  if (!isRefusal(done.error)) throw done.error;
}
