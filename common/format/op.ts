/**
 * One operation on a block: what changed after its records were written. The encoding of an operation depends on no
 * file and no offset, so the same bytes are logged by every replica and sent between them.
 *
 * | at | field |
 * |---|---|
 * | 0 | type u8 · 0 u8 · 0 u16 |
 * | 4 | version: epoch u48 · n u16 |
 * | 12 | seq u32 |
 * | 16 | at, ms since 1970, f64 |
 * | 24 | op id 16 B |
 * | 40 | by type, see {@link encodeFields} |
 */

import { assert } from '../errors.ts';
import type { ServerId, Slot, Version } from '../ids.ts';
import { type Cookie, compareVersions, type Epoch, type FileId, isAlias, SLOT_MAX } from '../ids.ts';
import { REPLICAS_MAX } from '../limits.ts';
import { type Decoded, decoded, rejected } from './decoded.ts';
import { decodeOpsState, encodeOpsState } from './ops-snapshot.ts';
import type { OpsState } from './ops-state.ts';

/** Numbers are part of the format. */
export const OpType = {
  /** Everything up to its seq, folded: the first operation of a rewritten log. */
  SNAPSHOT: 1,
  /** A new configuration of the block; its version is the operation's own. */
  CFG: 2,
  DELETE: 3,
  UNDELETE: 4,
  HIDE: 5,
  REVEAL: 6,
  /** A second name for the payload of a slot. */
  ALIAS: 7,
  /** The payloads of these slots are about to go; nothing may name them from now on. */
  PURGE_INTENT: 8,
  /** No record is appended any more: length, slots and digest are final. */
  SEAL: 9,
  /** The next generation of the file is in place. */
  GEN_COMMIT: 10,
} as const;
export type OpType = (typeof OpType)[keyof typeof OpType];

export const opTypeName = (type: number): string =>
  Object.entries(OpType).find(([, value]) => value === type)?.[0] ?? `op type ${type}`;

/** Where an operation stands in the order of its block's operations. */
export type OpPlace = Pick<OpBase, 'version' | 'seq'>;

export interface OpBase {
  /** Of the configuration it was sequenced in. */
  readonly version: Version;
  /** 1, 2, 3 … in the block's log. */
  readonly seq: number;
  readonly atMs: number;
  /** 16 bytes; zeros where no client asked for it. Of a decoded operation a view of the input. */
  readonly opId: Buffer;
}

export interface Configuration {
  readonly members: readonly ServerId[];
  /** The one member that gives operations their order. */
  readonly opsPrimary: ServerId;
}

export interface SealFacts {
  readonly length: number;
  readonly slots: number;
  /** 32 bytes. */
  readonly digest: Buffer;
  /** Of the NameServer that decided it. */
  readonly epoch: Epoch;
  /** Known to be on every member: names may have been given out on the strength of it. Absent where it is not. */
  readonly complete?: true;
  /** Records that verified on no replica when it was decided, up to {@link LOST_RECORDS_MAX}. Absent for none. */
  readonly lost?: number;
}

export interface GenerationFacts {
  readonly generation: number;
  readonly length: number;
  readonly slots: number;
  /** Of the NameServer that decided it. */
  readonly epoch: Epoch;
  /** 32 bytes. */
  readonly digest: Buffer;
}

export type MutationType =
  | typeof OpType.DELETE
  | typeof OpType.UNDELETE
  | typeof OpType.HIDE
  | typeof OpType.REVEAL;

export interface SnapshotOp extends OpBase {
  readonly type: typeof OpType.SNAPSHOT;
  readonly state: OpsState;
}
export interface CfgOp extends OpBase, Configuration {
  readonly type: typeof OpType.CFG;
}
export interface MutationOp extends OpBase {
  readonly type: MutationType;
  readonly fileId: FileId;
}
export interface AliasOp extends OpBase {
  readonly type: typeof OpType.ALIAS;
  readonly aliasId: FileId;
  readonly cookie: Cookie;
  readonly target: Slot;
}
export interface PurgeIntentOp extends OpBase {
  readonly type: typeof OpType.PURGE_INTENT;
  readonly slots: readonly Slot[];
}
export interface SealOp extends OpBase, SealFacts {
  readonly type: typeof OpType.SEAL;
}
export interface GenCommitOp extends OpBase, GenerationFacts {
  readonly type: typeof OpType.GEN_COMMIT;
}
export type Op = SnapshotOp | CfgOp | MutationOp | AliasOp | PurgeIntentOp | SealOp | GenCommitOp;

