/**
 * What the operations of a block add up to. Most blocks have a configuration, perhaps a seal, and nothing else, and
 * there are tens of thousands of blocks on a disk: everything else takes no memory until there is some.
 */

import { type FileId, isAlias, SLOT_MAX, type Slot, type Version } from '../ids.ts';
import { tunable } from '../tunables.ts';
import { NameFlag } from '../wire/messages.ts';
import { AliasTable } from './alias-table.ts';
import { DeleteTimes } from './delete-times.ts';
import {
  type Configuration,
  compareOps,
  type GenCommitOp,
  type GenerationFacts,
  type MutationOp,
  type MutationType,
  type Op,
  OpType,
  type SealFacts,
  type SealOp,
} from './op.ts';
import { compareSeals } from './seal-rank.ts';

export interface RecentOp {
  readonly type: MutationType | typeof OpType.ALIAS;
  /** What it changed or, for an ALIAS, made. */
  readonly fileId: FileId;
}

export interface OpsState {
  /** Of the last operation. */
  version: Version;
  /** Of the last operation; 0 before the first. */
  seq: number;
  cfg: Configuration | undefined;
  /** The highest, see {@link compareSeals}. */
  seal: SealFacts | undefined;
  /** The newest. */
  generation: GenerationFacts | undefined;
  /** Bits of NameFlag by slot; slots beyond its end have none. */
  slotFlags: Uint8Array;
  aliases: AliasTable | undefined;
  /** Of names that are deleted and not purged. */
  deletions: DeleteTimes | undefined;
  /** Op id in hex -> what it did, oldest first, of the last `recentOpsMax` of tunables.ts client operations. */
  recentOps: Map<string, RecentOp> | undefined;
}

/**
 * - `applied`: the state has changed, or would have if it had not been so before
 * - `duplicate`: its op id is known; only version and seq have moved
 * - `old`: not after the last operation; nothing has changed
 */
export type FoldResult = 'applied' | 'duplicate' | 'old';

const NO_FLAGS = new Uint8Array(0);

export const emptyOpsState = (): OpsState => ({
  version: { epoch: 0 as Version['epoch'], n: 0 },
  seq: 0,
  cfg: undefined,
  seal: undefined,
  generation: undefined,
  slotFlags: NO_FLAGS,
  aliases: undefined,
  deletions: undefined,
  recentOps: undefined,
});

/**
 * Adds one operation to a state, in place. Depends on nothing else, so that every replica gets the same.
 *
 * @param how `repeats`: an operation whose opId, or whose place, is known does what it says all the same. For logs that
 *   are put together: a request may have reached two sequencers, and what the later one did was answered.
 */
export function foldOp(state: OpsState, op: Op, how: { readonly repeats?: boolean } = {}): FoldResult {
  if (op.type === OpType.SEAL || op.type === OpType.GEN_COMMIT) return foldFact(state, op);
  const order = compareOps(op, state);
  if (order < 0 || (order === 0 && how.repeats !== true)) return 'old';
  if (op.type === OpType.SNAPSHOT) {
    // Facts stand outside the sequence: a snapshot from another replica must not undo those of this one.
    const { seal, generation } = state;
    Object.assign(state, cloneOpsState(op.state));
    if (seal !== undefined && (state.seal === undefined || compareSeals(seal, state.seal) > 0))
      state.seal = seal;
    if (generation !== undefined && isNewer(generation, state.generation)) state.generation = generation;
    return 'applied';
  }
  state.version = op.version;
  state.seq = op.seq;
  switch (op.type) {
    case OpType.CFG:
      state.cfg = { members: op.members, opsPrimary: op.opsPrimary };
      return 'applied';
    case OpType.PURGE_INTENT:
      purge(state, op.slots);
      return 'applied';
    case OpType.ALIAS:
      if (!remember(state, op.opId, { type: op.type, fileId: op.aliasId }, how)) return 'duplicate';
      // An alias never lands on purged bytes, whatever a merge has put before it.
      if ((slotFlagsOf(state, op.target) & NameFlag.PURGED) === 0) {
        state.aliases ??= new AliasTable();
        state.aliases.insert(op.aliasId, op.cookie, op.target);
      }
      return 'applied';
    default:
      if (!remember(state, op.opId, { type: op.type, fileId: op.fileId }, how)) return 'duplicate';
      mutate(state, op);
      return 'applied';
  }
}

/**
 * SEAL and GEN_COMMIT are facts that a NameServer tells each replica by itself, at whatever point of its log: they have
 * no place in the sequence, take no seq from it, and carry the one before them only for people who read a dump.
 */
function foldFact(state: OpsState, op: SealOp | GenCommitOp): FoldResult {
  if (op.type === OpType.SEAL) {
    if (state.seal !== undefined && compareSeals(op, state.seal) < 0) return 'old';
    const { length, slots, epoch, complete, lost } = op;
    state.seal = {
      length,
      slots,
      epoch,
      digest: Buffer.from(op.digest),
      ...(complete ? { complete } : {}),
      ...(lost ? { lost } : {}),
    };
    return 'applied';
  }
  if (!isNewer(op, state.generation)) return 'old';
  const { generation, length, slots, epoch } = op;
  state.generation = { generation, length, slots, epoch, digest: Buffer.from(op.digest) };
  return 'applied';
}

/**
 * Two leaders that could not hear of each other's members may each have had the same generation made. Both files hold
 * every name that lives; all replicas have to end with one of them.
 */
const isNewer = (a: GenerationFacts, b: GenerationFacts | undefined): boolean =>
  b === undefined || a.generation > b.generation || (a.generation === b.generation && a.epoch > b.epoch);

/**
 * What the records of the block are by now: as it was sealed, or, once it was compacted, as its newest generation is,
 * which every member has.
 */
