/**
 * What the operations of a block add up to. Most blocks have a configuration, perhaps a seal, and nothing else, and
 * there are tens of thousands of blocks on a disk: everything else takes no memory until there is some.
 */

import type { Cookie, FileId, Slot, Version } from '../ids.ts';
import { isAlias, SLOT_MAX } from '../ids.ts';
import { ALIASES_PER_BLOCK_MAX, RECENT_OPS_MAX, REPLICAS_MAX } from '../limits.ts';
import { NameFlag } from '../wire/messages.ts';
import { AliasTable } from './alias-table.ts';
import { type Decoded, decoded, rejected } from './decoded.ts';
import {
  type Configuration,
  compareOps,
  decodeConfiguration,
  decodeGenerationFacts,
  decodeSealFacts,
  encodeConfiguration,
  encodeGenerationFacts,
  encodeSealFacts,
  GENERATION_BYTES,
  type GenCommitOp,
  type GenerationFacts,
  type MutationType,
  type Op,
  OpType,
  SEAL_BYTES,
  type SealFacts,
  type SealOp,
} from './op.ts';

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
  /** The one of the newest epoch. */
  seal: SealFacts | undefined;
  /** The newest. */
  generation: GenerationFacts | undefined;
  /** Bits of NameFlag by slot; slots beyond its end have none. */
  slotFlags: Uint8Array;
  aliases: AliasTable | undefined;
  /** Op id in hex -> what it did, oldest first, of the last {@link RECENT_OPS_MAX} client operations. */
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
  recentOps: undefined,
});

/** Adds one operation to a state, in place. Depends on nothing else, so that every replica gets the same. */
export function foldOp(state: OpsState, op: Op): FoldResult {
  if (op.type === OpType.SEAL || op.type === OpType.GEN_COMMIT) return foldFact(state, op);
  if (compareOps(op, state) <= 0) return 'old';
  if (op.type === OpType.SNAPSHOT) {
    // Facts stand outside the sequence: a snapshot from another replica must not undo those of this one.
    const { seal, generation } = state;
    Object.assign(state, cloneOpsState(op.state));
    if (seal !== undefined && (state.seal === undefined || seal.epoch > state.seal.epoch)) state.seal = seal;
    if (generation !== undefined && generation.generation > (state.generation?.generation ?? -1))
      state.generation = generation;
    return 'applied';
  }
  state.version = op.version;
  state.seq = op.seq;
  switch (op.type) {
    case OpType.CFG:
      state.cfg = { members: op.members, opsPrimary: op.opsPrimary };
      return 'applied';
    case OpType.PURGE_INTENT:
      for (const slot of op.slots) setSlotFlags(state, slot, slotFlagsOf(state, slot) | NameFlag.PURGED);
      return 'applied';
    case OpType.ALIAS:
      if (!remember(state, op.opId, { type: op.type, fileId: op.aliasId })) return 'duplicate';
      // An alias never lands on purged bytes, whatever a merge has put before it.
      if ((slotFlagsOf(state, op.target) & NameFlag.PURGED) === 0) {
        state.aliases ??= new AliasTable();
        state.aliases.insert(op.aliasId, op.cookie, op.target);
      }
      return 'applied';
    default:
      if (!remember(state, op.opId, { type: op.type, fileId: op.fileId })) return 'duplicate';
      mutate(state, op.type, op.fileId);
      return 'applied';
  }
}

/**
 * SEAL and GEN_COMMIT are facts that a NameServer tells each replica by itself, at whatever point of its log: they have
 * no place in the sequence, take no seq from it, and carry the one before them only for people who read a dump.
 */
function foldFact(state: OpsState, op: SealOp | GenCommitOp): FoldResult {
  if (op.type === OpType.SEAL) {
    if (state.seal !== undefined && op.epoch < state.seal.epoch) return 'old';
    state.seal = { length: op.length, slots: op.slots, digest: Buffer.from(op.digest), epoch: op.epoch };
    return 'applied';
  }
  if (state.generation !== undefined && op.generation <= state.generation.generation) return 'old';
  state.generation = {
    generation: op.generation,
    length: op.length,
    slots: op.slots,
    digest: Buffer.from(op.digest),
  };
  return 'applied';
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
    recentOps: state.recentOps && new Map(state.recentOps),
  };
}

