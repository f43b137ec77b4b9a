import { TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { BlockId, ServerId, Version } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { type BlockEntry, BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { BlockInfo, SealInfo } from './api.ts';
import type { AppendQueue } from './append-queue.ts';
import { type Faults, seedOf } from './faults.ts';
import type { LoadedIndex } from './loaded-index.ts';
import type { OpsLog } from './ops-log.ts';
import type { Tail } from './tail.ts';

/** What a block becomes with the commit of its next file. */
export interface NextGeneration {
  readonly superblock: Superblock;
  readonly digest: Buffer;
  readonly index: LoadedIndex;
}

/** One block of the store: what is known of it, whichever of its parts are in memory. */
export class Block implements BlockInfo {
  readonly block: BlockId;
  generation: number;
  superblock: Superblock | undefined;
  ops: OpsLog;
  /** Of all record headers. */
  seed: number;
  state: BlockState;
  flags = 0;
  /** What reads use; undefined while it is not loaded. */
  index: LoadedIndex | undefined;
  /** The load, or the walk, that will set `index`. */
  loading: Promise<LoadedIndex> | undefined;
  /** Of a block that is not sealed: what its seal will need. Undefined for a RECOVERED one that was not walked. */
  tail: Tail | undefined;
  /** Of an OPEN or FENCED block. */
  appends: AppendQueue | undefined;
  fileBytes: number;
  /** Takes the place of what is there when the log says so. */
  next: NextGeneration | undefined;
  /** Those who wait for the index: no eviction before they have it. */
  users = 0;
  /** The last writing of its index file: a seal, a load and a verification may all want to, and it is one file. */
  indexWrite: Promise<void> = Promise.resolve();
  /** Of a RECOVERED block that was not walked: its disk failed to read it when that was tried last. */
  unread = false;
  /** Damage was found that a walk of the records does not see: only a repair of the whole file clears it. */
  unsound = false;
  /** It was let go of: whoever still waits for his turn with it comes too late. */
  isForgotten = false;
  #deadBytes = 0;
  #deadBytesStale = true;
  #sealedProven = SUPERBLOCK_BYTES;
  /** Fence, fill and seal of one block run one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(facts: {
    readonly block: BlockId;
    readonly generation: number;
    readonly superblock: Superblock | undefined;
    readonly ops: OpsLog;
    readonly state: BlockState;
    readonly fileBytes: number;
    readonly faults: Faults;
  }) {
    this.block = facts.block;
    this.generation = facts.generation;
    this.superblock = facts.superblock;
    this.ops = facts.ops;
    this.state = facts.state;
    this.fileBytes = facts.fileBytes;
    this.seed = facts.superblock === undefined ? 0 : seedOf(facts.faults, facts.superblock);
  }

  get fileName(): string {
    return blockFileName(this.block, this.generation, 'blk');
  }

  /** The SEAL in force. */
  get seal(): SealInfo | undefined {
    return this.state === BlockState.SEALED ? this.ops.facts.seal : undefined;
  }

  /** The highest in the log. Of a block that is about to be sealed otherwise it is not in force any more. */
  get storedSeal(): SealInfo | undefined {
    return this.ops.facts.seal;
  }

  get length(): number {
    return this.seal?.length ?? this.index?.length ?? SUPERBLOCK_BYTES;
  }

  get slots(): number {
    return this.seal?.slots ?? this.index?.count ?? 0;
  }

  get provenLength(): number {
    if (this.seal?.complete) return this.seal.length;
    return this.tail?.provenLength ?? this.#sealedProven;
  }

  /** Of a sealed block: what its last watermark, or its session while it lived, has proved; known once it was loaded. */
  set provenLength(length: number) {
    if (length > this.#sealedProven) this.#sealedProven = length;
  }

  get seq(): number {
    return this.ops.facts.seq;
  }

  get wasCut(): boolean {
    return this.ops.wasCut;
  }

  get version(): Version {
    return this.ops.facts.version;
  }

  get prepared(): Version | undefined {
    return this.ops.prepared;
  }

  get opsPrimary(): ServerId {
    return this.ops.facts.opsPrimary;
  }

  get members(): readonly ServerId[] {
    return this.ops.facts.members;
  }

  get hasFlags(): boolean {
    return this.ops.facts.hasFlags;
  }

  get walked(): boolean {
    return this.state !== BlockState.RECOVERED || this.tail !== undefined;
  }

  /** Damaged where neither a walk of the records nor a seal looks: here, or in the file of the log. */
  get isUnsound(): boolean {
    return this.unsound || this.ops.damaged;
  }

  get suspect(): boolean {
    return (this.flags & BlockFlag.SUSPECT) !== 0;
  }

  /** Nobody reads pictures of it: its index must not drive out one of which somebody does. */
  untouch(): void {
    if (this.index !== undefined) this.index.touched = false;
  }

  entry(): BlockEntry {
    const { superblock, ops } = this;
    return {
      block: this.block,
      generation: this.generation,
      state: this.state,
      flags: this.flags,
      length: this.length,
      seq: ops.facts.seq,
      version: ops.facts.version,
      opsPrimary: ops.facts.opsPrimary,
      targetReplicas: superblock?.targetReplicas ?? ops.facts.members.length,
      members: ops.facts.members,
      deadBytes: this.#dead(),
    };
  }

  /** An op has changed the state of a name. */
  namesChanged(): void {
    this.#deadBytesStale = true;
  }

  /** Counts what is dead anew, if that can be done. @returns whether it is not what was known before */
  measuresDead(): boolean {
    const before = this.#deadBytes;
    return this.#dead() !== before;
  }

  /** @throws TfsError IO for a block whose superblock or ops log this process could not read */
  sound(): Superblock {
    if (this.superblock !== undefined && (this.flags & BlockFlag.QUARANTINED) === 0) return this.superblock;
    throw new TfsError('IO', `block ${this.block} is quarantined: its superblock or ops log cannot be read`);
  }

  /** What could not be read when the store opened, or was not there, has been made good. */
  adopt(superblock: Superblock, ops: OpsLog, faults: Faults): void {
    this.generation = superblock.generation;
    this.superblock = superblock;
    this.seed = seedOf(faults, superblock);
    this.ops = ops;
    this.tail = undefined;
    this.appends = undefined;
    this.unread = false;
  }

  /** The log has the commit of the next generation: from now on the block is that one. @returns what reads use */
  enterNext(): LoadedIndex | undefined {
    const { next } = this;
    const { generation, seal } = this.ops.facts;
    if (next?.superblock.generation !== generation || seal?.digest.equals(next.digest) !== true)
      return undefined;
    const { superblock, index } = next;
    this.next = undefined;
    this.generation = superblock.generation;
    this.superblock = superblock;
    this.seed = index.seed;
    this.fileBytes = index.length;
    // What was damaged is in the old file.
    this.flags = 0;
    this.unsound = false;
    return index;
  }

  /** @throws TfsError DONT_KNOW when the replica was let go of by then */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const inTurn = (): Promise<T> => {
      if (this.isForgotten)
        throw new TfsError('DONT_KNOW', `block ${this.block} is not on this DataServer any more`);
      return work();
    };
    const run = this.#turn.then(inTurn, inTurn);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  /** Bytes of deleted records that no live alias names. Known while the index is loaded; else the last figure. */
  #dead(): number {
    const { index } = this;
    if (!this.#deadBytesStale || index === undefined) return this.#deadBytes;
    const kept = new Set<number>();
    const { aliases } = index;
    for (let i = 0; i < (aliases?.count ?? 0); i++) {
      if ((aliases!.flagsAt(i) & NameFlag.DELETED) === 0) kept.add(aliases!.targetAt(i));
    }
    let dead = 0;
    for (let slot = 0; slot < index.count; slot++) {
      if ((slotFlags(index.words[slot]!) & NameFlag.DELETED) !== 0 && !kept.has(slot))
        dead += index.spanOf(slot);
    }
    this.#deadBytes = dead;
    this.#deadBytesStale = false;
    return dead;
  }
}
