import { assert, isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import {
  compareOps,
  emptyOpsState,
  foldOp,
  type GenerationFacts,
  NO_OP_ID,
  type Op,
  type OpContent,
  type OpPlace,
  type OpsState,
  OpType,
  sealInForce,
  withoutFacts,
} from '../../common/format/ops.ts';
import { type BlockId, compareVersions, type ServerId, type Version } from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import { tunable } from '../../common/tunables.ts';
import type { SealInfo } from './api.ts';
import type { StoreContext } from './context.ts';
import { type OpsFilePlace, OpsFileWriter, type ReleaseSpace } from './ops-file-writer.ts';

/** What is known of every block's ops, in memory or not. */
export interface OpsFacts {
  readonly version: Version;
  readonly seq: number;
  readonly opsPrimary: ServerId;
  readonly members: readonly ServerId[];
  /** What the records are: as sealed, or, of a compacted block, as its newest generation is. */
  readonly seal: SealInfo | undefined;
  /** 0 for a block that was not compacted. */
  readonly generation: number;
  readonly aliases: number;
  /** Some name is, or was, deleted or hidden. */
  readonly hasFlags: boolean;
}

/** An operation that has no place yet. */
export type Unplaced = OpContent & { readonly opId: Buffer };

interface Waiting {
  readonly ops: readonly Op[];
  readonly resolve: () => void;
  readonly reject: (error: TfsError) => void;
}

const frameCount = (group: readonly Waiting[]): number => group.reduce((sum, { ops }) => sum + ops.length, 0);

/**
 * The ops log of one block. Ops that wait while a write is under way go out together in the next one; they are folded
 * into the state, and seen by readers, once they are durable. The state may be dropped and is read back when needed.
 */
export class OpsLog {
  readonly block: BlockId;
  /**
   * Its end did not read when it was opened: a write that was cut short, and so never acknowledged; but a last operation that
   * has rotted looks the same.
   */
  readonly wasCut: boolean;
  facts: OpsFacts;
  /** Folded; undefined while it is not in memory. */
  state: OpsState | undefined;
  /** Sees every op after it was folded. */
  onApplied: ((ops: readonly Op[], state: OpsState) => void) | undefined;
  /** Hears, once, that the file is not what was written. */
  onDamaged: ((error: TfsError) => void) | undefined;
  /** Used since the eviction hand last passed. */
  touched = true;
  /** Its file has been read and is not what was written. What is in memory still holds. */
  damaged = false;
  readonly #context: StoreContext;
  readonly #file: OpsFileWriter;
  readonly #bytesMax: number;
  #waiting: Waiting[] = [];
  /** On their way to the disk. */
  #writing: readonly Waiting[] = [];
  #busy = false;
  /** The end of the run that is under way, or of the last. */
  #done: Promise<void> = Promise.resolve();
  #warming: Promise<OpsState> | undefined;
  /** Place of the newest op that was given. */
  #given: OpPlace;
  /** The newest ops, oldest first, for members that are a little behind. */
  #recent: Op[] = [];
  #over: TfsError | undefined;
  /** Its file is to be written anew. */
  #renewing = false;
  /** A configuration that is being agreed on. */
  #prepared: Version | undefined;

  constructor(
    context: StoreContext,
    place: OpsFilePlace,
    state: OpsState,
    options: { readonly bytesMax: number; readonly release: ReleaseSpace },
  ) {
    this.#context = context;
    this.block = place.block;
    this.#file = new OpsFileWriter(context, place, options.release);
    this.#bytesMax = options.bytesMax;
    this.wasCut = place.torn;
    this.state = state;
    this.facts = factsOf(state);
    this.#given = { version: state.version, seq: state.seq };
  }

  get fileName(): string {
    return this.#file.fileName;
  }

  /** Nothing is being written. */
  get idle(): boolean {
    return !this.#busy && this.#warming === undefined;
  }

  /**
   * Resolves when the ops, and all before them, are durable and folded. Those that were given before are skipped, but
   * waited for; without any new one it only makes sure of the old ones.
   *
   * @throws TfsError OPS_GAP, details `seq`, when the first new one does not follow the newest given before; STALE_EPOCH
   *   when one is of an older configuration than the newest given, whose first operation may be on its way to the disk,
   *   or when another operation was given in its place
   */
  append(ops: readonly Op[]): Promise<void> {
    const { version } = this.#given;
    // Not "given before": nobody may take for done what lies before the configuration and was no part of it.
    if (ops.some((op) => compareVersions(op.version, version) < 0))
      return Promise.reject(this.#superseded(version));
    const other = ops.find((op) => compareOps(op, this.#given) <= 0 && this.#isOther(op));
    if (other !== undefined) return Promise.reject(this.#contradicted(other));
    const fresh = ops.filter((op) => compareOps(op, this.#given) > 0);
    const prepared = this.prepared;
    if (prepared !== undefined && fresh.some((op) => compareVersions(op.version, prepared) < 0))
      return Promise.reject(this.#superseded(prepared));
    let seq = this.#given.seq;
    for (const op of fresh) {
      assert(!isFact(op), 'facts are not sequenced');
      if (op.type !== OpType.SNAPSHOT && op.seq !== seq + 1) return Promise.reject(this.#gap(op.seq));
      seq = op.seq;
    }
    return this.#give(fresh);
  }

  /**
   * Appends new operations of this version, behind everything that was given, on the disk or on its way there.
   *
   * @throws TfsError STALE_EPOCH when another version has begun, or is about to
   */
  sequence(version: Version, contents: readonly Unplaced[]): Promise<void> {
    const newest = this.prepared ?? this.#given.version;
    if (contents.length > 0 && compareVersions(newest, version) !== 0)
      return Promise.reject(this.#superseded(newest));
    const atMs = this.#context.opsNow();
    const { seq } = this.#given;
    return this.#give(contents.map((content, i) => ({ ...content, version, seq: seq + 1 + i, atMs }) as Op));
  }

  /** The configuration that is about to begin here; undefined when none is. */
  get prepared(): Version | undefined {
    const prepared = this.#prepared;
    return prepared !== undefined && compareVersions(prepared, this.facts.version) > 0 ? prepared : undefined;
  }

  /**
   * From now on no operation of a version below this one is taken. Kept in memory alone: if the process ends before
   * the configuration begins, the one who is agreeing on it hears that, and nothing was acknowledged meanwhile,
   * because the new opsPrimary itself takes none either.
   *
   * @returns the sequenced operations; every one that was given before has been written or has failed
   * @throws TfsError STALE_EPOCH when that version, or a newer one, has begun or is being agreed on; details: `epoch`, `n`
   */
  async prepare(version: Version): Promise<Op[]> {
    const newest = this.prepared ?? this.facts.version;
    const order = compareVersions(version, newest);
    if (order < 0 || (order === 0 && this.prepared === undefined)) throw this.#superseded(newest);
    this.#prepared = version;
    await this.#give([]);
    return this.after(0);
  }

  /** A fact of this replica alone: it takes no place in the sequence. */
  appendSeal(seal: SealInfo): Promise<void> {
    const atMs = this.#context.clock.now();
    return this.#give([{ type: OpType.SEAL, ...this.#given, atMs, opId: NO_OP_ID, ...seal }]);
  }

  /** As {@link appendSeal}. When it is durable the records are those of another file. */
  appendGeneration(generation: GenerationFacts): Promise<void> {
    const atMs = this.#context.clock.now();
    return this.#give([{ type: OpType.GEN_COMMIT, ...this.#given, atMs, opId: NO_OP_ID, ...generation }]);
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
    await this.#file.release();
  }

  /** Sequenced ops after `seq`; where the log was folded past it, a SNAPSHOT first. */
  async after(seq: number): Promise<Op[]> {
    const first = this.#recent[0];
    if (first !== undefined && first.type !== OpType.SNAPSHOT && first.seq <= seq + 1)
      return this.#recent.filter((op) => op.seq > seq);
    if (seq >= this.facts.seq) return [];
    const ops = await this.#reread();
    mark('ops-reread');
    return ops.filter((op) => op.seq > seq && !isFact(op)).map(withoutFacts);
  }

  /** Reads the file again. @returns what is wrong with it, undefined for a sound one */
  async check(): Promise<string | undefined> {
    try {
      await this.#reread();
      return undefined;
    } catch (error) {
      return toTfsError(error).message;
    }
  }

  /**
   * Takes the place of the log of the same block whose file was found damaged: what was promised there about a coming
   * configuration holds.
   */
  succeed(other: OpsLog): void {
    this.#prepared = other.#prepared;
  }

  /** Writes a new file from what is in memory. @returns false when the state is not there: then nothing is done */
  async renew(): Promise<boolean> {
    if (this.state === undefined) return false;
    this.#renewing = true;
    await this.#give([]);
    return !this.damaged;
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#over ??= new TfsError('CLOSED', 'the block store is closed');
    await this.#done;
    await this.#warming?.catch(() => undefined);
    await this.#file.release();
  }

  #give(ops: readonly Op[]): Promise<void> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const last = ops.findLast((op) => !isFact(op));
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
      this.#writing = group;
      try {
        if (this.#renewing) await this.#shorten();
        if (frameCount(group) > 0) await this.#commit(group.flatMap(({ ops }) => ops));
        else await this.#settle();
        // The ack of this replica: the ops are durable in its log, and every reader sees them from now on.
        for (const { resolve } of group) resolve();
      } catch (error) {
        // The file was read first. What a disk fails to write it says of itself.
        if (this.#context.failure === undefined) this.#noteDamage(error);
        this.#fail(error, group);
      }
      this.#writing = [];
      if (this.#file.isLong(this.#bytesMax)) await this.#shorten();
    }
    this.#busy = false;
  }

  async #commit(ops: readonly Op[]): Promise<void> {
    this.#context.assertWritable();
    const state = await this.warm();
    await this.#settle();
    await this.#file.append(ops);
    for (const op of ops) this.#fold(state, op);
    this.facts = factsOf(state);
    this.onApplied?.(ops, state);
  }

  /**
   * What another process left is durable, see {@link OpsFileWriter.settle}. Where the file does not read any more as it did,
   * and what it said is in memory, that goes into a new file.
   */
  async #settle(): Promise<void> {
    try {
      await this.#file.settle();
    } catch (error) {
      if (this.#context.failure !== undefined || this.state === undefined) throw error;
      this.damaged = true;
      await this.#shorten();
      if (!this.damaged) return;
      // Not noted yet for whoever has to know.
      this.damaged = false;
      throw error;
    }
  }

  #fold(state: OpsState, op: Op): void {
    foldOp(state, op);
    if (isFact(op)) return;
    // The buffers of an op that came by the wire belong to a whole frame.
    this.#recent.push({ ...op, opId: Buffer.from(op.opId) });
    if (this.#recent.length > 2 * tunable.opsTailOpsMax)
      this.#recent = this.#recent.slice(-tunable.opsTailOpsMax);
  }

  /** Folds a log that has grown too long into a new file. */
  async #shorten(): Promise<void> {
    const { state } = this;
    if (this.#context.failure !== undefined || state === undefined) return;
    const { version, seq } = state;
    // Like the operations in it: what they add up to must not look older than they are.
    const atMs = this.#context.opsNow();
    this.#renewing = false;
    try {
      const snapshot = { type: OpType.SNAPSHOT, version, seq, atMs, opId: NO_OP_ID, state };
      if (!(await this.#file.replace(snapshot))) return;
      mark('ops-log-folded');
      this.damaged = false;
    } catch (error) {
      this.#over = toTfsError(error);
    }
  }

  #fail(error: unknown, group: readonly Waiting[]): void {
    const failure = toTfsError(error);
    const rest = this.#waiting;
    this.#waiting = [];
    // What was given is not there: the next op has to follow the newest durable one again.
    this.#given = { version: this.facts.version, seq: this.facts.seq };
    for (const { reject } of [...group, ...rest]) reject(failure);
  }

  async #reread(): Promise<readonly Op[]> {
    try {
      const ops = await this.#file.read();
      this.damaged = false;
      return ops;
    } catch (error) {
      this.#noteDamage(error);
      throw error;
    }
  }

  #noteDamage(error: unknown): void {
    const isDamage =
      isTfsError(error, 'CORRUPT') || isTfsError(error, 'IO') || isTfsError(error, 'NOT_FOUND');
    if (!isDamage || this.damaged) return;
    this.damaged = true;
    this.onDamaged?.(error);
  }

  async #read(): Promise<OpsState> {
    const state = emptyOpsState();
    for (const op of await this.#reread()) foldOp(state, op);
    assert(state.seq === this.facts.seq, `the ops log of block ${this.block} reads as it did before`);
    this.state = state;
    return state;
  }

  #superseded(by: Version): TfsError {
    return new TfsError(
      'STALE_EPOCH',
      `block ${this.block}: version (${by.epoch}, ${by.n}) of its configuration has begun or is about to`,
      { details: { epoch: by.epoch, n: by.n } },
    );
  }

  /** Whether that place was given to another operation, as far as the last ones are remembered. */
  #isOther(op: Op): boolean {
    const isThere = (held: Op) => compareOps(held, op) === 0 && !isFact(held);
    const held =
      this.#recent.find(isThere) ??
      [...this.#writing, ...this.#waiting].flatMap(({ ops }) => ops).find(isThere);
    return held !== undefined && (held.type !== op.type || !held.opId.equals(op.opId));
  }

  #contradicted({ seq }: Op): TfsError {
    mark('ops-refused-place');
    this.#context.log.error({ block: this.block, seq }, 'two operations have the same place in an ops log');
    const { epoch, n } = this.#given.version;
    return new TfsError('STALE_EPOCH', `block ${this.block}: this log has another operation ${seq}`, {
      details: { epoch, n },
    });
  }

  #gap(seq: number): TfsError {
    return new TfsError('OPS_GAP', `block ${this.block}: op ${seq} does not follow ${this.#given.seq}`, {
      details: { seq: this.#given.seq },
    });
  }
}

/** Of one replica alone: it says what the records here are. */
export const isFact = ({ type }: Op): boolean => type === OpType.SEAL || type === OpType.GEN_COMMIT;

export function factsOf(state: OpsState): OpsFacts {
  return {
    version: state.version,
    seq: state.seq,
    opsPrimary: state.cfg?.opsPrimary ?? (0 as ServerId),
    members: state.cfg?.members ?? [],
    seal: sealInForce(state),
    generation: state.generation?.generation ?? 0,
    aliases: state.aliases?.count ?? 0,
    hasFlags: state.slotFlags.length > 0,
  };
}
