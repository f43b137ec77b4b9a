import { assert, isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import {
  compareOps,
  emptyOpsState,
  encodeOpBody,
  encodeOpsFileHeader,
  foldOp,
  frameOp,
  NO_OP_ID,
  OPS_HEADER_BYTES,
  type Op,
  type OpPlace,
  type OpsState,
  OpType,
  opsSeed,
  readOpsFile,
} from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { BlockId, ServerId, Version } from '../../common/ids.ts';
import { OPS_TAIL_OPS_MAX } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import type { SealInfo } from './api.ts';
import { inBlocks, type StoreContext } from './context.ts';

/** What is known of every block's ops, in memory or not. */
export interface OpsFacts {
  readonly version: Version;
  readonly seq: number;
  readonly opsPrimary: ServerId;
  readonly members: readonly ServerId[];
  readonly seal: SealInfo | undefined;
  readonly aliases: number;
}

export interface OpsLogFile {
  readonly block: BlockId;
  readonly n: number;
  /** Where the next frame goes. */
  readonly goodLength: number;
  /** Something that is no frame follows there: a write that the power failure tore. */
  readonly torn: boolean;
  /** Written by an earlier process: what it read as may be in the page cache and not on the medium. */
  readonly inherited: boolean;
}

interface Waiting {
  readonly ops: readonly Op[];
  readonly resolve: () => void;
  readonly reject: (error: TfsError) => void;
}

const frameCount = (group: readonly Waiting[]): number => group.reduce((sum, { ops }) => sum + ops.length, 0);

/** Gives space back to a full disk. @returns whether there was some to give */
export type ReleaseSpace = () => Promise<boolean>;

/**
 * The ops log of one block. Ops that wait while a write is under way go out together in the next one; they are folded
 * into the state, and seen by readers, once they are durable. The state may be dropped and is read back when needed.
 */
export class OpsLog {
  readonly block: BlockId;
  facts: OpsFacts;
  /** Folded; undefined while it is not in memory. */
  state: OpsState | undefined;
  /** Sees every op after it was folded. */
  onApplied: ((ops: readonly Op[], state: OpsState) => void) | undefined;
  /** Used since the eviction hand last passed. */
  touched = true;
  readonly #context: StoreContext;
  readonly #salt: Buffer;
  readonly #release: ReleaseSpace;
  readonly #bytesMax: number;
  #n: number;
  #seed: number;
  #goodLength: number;
  #torn: boolean;
  #inherited: boolean;
  #file: DiskFile | undefined;
  #waiting: Waiting[] = [];
  #busy = false;
  /** The end of the run that is under way, or of the last. */
  #done: Promise<void> = Promise.resolve();
  #warming: Promise<OpsState> | undefined;
  /** Place of the newest op that was given. */
  #given: OpPlace;
  /** The newest ops, oldest first, for members that are a little behind. */
  #recent: Op[] = [];
  #over: TfsError | undefined;

  constructor(
    context: StoreContext,
    file: OpsLogFile,
    salt: Buffer,
    state: OpsState,
    options: { readonly bytesMax: number; readonly release: ReleaseSpace },
  ) {
    this.#context = context;
    this.block = file.block;
    this.#n = file.n;
    this.#goodLength = file.goodLength;
    this.#torn = file.torn;
    this.#inherited = file.inherited;
    this.#salt = salt;
    this.#seed = opsSeed({ clusterUuid: context.clusterUuid, block: file.block, n: file.n, salt });
    this.#release = options.release;
    this.#bytesMax = options.bytesMax;
    this.state = state;
    this.facts = factsOf(state);
    this.#given = { version: state.version, seq: state.seq };
  }

  /** The bytes of a new log that holds one op. */
  static firstBytes(superblock: Superblock, op: Op): Buffer[] {
    return logBytes(superblock.clusterUuid, superblock.block, 0, superblock.salt, op);
  }

  /** Nothing is being written. */
  get idle(): boolean {
    return !this.#busy && this.#warming === undefined;
  }

  /**
   * Resolves when the ops, and all before them, are durable and folded. Those that were given before are skipped, but
   * waited for; without any new one it only makes sure of the old ones.
   *
   * @throws TfsError OPS_GAP, details `seq`, when the first new one does not follow the newest given before
   */
  append(ops: readonly Op[]): Promise<void> {
    const fresh = ops.filter((op) => compareOps(op, this.#given) > 0);
    let seq = this.#given.seq;
    for (const op of fresh) {
      assert(op.type !== OpType.SEAL && op.type !== OpType.GEN_COMMIT, 'facts are not sequenced');
      if (op.type !== OpType.SNAPSHOT && op.seq !== seq + 1) return Promise.reject(this.#gap(op.seq));
      seq = op.seq;
    }
    return this.#give(fresh);
  }

  /** A fact of this replica alone: it takes no place in the sequence. */
  appendSeal(seal: SealInfo): Promise<void> {
    const atMs = this.#context.clock.now();
    return this.#give([{ type: OpType.SEAL, ...this.#given, atMs, opId: NO_OP_ID, ...seal }]);
  }

  /** The folded state, read back if it is not in memory. */
  warm(): OpsState | Promise<OpsState> {
    this.touched = true;
    if (this.state !== undefined) return this.state;
    this.#warming ??= this.#read().finally(() => {
      this.#warming = undefined;
    });
    return this.#warming;
  }

  /** Gives the memory back; the file stays as it is. */
  async cool(): Promise<void> {
    assert(this.idle, 'an ops log is cooled while nothing happens to it');
    this.state = undefined;
    this.#recent = [];
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** Sequenced ops after `seq`; where the log was folded past it, a SNAPSHOT first. */
  async after(seq: number): Promise<Op[]> {
    const first = this.#recent[0];
    if (first !== undefined && first.type !== OpType.SNAPSHOT && first.seq <= seq + 1)
      return this.#recent.filter((op) => op.seq > seq);
    if (seq >= this.facts.seq) return [];
    const { ops } = await this.#readFile();
    return ops.filter((op) => op.seq > seq && op.type !== OpType.SEAL && op.type !== OpType.GEN_COMMIT);
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#over ??= new TfsError('CLOSED', 'the block store is closed');
    await this.#done;
    await this.#warming?.catch(() => undefined);
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  #give(ops: readonly Op[]): Promise<void> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const last = ops.findLast((op) => op.type !== OpType.SEAL);
    if (last !== undefined) this.#given = { version: last.version, seq: last.seq };
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ops, resolve, reject });
      if (this.#busy) return;
      this.#busy = true;
      this.#done = this.#run();
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        if (frameCount(group) > 0) await this.#commit(group.flatMap(({ ops }) => ops));
        else if (this.#inherited) await this.#settle();
        // The ack of this replica: the ops are durable in its log, and every reader sees them from now on.
        for (const { resolve } of group) resolve();
      } catch (error) {
        this.#fail(error, group);
      }
      if (this.#goodLength > this.#bytesMax) await this.#shorten();
    }
    this.#busy = false;
  }

  async #commit(ops: readonly Op[]): Promise<void> {
    this.#context.assertWritable();
    const state = await this.warm();
    let length = this.#goodLength;
    const frames = ops.map((op, i) => {
      const frame = frameOp(encodeOpBody(op), this.#seed, length, i > 0);
      length += frame.length;
      return frame;
    });
    try {
      await this.#write(frames);
    } catch (error) {
      throw this.#context.failed(error, `ops log of block ${this.block}`);
    }
    this.#goodLength = length;
    for (const op of ops) this.#fold(state, op);
    this.facts = factsOf(state);
    this.onApplied?.(ops, state);
  }

  #fold(state: OpsState, op: Op): void {
    foldOp(state, op);
    if (op.type === OpType.SEAL || op.type === OpType.GEN_COMMIT) return;
    // The buffers of an op that came by the wire belong to a whole frame.
    this.#recent.push({ ...op, opId: Buffer.from(op.opId) });
    if (this.#recent.length > 2 * OPS_TAIL_OPS_MAX) this.#recent = this.#recent.slice(-OPS_TAIL_OPS_MAX);
  }

  /**
   * A killed process may have written ops that it had not synced: they were read back from the page cache, and a power
   * failure could still take them. Nothing is acknowledged on top of them before they are durable.
   */
  async #settle(): Promise<void> {
    if (this.#context.faults.has('trust-page-cache')) return;
    this.#context.assertWritable();
    try {
      this.#file ??= await this.#context.open(this.#name(), 'write');
      await this.#file.datasync();
    } catch (error) {
      throw this.#context.failed(error, `ops log of block ${this.block}`);
    }
    this.#inherited = false;
  }

  async #write(frames: readonly Buffer[]): Promise<void> {
    const { faults } = this.#context;
    this.#file ??= await this.#context.open(this.#name(), 'write');
    if (this.#inherited) await this.#settle();
    if (this.#torn) {
      // Cut off and synced before anything new: a stale frame behind a new one must never look like its successor.
      await this.#file.truncate(this.#goodLength);
      await this.#file.datasync();
      this.#torn = false;
    }
    if (faults.has('skip-datasync') || faults.has('ack-op-before-datasync'))
      return this.#file.write(frames, this.#goodLength);
    try {
      await this.#file.writeDurable(frames, this.#goodLength);
    } catch (error) {
      this.#torn = true;
      if (!isTfsError(error, 'DISK_FULL') || !(await this.#release())) throw error;
      // Not a retried sync: all of the bytes are written again, to space that is there now.
      await this.#file.writeDurable(frames, this.#goodLength);
      this.#torn = false;
    }
  }

  /** Folds a log that has grown too long into a new file, which takes its place. */
  async #shorten(): Promise<void> {
    const context = this.#context;
    if (context.failure !== undefined) return;
    const state = this.state!;
    const n = this.#n + 1;
    const { version, seq } = state;
    const atMs = context.clock.now();
    const snapshot: Op = { type: OpType.SNAPSHOT, version, seq, atMs, opId: NO_OP_ID, state };
    const content = logBytes(context.clusterUuid, this.block, n, this.#salt, snapshot);
    const name = blockFileName(this.block, n, 'ops');
    try {
      await context.writeTemporary(`${name}.tmp`, content);
      // Only a durable name may receive ops, and only then may the old file go.
      await context.disk.rename(inBlocks(`${name}.tmp`), inBlocks(name));
      await context.syncBlocks();
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL')) {
        this.#over = context.failed(error, `shortening the ops log of block ${this.block}`);
        return;
      }
      context.log.warn({ block: this.block }, 'no space to shorten an ops log; it grows on');
      await context.discard(inBlocks(`${name}.tmp`));
      return;
    }
    const [old, oldFile] = [this.#name(), this.#file];
    this.#n = n;
    this.#seed = opsSeed({ clusterUuid: context.clusterUuid, block: this.block, n, salt: this.#salt });
    this.#goodLength = content.reduce((sum, part) => sum + part.length, 0);
    this.#torn = false;
    this.#inherited = false;
    this.#file = undefined;
    await oldFile?.close();
    await context.discard(inBlocks(old));
  }

  #fail(error: unknown, group: readonly Waiting[]): void {
    const failure = toTfsError(error);
    const rest = this.#waiting;
    this.#waiting = [];
    // What was given is not there: the next op has to follow the newest durable one again.
    this.#given = { version: this.facts.version, seq: this.facts.seq };
    for (const { reject } of [...group, ...rest]) reject(failure);
  }

  async #read(): Promise<OpsState> {
    const { ops } = await this.#readFile();
    const state = emptyOpsState();
    for (const op of ops) foldOp(state, op);
    assert(state.seq === this.facts.seq, `the ops log of block ${this.block} reads as it did before`);
    this.state = state;
    return state;
  }

  async #readFile(): Promise<{ readonly ops: readonly Op[] }> {
    const [n, length] = [this.#n, this.#goodLength];
    let bytes: Buffer;
    try {
      bytes = await this.#context.disk.readFile(inBlocks(this.#name()));
    } catch (error) {
      // A shorter file has taken its place meanwhile.
      if (n !== this.#n) return this.#readFile();
      throw error;
    }
    const log = readOpsFile(bytes.subarray(0, length));
    if (log.ok && log.value.end === 'clean' && log.value.goodLength === length) return log.value;
    const why = log.ok ? log.value.why : log.why;
    throw new TfsError('CORRUPT', `the ops log of block ${this.block} was sound and is not any more: ${why}`);
  }

  #name(): string {
    return blockFileName(this.block, this.#n, 'ops');
  }

  #gap(seq: number): TfsError {
    return new TfsError('OPS_GAP', `block ${this.block}: op ${seq} does not follow ${this.#given.seq}`, {
      details: { seq: this.#given.seq },
    });
  }
}

function logBytes(clusterUuid: string, block: BlockId, n: number, salt: Buffer, op: Op): Buffer[] {
  const header = { clusterUuid, block, n, salt };
  return [encodeOpsFileHeader(header), frameOp(encodeOpBody(op), opsSeed(header), OPS_HEADER_BYTES)];
}

export function factsOf(state: OpsState): OpsFacts {
  return {
    version: state.version,
    seq: state.seq,
    opsPrimary: state.cfg?.opsPrimary ?? (0 as ServerId),
    members: state.cfg?.members ?? [],
    seal: state.seal,
    aliases: state.aliases?.count ?? 0,
  };
}