export function sealInForce({
  seal,
  generation,
}: Pick<OpsState, 'seal' | 'generation'>): SealFacts | undefined {
  if (generation === undefined) return seal;
  const { length, slots, digest, epoch } = generation;
  return { length, slots, digest, epoch, complete: true };
}

/** The names of the record are deleted again, and no more than that: as of that time. */
export function unpurge(state: OpsState, slot: Slot, atMs: number): void {
  const { aliases } = state;
  setSlotFlags(state, slot, slotFlagsOf(state, slot) & ~NameFlag.PURGED);
  if ((slotFlagsOf(state, slot) & NameFlag.DELETED) !== 0)
    noteDeletion(state, slot as number as FileId, atMs);
  for (let i = 0; i < (aliases?.count ?? 0); i++)
    if (aliases!.targetAt(i) === slot && (aliases!.flagsAt(i) & NameFlag.DELETED) !== 0)
      noteDeletion(state, aliases!.idAt(i), atMs);
}

/** What the log says of the records in a file of that generation; undefined for one that it does not speak of. */
export function sealOf(
  state: Pick<OpsState, 'seal' | 'generation'>,
  generation: number,
): SealFacts | undefined {
  if (generation === 0) return state.seal;
  return state.generation?.generation === generation ? sealInForce(state) : undefined;
}

/**
 * The state of a name: of an alias also PURGED where its target is.
 *
 * @returns bits of NameFlag, or undefined for an alias that is not there; whether a slot exists the records tell
 */
export function nameFlagsOf(state: OpsState, fileId: FileId): number | undefined {
  if (!isAlias(fileId)) return slotFlagsOf(state, fileId as number as Slot);
  const aliases = state.aliases;
  const at = aliases?.find(fileId) ?? -1;
  if (aliases === undefined || at < 0) return undefined;
  return aliases.flagsAt(at) | (slotFlagsOf(state, aliases.targetAt(at)) & NameFlag.PURGED);
}

export const slotFlagsOf = (state: OpsState, slot: Slot): number => state.slotFlags[slot] ?? 0;

export function cloneOpsState(state: OpsState): OpsState {
  return {
    ...state,
    slotFlags: state.slotFlags.length === 0 ? NO_FLAGS : state.slotFlags.slice(),
    aliases: state.aliases?.clone(),
    deletions: state.deletions?.clone(),
    recentOps: state.recentOps && new Map(state.recentOps),
  };
}

function mutate(state: OpsState, { type, fileId, atMs }: MutationOp): void {
  const before = nameFlagsOf(state, fileId);
  if (before === undefined) return;
  const after = mutated(before, type);
  if (after !== before) setNameFlags(state, fileId, after);
  if ((after & NameFlag.PURGED) !== 0) return;
  if (type === OpType.DELETE) noteDeletion(state, fileId, atMs);
  else if (type === OpType.UNDELETE) state.deletions?.forget(fileId);
}

/** A name is deleted, and was so at that time. */
export function noteDeletion(state: OpsState, fileId: FileId, atMs: number): void {
  state.deletions ??= new DeleteTimes();
  state.deletions.note(fileId, atMs);
}

function purge(state: OpsState, slots: readonly Slot[]): void {
  for (const slot of slots) {
    setSlotFlags(state, slot, slotFlagsOf(state, slot) | NameFlag.PURGED);
    state.deletions?.forget(slot as number as FileId);
  }
  const { aliases, deletions } = state;
  if (aliases === undefined || deletions === undefined) return;
  for (let i = 0; i < aliases.count; i++)
    if ((slotFlagsOf(state, aliases.targetAt(i)) & NameFlag.PURGED) !== 0) deletions.forget(aliases.idAt(i));
}

/** @param fileId a slot, or an alias that is there */
export function setNameFlags(state: OpsState, fileId: FileId, nameFlags: number): void {
  if (!isAlias(fileId)) {
    setSlotFlags(state, fileId as number as Slot, nameFlags);
    return;
  }
  const aliases = state.aliases!;
  aliases.setFlagsAt(aliases.find(fileId), nameFlags & ~NameFlag.PURGED);
}

/** DELETE and HIDE are independent bits. What is purged stays deleted: its bytes may be gone. */
function mutated(flags: number, type: MutationType): number {
  switch (type) {
    case OpType.DELETE:
      return flags | NameFlag.DELETED;
    case OpType.UNDELETE:
      return (flags & NameFlag.PURGED) !== 0 ? flags : flags & ~NameFlag.DELETED;
    case OpType.HIDE:
      return flags | NameFlag.HIDDEN;
    case OpType.REVEAL:
      return flags & ~NameFlag.HIDDEN;
  }
}

export function setSlotFlags(state: OpsState, slot: Slot, nameFlags: number): void {
  if (slot >= state.slotFlags.length) {
    const grown = new Uint8Array(Math.min(SLOT_MAX + 1, Math.max(64, slot + 1 + (slot >>> 2))));
    grown.set(state.slotFlags);
    state.slotFlags = grown;
  }
  state.slotFlags[slot] = nameFlags;
}

/** @returns false for an op id that is there already; the zero id is nobody's */
export function remember(
  state: OpsState,
  opId: Buffer,
  what: RecentOp,
  { repeats = false }: { readonly repeats?: boolean } = {},
): boolean {
  const key = opId.toString('hex');
  if (/^0+$/.test(key)) return true;
  state.recentOps ??= new Map();
  if (state.recentOps.has(key) && !repeats) return false;
  state.recentOps.set(key, what);
  if (state.recentOps.size > tunable.recentOpsMax) {
    for (const oldest of state.recentOps.keys()) {
      state.recentOps.delete(oldest);
      break;
    }
  }
  return true;
}