function mutate(state: OpsState, type: MutationType, fileId: FileId): void {
  const before = nameFlagsOf(state, fileId);
  if (before === undefined) return;
  const after = mutated(before, type);
  if (after === before) return;
  if (!isAlias(fileId)) {
    setSlotFlags(state, fileId as number as Slot, after);
    return;
  }
  const aliases = state.aliases!;
  aliases.setFlagsAt(aliases.find(fileId), after & ~NameFlag.PURGED);
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

function setSlotFlags(state: OpsState, slot: Slot, nameFlags: number): void {
  if (slot >= state.slotFlags.length) {
    const grown = new Uint8Array(Math.min(SLOT_MAX + 1, Math.max(64, slot + 1 + (slot >>> 2))));
    grown.set(state.slotFlags);
    state.slotFlags = grown;
  }
  state.slotFlags[slot] = nameFlags;
}

/** @returns false for an op id that is there already; the zero id is nobody's */
function remember(state: OpsState, opId: Buffer, what: RecentOp): boolean {
  const key = opId.toString('hex');
  if (/^0+$/.test(key)) return true;
  state.recentOps ??= new Map();
  if (state.recentOps.has(key)) return false;
  state.recentOps.set(key, what);
  if (state.recentOps.size > RECENT_OPS_MAX) {
    for (const oldest of state.recentOps.keys()) {
      state.recentOps.delete(oldest);
      break;
    }
  }
  return true;
}

/**
 * The fields of a SNAPSHOT: configuration length u8 (0: none) · has seal u8 · has generation u8 · 0 u8 · then those
 * that are there, then flagged slots n u32, n × {slot u32, flags u8} · aliases n u32, n × {id u32, cookie u32, target
 * u32, flags u8} in id order · recent ops n u32, n × {op id 16 B, type u8, file id u32}, oldest first.
 */
export function encodeOpsState(state: OpsState): Buffer {
  const cfg = state.cfg ? encodeConfiguration(state.cfg) : Buffer.alloc(0);
  const parts = [
    Buffer.from([cfg.length, state.seal ? 1 : 0, state.generation ? 1 : 0, 0]),
    cfg,
    ...(state.seal ? [encodeSealFacts(state.seal)] : []),
    ...(state.generation ? [encodeGenerationFacts(state.generation)] : []),
    encodeSlotFlags(state.slotFlags),
    encodeAliases(state.aliases),
    encodeRecent(state.recentOps),
  ];
  return Buffer.concat(parts);
}

/** @param version and seq of the SNAPSHOT operation that carries it */
export function decodeOpsState(b: Buffer, version: Version, seq: number): Decoded<OpsState> {
  const state = emptyOpsState();
  state.version = version;
  state.seq = seq;
  const cut = rejected('snapshot is cut');
  if (b.length < 4) return cut;
  const cfgBytes = b[0]!;
  let at = 4;
  const have = (bytes: number): boolean => b.length - at >= bytes;
  if (cfgBytes > 4 + 2 * REPLICAS_MAX || !have(cfgBytes)) return cut;
  if (cfgBytes > 0) {
    state.cfg = decodeConfiguration(b.subarray(at, at + cfgBytes));
    if (state.cfg === undefined) return rejected('snapshot: configuration is malformed');
    at += cfgBytes;
  }
  if (b[1] === 1) {
    if (!have(SEAL_BYTES)) return cut;
    state.seal = decodeSealFacts(b.subarray(at, at + SEAL_BYTES));
    at += SEAL_BYTES;
  }
  if (b[2] === 1) {
    if (!have(GENERATION_BYTES)) return cut;
    state.generation = decodeGenerationFacts(b.subarray(at, at + GENERATION_BYTES));
    at += GENERATION_BYTES;
  }
  const rows = (rowBytes: number, countMax: number): number => {
    if (!have(4)) return -1;
    const count = b.readUInt32LE(at);
    at += 4;
    return count <= countMax && have(count * rowBytes) ? count : -1;
  };

  const flagged = rows(5, SLOT_MAX + 1);
  if (flagged < 0) return cut;
  for (let i = 0; i < flagged; i++, at += 5) {
    const slot = b.readUInt32LE(at);
    if (slot > SLOT_MAX) return rejected('snapshot: flags of no slot');
    setSlotFlags(state, slot as Slot, b[at + 4]!);
  }
  const aliases = rows(13, ALIASES_PER_BLOCK_MAX);
  if (aliases < 0) return cut;
  if (aliases > 0) state.aliases = new AliasTable();
  for (let i = 0; i < aliases; i++, at += 13) {
    const id = b.readUInt32LE(at) as FileId;
    const target = b.readUInt32LE(at + 8) as Slot;
    if (!isAlias(id) || target > SLOT_MAX) return rejected('snapshot: alias of no slot');
    state.aliases!.insert(id, b.readUInt32LE(at + 4) as Cookie, target, b[at + 12]!);
  }
  const recent = rows(21, RECENT_OPS_MAX);
  if (recent < 0) return cut;
  for (let i = 0; i < recent; i++, at += 21) {
    const type = b[at + 16] as RecentOp['type'];
    if (type < OpType.DELETE || type > OpType.ALIAS) return rejected('snapshot: recent op of unknown type');
    remember(state, b.subarray(at, at + 16), { type, fileId: b.readUInt32LE(at + 17) as FileId });
  }
  return at === b.length ? decoded(state) : rejected('snapshot has bytes behind its end');
}

function encodeSlotFlags(flags: Uint8Array): Buffer {
  let count = 0;
  for (const value of flags) if (value !== 0) count++;
  const out = Buffer.allocUnsafe(4 + 5 * count);
  out.writeUInt32LE(count, 0);
  let at = 4;
  for (let slot = 0; slot < flags.length; slot++) {
    if (flags[slot] === 0) continue;
    out.writeUInt32LE(slot, at);
    out[at + 4] = flags[slot]!;
    at += 5;
  }
  return out;
}

function encodeAliases(aliases: AliasTable | undefined): Buffer {
  const count = aliases?.count ?? 0;
  const out = Buffer.allocUnsafe(4 + 13 * count);
  out.writeUInt32LE(count, 0);
  if (aliases === undefined) return out;
  for (let i = 0, at = 4; i < count; i++, at += 13) {
    out.writeUInt32LE(aliases.idAt(i), at);
    out.writeUInt32LE(aliases.cookieAt(i), at + 4);
    out.writeUInt32LE(aliases.targetAt(i), at + 8);
    out[at + 12] = aliases.flagsAt(i);
  }
  return out;
}

function encodeRecent(recent: OpsState['recentOps']): Buffer {
  const count = recent?.size ?? 0;
  const out = Buffer.allocUnsafe(4 + 21 * count);
  out.writeUInt32LE(count, 0);
  let at = 4;
  for (const [opId, op] of recent ?? []) {
    out.write(opId, at, 'hex');
    out[at + 16] = op.type;
    out.writeUInt32LE(op.fileId, at + 17);
    at += 21;
  }
  return out;
}