type Content<T> = T extends Op ? Omit<T, keyof OpBase> : never;
/** An operation before it was given its place: `{ ...content, version, seq, atMs, opId }` is an {@link Op}. */
export type OpContent = Content<Op>;

export const OP_BODY_BYTES_MIN = 40;
const FIELDS_AT = OP_BODY_BYTES_MIN;
export const NO_OP_ID: Buffer = Buffer.alloc(16);

/** The one order of a block's operations. */
export const compareOps = (a: OpPlace, b: OpPlace): number =>
  compareVersions(a.version, b.version) || a.seq - b.seq;

export function encodeOpBody(op: Op): Buffer {
  assert(op.opId.length === 16, 'an op id is 16 bytes');
  const fields = encodeFields(op);
  const out = Buffer.alloc(FIELDS_AT + fields.length);
  out[0] = op.type;
  out.writeUIntLE(op.version.epoch, 4, 6);
  out.writeUInt16LE(op.version.n, 10);
  out.writeUInt32LE(op.seq, 12);
  out.writeDoubleLE(op.atMs, 16);
  op.opId.copy(out, 24);
  fields.copy(out, FIELDS_AT);
  return out;
}

/** @param b exactly one body */
export function decodeOpBody(b: Buffer): Decoded<Op> {
  if (b.length < OP_BODY_BYTES_MIN) return rejected(`operation is cut: ${b.length} bytes`);
  if (b[1] !== 0 || b.readUInt16LE(2) !== 0) return rejected('operation has unknown flags');
  const base: OpBase = {
    version: { epoch: b.readUIntLE(4, 6) as Epoch, n: b.readUInt16LE(10) },
    seq: b.readUInt32LE(12),
    atMs: b.readDoubleLE(16),
    opId: b.subarray(24, 40),
  };
  return decodeFields(b[0]!, base, b.subarray(FIELDS_AT));
}

/**
 * SNAPSHOT: see ops-snapshot.ts · CFG: opsPrimary u16, n u8, 0 u8, n × server u16 · DELETE, UNDELETE, HIDE, REVEAL:
 * file id u32 · ALIAS: alias id u32, cookie u32, target slot u32 · PURGE_INTENT: n u32, n × slot u32 · SEAL: length
 * u32, slots u32, epoch u48, lost records u15 and complete u1, digest 32 B · GEN_COMMIT: generation u32, length u32,
 * slots u32, epoch u48, 0 u16, digest 32 B.
 */
function encodeFields(op: Op): Buffer {
  switch (op.type) {
    case OpType.SNAPSHOT:
      return encodeOpsState(op.state);
    case OpType.CFG:
      return encodeConfiguration(op);
    case OpType.DELETE:
    case OpType.UNDELETE:
    case OpType.HIDE:
    case OpType.REVEAL:
      return u32s([op.fileId]);
    case OpType.ALIAS:
      assert(isAlias(op.aliasId) && op.target <= SLOT_MAX, 'an alias names a slot');
      return u32s([op.aliasId, op.cookie, op.target]);
    case OpType.PURGE_INTENT:
      return u32s([op.slots.length, ...op.slots]);
    case OpType.SEAL:
      return encodeSealFacts(op);
    case OpType.GEN_COMMIT:
      return encodeGenerationFacts(op);
  }
}

