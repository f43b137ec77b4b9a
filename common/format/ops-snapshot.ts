import { type Cookie, type FileId, isAlias, SLOT_MAX, type Slot } from '../ids.ts';
import { ALIASES_PER_BLOCK_MAX, RECENT_OPS_MAX, REPLICAS_MAX } from '../limits.ts';
import { NameFlag } from '../wire/messages.ts';
import { AliasTable } from './alias-table.ts';
import { type Decoded, decoded, rejected } from './decoded.ts';
import {
  decodeConfiguration,
  decodeGenerationFacts,
  decodeSealFacts,
  encodeConfiguration,
  encodeGenerationFacts,
  encodeSealFacts,
  GENERATION_BYTES,
  type OpBase,
  OpType,
  SEAL_BYTES,
} from './op.ts';
import {
  emptyOpsState,
  nameFlagsOf,
  noteDeletion,
  type OpsState,
  type RecentOp,
  remember,
  setSlotFlags,
} from './ops-state.ts';

/**
 * The fields of a SNAPSHOT: configuration length u8 (0: none) · has seal u8 · has generation u8 · has delete times u8 ·
 * then the first three of those that are there, then flagged slots n u32, n × {slot u32, flags u8} · aliases n u32, n ×
 * {id u32, cookie u32, target u32, flags u8} in id order · recent ops n u32, n × {op id 16 B, type u8, file id u32},
 * oldest first · where there are delete times, n u32, n × {file id u32, seconds since 1970 u32}.
 */
export function encodeOpsState(state: OpsState): Buffer {
  const cfg = state.cfg ? encodeConfiguration(state.cfg) : Buffer.alloc(0);
  const times = encodeDeletions(state.deletions);
  const parts = [
    Buffer.from([cfg.length, state.seal ? 1 : 0, state.generation ? 1 : 0, times.length > 0 ? 1 : 0]),
    cfg,
    ...(state.seal ? [encodeSealFacts(state.seal)] : []),
    ...(state.generation ? [encodeGenerationFacts(state.generation)] : []),
    encodeSlotFlags(state.slotFlags),
    encodeAliases(state.aliases),
    encodeRecent(state.recentOps),
    times,
  ];
  return Buffer.concat(parts);
}

/** @param carrier the SNAPSHOT operation that carries it */
export function decodeOpsState(
  b: Buffer,
  carrier: Pick<OpBase, 'version' | 'seq' | 'atMs'>,
): Decoded<OpsState> {
  const state = emptyOpsState();
  state.version = carrier.version;
  state.seq = carrier.seq;
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
  if (b[3] === 0) noteAll(state, carrier.atMs);
  else if (b[3] !== 1) return rejected(`snapshot of kind ${b[3]}`);
  else {
    const deletions = rows(8, SLOT_MAX + 1 + ALIASES_PER_BLOCK_MAX);
    if (deletions < 0) return cut;
    for (let i = 0; i < deletions; i++, at += 8) {
      const id = b.readUInt32LE(at) as FileId;
      if (!isDeletedNow(state, id)) return rejected('snapshot: delete time of a name that is not deleted');
      noteDeletion(state, id, b.readUInt32LE(at + 4) * 1000);
    }
  }
  return at === b.length ? decoded(state) : rejected('snapshot has bytes behind its end');
}

/** One of before there were delete times: everything deleted in it was so by then. */
function noteAll(state: OpsState, atMs: number): void {
  const { slotFlags, aliases } = state;
  for (let slot = 0; slot < slotFlags.length; slot++)
    if (isDeletedNow(state, slot as FileId)) noteDeletion(state, slot as FileId, atMs);
  for (let i = 0; i < (aliases?.count ?? 0); i++)
    if (isDeletedNow(state, aliases!.idAt(i))) noteDeletion(state, aliases!.idAt(i), atMs);
}

function isDeletedNow(state: OpsState, fileId: FileId): boolean {
  const flags = nameFlagsOf(state, fileId) ?? 0;
  return (flags & (NameFlag.DELETED | NameFlag.PURGED)) === NameFlag.DELETED;
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

function encodeDeletions(deletions: OpsState['deletions']): Buffer {
  const entries = [...(deletions?.entries() ?? [])];
  if (entries.length === 0) return Buffer.alloc(0);
  const out = Buffer.allocUnsafe(4 + 8 * entries.length);
  out.writeUInt32LE(entries.length, 0);
  entries.forEach(([fileId, seconds], i) => {
    out.writeUInt32LE(fileId, 4 + 8 * i);
    out.writeUInt32LE(seconds, 8 + 8 * i);
  });
  return out;
}