function decodeFields(type: number, base: OpBase, b: Buffer): Decoded<Op> {
  switch (type) {
    case OpType.SNAPSHOT: {
      const state = decodeOpsState(b, base);
      return state.ok ? decoded({ ...base, type, state: state.value }) : state;
    }
    case OpType.CFG: {
      const configuration = decodeConfiguration(b);
      return configuration === undefined
        ? rejected('configuration is malformed')
        : decoded({ ...base, type, ...configuration });
    }
    case OpType.DELETE:
    case OpType.UNDELETE:
    case OpType.HIDE:
    case OpType.REVEAL: {
      if (b.length !== 4) return rejected('mutation has a wrong length');
      const fileId = b.readUInt32LE(0) as FileId;
      if (!isAlias(fileId) && fileId > SLOT_MAX) return rejected(`mutation of file id ${fileId}`);
      return decoded({ ...base, type, fileId });
    }
    case OpType.ALIAS: {
      if (b.length !== 12) return rejected('alias has a wrong length');
      const aliasId = b.readUInt32LE(0) as FileId;
      const target = b.readUInt32LE(8) as Slot;
      if (!isAlias(aliasId) || target > SLOT_MAX) return rejected('alias of no slot');
      return decoded({ ...base, type, aliasId, cookie: b.readUInt32LE(4) as Cookie, target });
    }
    case OpType.PURGE_INTENT: {
      if (b.length < 4 || b.length !== 4 + 4 * b.readUInt32LE(0)) return rejected('purge list is cut');
      const slots: Slot[] = [];
      for (let at = 4; at < b.length; at += 4) slots.push(b.readUInt32LE(at) as Slot);
      return slots.every((slot) => slot <= SLOT_MAX)
        ? decoded({ ...base, type, slots })
        : rejected('purge of no slot');
    }
    case OpType.SEAL:
      return b.length === SEAL_BYTES
        ? decoded({ ...base, type, ...decodeSealFacts(b) })
        : rejected('seal has a wrong length');
    case OpType.GEN_COMMIT:
      return b.length === GENERATION_BYTES
        ? decoded({ ...base, type, ...decodeGenerationFacts(b) })
        : rejected('generation commit has a wrong length');
    default:
      return rejected(`unknown operation type ${type}`);
  }
}

export function encodeConfiguration(c: Configuration): Buffer {
  assert(c.members.length <= REPLICAS_MAX, 'a block has a bounded number of members');
  const out = Buffer.alloc(4 + 2 * c.members.length);
  out.writeUInt16LE(c.opsPrimary, 0);
  out[2] = c.members.length;
  c.members.forEach((member, i) => {
    out.writeUInt16LE(member, 4 + 2 * i);
  });
  return out;
}

/** @param b exactly one configuration */
export function decodeConfiguration(b: Buffer): Configuration | undefined {
  if (b.length < 4 || b[2]! > REPLICAS_MAX || b.length !== 4 + 2 * b[2]!) return undefined;
  const members: ServerId[] = [];
  for (let at = 4; at < b.length; at += 2) members.push(b.readUInt16LE(at) as ServerId);
  const opsPrimary = b.readUInt16LE(0) as ServerId;
  return opsPrimary === 0 || members.includes(0 as ServerId) ? undefined : { members, opsPrimary };
}

export const SEAL_BYTES = 48;
/** A count of that many stands for any larger one too. */
export const LOST_RECORDS_MAX = 0x7fff;
const COMPLETE_BIT = 0x8000;

export function encodeSealFacts(s: SealFacts): Buffer {
  assert(s.digest.length === 32, 'a digest is 32 bytes');
  const out = Buffer.alloc(SEAL_BYTES);
  out.writeUInt32LE(s.length, 0);
  out.writeUInt32LE(s.slots, 4);
  out.writeUIntLE(s.epoch, 8, 6);
  out.writeUInt16LE(Math.min(s.lost ?? 0, LOST_RECORDS_MAX) | (s.complete ? COMPLETE_BIT : 0), 14);
  s.digest.copy(out, 16);
  return out;
}

export function decodeSealFacts(b: Buffer): SealFacts {
  const marks = b.readUInt16LE(14);
  const lost = marks & LOST_RECORDS_MAX;
  return {
    length: b.readUInt32LE(0),
    slots: b.readUInt32LE(4),
    epoch: b.readUIntLE(8, 6) as Epoch,
    digest: Buffer.from(b.subarray(16, 48)),
    ...((marks & COMPLETE_BIT) !== 0 ? { complete: true } : {}),
    ...(lost > 0 ? { lost } : {}),
  };
}

export const GENERATION_BYTES = 52;
export function encodeGenerationFacts(g: GenerationFacts): Buffer {
  assert(g.digest.length === 32, 'a digest is 32 bytes');
  const epoch = Buffer.alloc(8);
  epoch.writeUIntLE(g.epoch, 0, 6);
  return Buffer.concat([u32s([g.generation, g.length, g.slots]), epoch, g.digest]);
}

export function decodeGenerationFacts(b: Buffer): GenerationFacts {
  return {
    generation: b.readUInt32LE(0),
    length: b.readUInt32LE(4),
    slots: b.readUInt32LE(8),
    epoch: b.readUIntLE(12, 6) as Epoch,
    digest: Buffer.from(b.subarray(20, 52)),
  };
}

function u32s(values: readonly number[]): Buffer {
  const out = Buffer.allocUnsafe(4 * values.length);
  for (let i = 0; i < values.length; i++) out.writeUInt32LE(values[i]!, 4 * i);
  return out;
}
