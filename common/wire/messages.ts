/**
 * What the servers say to each other. A message is an operation number, a small header and, for some, a payload of
 * raw bytes. Headers of the data plane (a message for every picture) are fixed binary layouts, little-endian;
 * headers of the control plane (rare) are JSON checked by zod in `control.ts`.
 */

import { assert, TfsError } from '../errors.ts';
import {
  type BlockId,
  blockId,
  type Cookie,
  cookieOf,
  type Epoch,
  epochOf,
  type FileId,
  fileId,
  type ServerId,
  type Session,
  serverId,
  sessionOf,
  type Version,
} from '../ids.ts';
import { CHUNK_BYTES, REPLICAS_MAX } from '../limits.ts';

export const Op = {
  // gateway -> DataServer
  PUT: 1,
  READ: 2,
  CHECK: 3,
  MUTATE: 4,
  CHANGES: 80,
  // DataServer -> DataServer
  APPEND: 5,
  OPS: 6,
  CREATE_BLOCK: 24,
  READ_RAW: 27,
  OPS_TAIL: 28,
  CAN_ORDER: 49,
  PREPARE_OPS: 35,
  INSTALL_OPS: 36,
  BLOCK_HEAD: 41,
  // gateway -> NameServer
  LOCATE: 7,
  CLUSTER_MAP: 22,
  SERVER_FIGURES: 47,
  // DataServer -> NameServer
  REGISTER: 17,
  HEARTBEAT: 18,
  REPORT: 19,
  OPEN_BLOCK: 20,
  END_SESSION: 21,
  REQUEST_CFG: 37,
  TAKE_JOB: 50,
  END_JOB: 51,
  // NameServer -> DataServer
  FENCE: 25,
  SEAL: 26,
  SYNC_OPS: 29,
  PROMISE: 33,
  CONFIGURE: 34,
  REPAIR: 38,
  BLOCK_DIGESTS: 46,
  DROP: 60,
  PURGE: 70,
  PREPARE_GENERATION: 71,
  COMMIT_GENERATION: 72,
  ABANDON_GENERATION: 73,
  CLEAR_TRACES: 75,
  // NameServer -> NameServer
  PEER_STATE: 31,
  HAND_OVER: 32,
  SERVERS_REMOVED: 44,
  SERVERS_DRAINED: 62,
  // operator -> NameServer
  PROMOTE: 40,
  REMOVE_SERVER: 43,
  COMPACT: 74,
  ERASE_RECORDS: 76,
  CLEAR_ALL_TRACES: 77,
  JOBS: 52,
  PLAN: 53,
  WHY: 54,
  PAUSE_JOBS: 55,
  DRAIN_SERVER: 61,
  // operator -> DataServer
  LIST_BLOCKS: 42,
  VERIFY: 39,
  SCRUB: 45,
  BLOCK_SPACE: 48,
  FIND_CONTENT: 78,
  // anyone -> anyone
  PING: 16,
  STATUS: 30,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

export const opName = (op: number): string =>
  Object.entries(Op).find(([, value]) => value === op)?.[0] ?? `op ${op}`;

/** What a stored payload is, decided from its bytes by the gateway. Numbers are part of the record format. */
export const MediaType = {
  UNKNOWN: 0,
  JPEG: 1,
  PNG: 2,
  GIF: 3,
  WEBP: 4,
  AVIF: 5,
  TIFF: 6,
  BMP: 7,
  SVG: 8,
  HEIC: 9,
  JXL: 10,
  ICO: 11,
} as const;
export type MediaType = (typeof MediaType)[keyof typeof MediaType];

/** Bit of a stored media type: the picture is served to those alone who show a signature for it. */
export const PRIVATE_BIT = 0x80;
/** @param mediaType as stored */
export const isPrivate = (mediaType: number): boolean => (mediaType & PRIVATE_BIT) !== 0;
/** What it is, without the bit that says for whom. @param mediaType as stored; numbers this version does not know come through */
export const kindOf = (mediaType: number): MediaType => (mediaType & ~PRIVATE_BIT) as MediaType;

/** State bits of a name; independent of each other. */
export const NameFlag = { DELETED: 1, HIDDEN: 2, PURGED: 4, LOST: 8 } as const;

const EMPTY = Buffer.alloc(0);
const NO_CHUNKS = new Uint32Array(0);

// ---------------------------------------------------------------- PUT

/** opId 16 · sha1 20 · size u32 · dataCrc u32 · suffixHash u32 · mediaType u16 · flags u16 · chunk CRCs u32 each */
export interface PutRequest {
  readonly opId: Buffer;
  readonly sha1: Buffer;
  readonly size: number;
  readonly dataCrc: number;
  readonly suffixHash: number;
  readonly mediaType: number;
  /** Store a payload of its own even where the same bytes are there already. */
  readonly noDedup: boolean;
  /** One CRC-32 for every {@link CHUNK_BYTES} of a payload larger than one chunk, else empty. */
  readonly chunkCrcs: Uint32Array;
}
const PUT_BYTES = 52;

export const chunkCount = (size: number): number => (size > CHUNK_BYTES ? Math.ceil(size / CHUNK_BYTES) : 0);

export function encodePut(m: PutRequest): Buffer {
  const out = Buffer.allocUnsafe(PUT_BYTES + 4 * m.chunkCrcs.length);
  assert(m.opId.length === 16 && m.sha1.length === 20, 'opId and sha1 have their lengths');
  m.opId.copy(out, 0);
  m.sha1.copy(out, 16);
  out.writeUInt32LE(m.size, 36);
  out.writeUInt32LE(m.dataCrc, 40);
  out.writeUInt32LE(m.suffixHash, 44);
  out.writeUInt16LE(m.mediaType, 48);
  out.writeUInt16LE(m.noDedup ? 1 : 0, 50);
  for (let i = 0; i < m.chunkCrcs.length; i++) out.writeUInt32LE(m.chunkCrcs[i]!, PUT_BYTES + 4 * i);
  return out;
}

export function decodePut(b: Buffer): PutRequest {
  need(b, PUT_BYTES, 'PUT');
  const size = b.readUInt32LE(36);
  const chunks = chunkCount(size);
  exactly(b, PUT_BYTES + 4 * chunks, 'PUT');
  let chunkCrcs = NO_CHUNKS;
  if (chunks > 0) {
    chunkCrcs = new Uint32Array(chunks);
    for (let i = 0; i < chunks; i++) chunkCrcs[i] = b.readUInt32LE(PUT_BYTES + 4 * i);
  }
  return {
    opId: b.subarray(0, 16),
    sha1: b.subarray(16, 36),
    size,
    dataCrc: b.readUInt32LE(40),
    suffixHash: b.readUInt32LE(44),
    mediaType: b.readUInt16LE(48),
    noDedup: (b.readUInt16LE(50) & 1) !== 0,
    chunkCrcs,
  };
}

/** block u32 · fileId u32 · cookie u32 · mtimeMs f64 · deduplicated u8 · replayed u8 · target replicas u8 · n u8 · members u16 each */
export interface PutReply {
  readonly block: BlockId;
  readonly fileId: FileId;
  readonly cookie: Cookie;
  readonly mtimeMs: number;
  readonly deduplicated: boolean;
  /** This opId had been stored before; nothing was written now. */
  readonly replayed: boolean;
  readonly targetReplicas: number;
  /** Where it is durable. */
  readonly members: readonly ServerId[];
}
const PUT_REPLY_BYTES = 24;

export function encodePutReply(m: PutReply): Buffer {
  const out = Buffer.allocUnsafe(PUT_REPLY_BYTES + 2 * m.members.length);
  out.writeUInt32LE(m.block, 0);
  out.writeUInt32LE(m.fileId, 4);
  out.writeUInt32LE(m.cookie, 8);
  out.writeDoubleLE(m.mtimeMs, 12);
  out[20] = m.deduplicated ? 1 : 0;
  out[21] = m.replayed ? 1 : 0;
  out[22] = m.targetReplicas;
  putMembers(out, 23, m.members);
  return out;
}

export function decodePutReply(b: Buffer): PutReply {
  need(b, PUT_REPLY_BYTES, 'PUT reply');
  return {
    block: blockId(b.readUInt32LE(0)),
    fileId: fileId(b.readUInt32LE(4)),
    cookie: cookieOf(b.readUInt32LE(8)),
    mtimeMs: b.readDoubleLE(12),
    deduplicated: b[20] === 1,
    replayed: b[21] === 1,
    targetReplicas: b[22]!,
    members: takeMembers(b, 23, 'PUT reply'),
  };
}

// ---------------------------------------------------------------- READ

/** block u32 · fileId u32 · cookie u32 · offset u32 · length u32 · flags u8 */
export interface ReadRequest {
  readonly block: BlockId;
  readonly fileId: FileId;
  readonly cookie: Cookie;
  /** First payload byte wanted. At or beyond the end: an empty answer with the metadata. */
  readonly offset: number;
  /** Payload bytes wanted, cut at the end of the payload; 0 asks for the metadata alone. */
  readonly length: number;
  /** Answer for deleted and hidden names too (a caller with a token). */
  readonly force: boolean;
}
export const READ_TO_END = 0xffff_ffff;
const READ_BYTES = 21;

export function encodeRead(m: ReadRequest): Buffer {
  const out = Buffer.allocUnsafe(READ_BYTES);
  out.writeUInt32LE(m.block, 0);
  out.writeUInt32LE(m.fileId, 4);
  out.writeUInt32LE(m.cookie, 8);
  out.writeUInt32LE(m.offset, 12);
  out.writeUInt32LE(m.length, 16);
  out[20] = m.force ? 1 : 0;
  return out;
}

export function decodeRead(b: Buffer): ReadRequest {
  exactly(b, READ_BYTES, 'READ');
  return {
    block: blockId(b.readUInt32LE(0)),
    fileId: fileId(b.readUInt32LE(4)),
    cookie: cookieOf(b.readUInt32LE(8)),
    offset: b.readUInt32LE(12),
    length: b.readUInt32LE(16),
    force: (b[20]! & 1) !== 0,
  };
}

/**
 * size u32 · dataCrc u32 · suffixHash u32 · payloadCrc u32 · offset u32 · mtimeMs f64 · mediaType u16 · nameFlags u8 ·
 * flags u8 (1 provisional, 2 alias) · sha1 20. The payload follows: exactly the bytes asked for, verified on the
 * DataServer against the CRCs of the record; `payloadCrc` is over the bytes sent, for the hop.
 */
export interface ReadReply {
  /** Of the whole payload, bytes. */
  readonly size: number;
  /** CRC-32 of the whole payload. */
  readonly dataCrc: number;
  readonly suffixHash: number;
  readonly payloadCrc: number;
  /** Where in the payload the bytes of this answer start. */
  readonly offset: number;
  readonly mtimeMs: number;
  readonly mediaType: number;
  /** Bits of {@link NameFlag}. */
  readonly nameFlags: number;
  /** The replica is not confirmed as current: use it only where no current one answers. */
  readonly provisional: boolean;
  readonly alias: boolean;
  readonly sha1: Buffer;
}
export const READ_REPLY_BYTES = 52;

export function encodeReadReply(m: ReadReply): Buffer {
  const out = Buffer.allocUnsafe(READ_REPLY_BYTES);
  out.writeUInt32LE(m.size, 0);
  out.writeUInt32LE(m.dataCrc, 4);
  out.writeUInt32LE(m.suffixHash, 8);
  out.writeUInt32LE(m.payloadCrc, 12);
  out.writeUInt32LE(m.offset, 16);
  out.writeDoubleLE(m.mtimeMs, 20);
  out.writeUInt16LE(m.mediaType, 28);
  out[30] = m.nameFlags;
  out[31] = (m.provisional ? 1 : 0) | (m.alias ? 2 : 0);
  m.sha1.copy(out, 32);
  return out;
}

export function decodeReadReply(b: Buffer): ReadReply {
  exactly(b, READ_REPLY_BYTES, 'READ reply');
  return {
    size: b.readUInt32LE(0),
    dataCrc: b.readUInt32LE(4),
    suffixHash: b.readUInt32LE(8),
    payloadCrc: b.readUInt32LE(12),
    offset: b.readUInt32LE(16),
    mtimeMs: b.readDoubleLE(20),
    mediaType: b.readUInt16LE(28),
    nameFlags: b[30]!,
    provisional: (b[31]! & 1) !== 0,
    alias: (b[31]! & 2) !== 0,
    sha1: b.subarray(32, 52),
  };
}

// ---------------------------------------------------------------- CHECK: the flags of a name, from memory alone

/** block u32 · fileId u32. The caller has verified the cookie before and holds the bytes. */
export interface CheckRequest {
  readonly block: BlockId;
  readonly fileId: FileId;
}

export function encodeCheck(m: CheckRequest): Buffer {
  const out = Buffer.allocUnsafe(8);
  out.writeUInt32LE(m.block, 0);
  out.writeUInt32LE(m.fileId, 4);
  return out;
}

export function decodeCheck(b: Buffer): CheckRequest {
  exactly(b, 8, 'CHECK');
  return { block: blockId(b.readUInt32LE(0)), fileId: fileId(b.readUInt32LE(4)) };
}

/** nameFlags u8 · flags u8 (1 provisional) */
export interface CheckReply {
  readonly nameFlags: number;
  readonly provisional: boolean;
}

export const encodeCheckReply = (m: CheckReply): Buffer => Buffer.from([m.nameFlags, m.provisional ? 1 : 0]);

export function decodeCheckReply(b: Buffer): CheckReply {
  exactly(b, 2, 'CHECK reply');
  return { nameFlags: b[0]!, provisional: (b[1]! & 1) !== 0 };
}

// ---------------------------------------------------------------- MUTATE: delete, undelete, hide, reveal

export const Mutation = { DELETE: 1, UNDELETE: 2, HIDE: 3, REVEAL: 4 } as const;
export type Mutation = (typeof Mutation)[keyof typeof Mutation];

/** block u32 · fileId u32 · cookie u32 · kind u8 · opId 16. The reply is a {@link CheckReply}. */
export interface MutateRequest {
  readonly block: BlockId;
  readonly fileId: FileId;
  readonly cookie: Cookie;
  readonly kind: Mutation;
  readonly opId: Buffer;
}

export function encodeMutate(m: MutateRequest): Buffer {
  const out = Buffer.allocUnsafe(29);
  out.writeUInt32LE(m.block, 0);
  out.writeUInt32LE(m.fileId, 4);
  out.writeUInt32LE(m.cookie, 8);
  out[12] = m.kind;
  m.opId.copy(out, 13);
  return out;
}

export function decodeMutate(b: Buffer): MutateRequest {
  exactly(b, 29, 'MUTATE');
  const kind = b[12]!;
  if (kind < Mutation.DELETE || kind > Mutation.REVEAL) throw bad(`MUTATE of unknown kind ${kind}`);
  return {
    block: blockId(b.readUInt32LE(0)),
    fileId: fileId(b.readUInt32LE(4)),
    cookie: cookieOf(b.readUInt32LE(8)),
    kind: kind as Mutation,
    opId: b.subarray(13, 29),
  };
}

// ---------------------------------------------------------------- APPEND: one batch of records to a member

/** block u32 · session u32 · offset u32 · acked u32; the payload is whole records, the same bytes on every replica. */
export interface AppendRequest {
  readonly block: BlockId;
  readonly session: Session;
  /** Where in the block the batch goes: must be the member's length. */
  readonly offset: number;
  /** The primary's acked length when it sent the batch. */
  readonly ackedLength: number;
}

export function encodeAppend(m: AppendRequest): Buffer {
  const out = Buffer.allocUnsafe(16);
  out.writeUInt32LE(m.block, 0);
  out.writeUInt32LE(m.session, 4);
  out.writeUInt32LE(m.offset, 8);
  out.writeUInt32LE(m.ackedLength, 12);
  return out;
}

export function decodeAppend(b: Buffer): AppendRequest {
  exactly(b, 16, 'APPEND');
  return {
    block: blockId(b.readUInt32LE(0)),
    session: sessionOf(b.readUInt32LE(4)),
    offset: b.readUInt32LE(8),
    ackedLength: b.readUInt32LE(12),
  };
}

// ---------------------------------------------------------------- OPS: operations from the opsPrimary to a member

/**
 * block u32 · epoch u48 · n u16 · first seq u32; the payload is the op bodies in the format of the ops log, each with
 * its length before it. The member must hold exactly the ops up to `firstSeq - 1`, else OPS_GAP.
 */
export interface OpsRequest {
  readonly block: BlockId;
  readonly version: Version;
  readonly firstSeq: number;
}

export function encodeOps(m: OpsRequest): Buffer {
  const out = Buffer.allocUnsafe(16);
  out.writeUInt32LE(m.block, 0);
  out.writeUIntLE(m.version.epoch, 4, 6);
  out.writeUInt16LE(m.version.n, 10);
  out.writeUInt32LE(m.firstSeq, 12);
  return out;
}

export function decodeOps(b: Buffer): OpsRequest {
  exactly(b, 16, 'OPS');
  return {
    block: blockId(b.readUInt32LE(0)),
    version: { epoch: epochOf(b.readUIntLE(4, 6)), n: b.readUInt16LE(10) },
    firstSeq: b.readUInt32LE(12),
  };
}

/** epoch u48 · n u16 · seq u32: the newest operation that the member holds durably when it answers, and its version. */
export interface OpsReply {
  readonly version: Version;
  readonly seq: number;
}

export function encodeOpsReply(m: OpsReply): Buffer {
  const out = Buffer.allocUnsafe(12);
  out.writeUIntLE(m.version.epoch, 0, 6);
  out.writeUInt16LE(m.version.n, 6);
  out.writeUInt32LE(m.seq, 8);
  return out;
}

export function decodeOpsReply(b: Buffer): OpsReply {
  exactly(b, 12, 'OPS reply');
  return { version: { epoch: epochOf(b.readUIntLE(0, 6)), n: b.readUInt16LE(6) }, seq: b.readUInt32LE(8) };
}

// ---------------------------------------------------------------- LOCATE: which DataServers hold these blocks

export const LOCATE_BLOCKS_MAX = 1024;
/** Only the leader with a complete view says ABSENT; everyone else who does not know the block says DONT_KNOW. */
export const LocateState = { ABSENT: 0, DONT_KNOW: 1, FOUND: 2 } as const;
export type LocateState = (typeof LocateState)[keyof typeof LocateState];

export interface Location {
  readonly block: BlockId;
  readonly state: LocateState;
  /** Sequencer of the block's operations; 0 when not known. */
  readonly opsPrimary: number;
  readonly members: readonly ServerId[];
}

export function encodeLocate(blocks: readonly BlockId[]): Buffer {
  assert(blocks.length <= LOCATE_BLOCKS_MAX, 'LOCATE asks for a bounded number of blocks');
  const out = Buffer.allocUnsafe(4 * blocks.length);
  for (let i = 0; i < blocks.length; i++) out.writeUInt32LE(blocks[i]!, 4 * i);
  return out;
}

export function decodeLocate(b: Buffer): BlockId[] {
  if (b.length % 4 !== 0 || b.length === 0 || b.length > 4 * LOCATE_BLOCKS_MAX)
    throw bad('LOCATE has a wrong length');
  const blocks: BlockId[] = [];
  for (let at = 0; at < b.length; at += 4) blocks.push(blockId(b.readUInt32LE(at)));
  return blocks;
}

/** cluster map version u32, then for each block: block u32 · state u8 · opsPrimary u16 · n u8 · members u16 each */
export interface LocateReply {
  /** Grows with every change of the cluster map: a client with an older one asks for it. */
  readonly mapVersion: number;
  readonly locations: readonly Location[];
}

export function encodeLocateReply(m: LocateReply): Buffer {
  let size = 4;
  for (const location of m.locations) size += 8 + 2 * location.members.length;
  const out = Buffer.allocUnsafe(size);
  out.writeUInt32LE(m.mapVersion, 0);
  let at = 4;
  for (const location of m.locations) {
    out.writeUInt32LE(location.block, at);
    out[at + 4] = location.state;
    out.writeUInt16LE(location.opsPrimary, at + 5);
    putMembers(out, at + 7, location.members);
    at += 8 + 2 * location.members.length;
  }
  return out;
}

export function decodeLocateReply(b: Buffer): LocateReply {
  need(b, 4, 'LOCATE reply');
  const locations: Location[] = [];
  let at = 4;
  while (at < b.length) {
    if (b.length - at < 8) throw bad('LOCATE reply is cut');
    const state = b[at + 4]!;
    if (state > LocateState.FOUND) throw bad('LOCATE reply has an unknown state');
    const count = b[at + 7]!;
    const end = at + 8 + 2 * count;
    if (end > b.length) throw bad('LOCATE reply is cut');
    locations.push({
      block: blockId(b.readUInt32LE(at)),
      state: state as LocateState,
      opsPrimary: b.readUInt16LE(at + 5),
      members: takeMembers(b.subarray(0, end), at + 7, 'LOCATE reply'),
    });
    at = end;
  }
  return { mapVersion: b.readUInt32LE(0), locations };
}

// ---------------------------------------------------------------- REPORT and HEARTBEAT payloads: block entries

/** Numbers are part of the wire format. OPENING exists only in a NameServer's map. */
export const BlockState = { OPEN: 1, FENCED: 2, RECOVERED: 3, SEALED: 4, DROPPED: 5, OPENING: 6 } as const;
export type BlockState = (typeof BlockState)[keyof typeof BlockState];
export const blockStateName = (state: number): string =>
  Object.entries(BlockState).find(([, value]) => value === state)?.[0] ?? `state ${state}`;

/** RETIRED is said with DROPPED alone: the block holds nothing, and goes with all of its replicas. */
export const BlockFlag = { SUSPECT: 1, QUARANTINED: 2, RETIRED: 4 } as const;

/**
 * One replica, as its DataServer reports it, {@link BLOCK_ENTRY_BYTES} each: block u32 · generation u16 · state u8 ·
 * flags u8 · length u32 · seq u32 · epoch u48 · n u16 · opsPrimary u16 · members n u8 · target replicas u8 ·
 * members 8 × u16 · dead bytes u32.
 */
export interface BlockEntry {
  readonly block: BlockId;
  readonly generation: number;
  readonly state: BlockState;
  /** Bits of {@link BlockFlag}. */
  readonly flags: number;
  /** Bytes of the block that hold records (and the superblock). */
  readonly length: number;
  /** Newest operation in its ops log. */
  readonly seq: number;
  readonly version: Version;
  readonly opsPrimary: number;
  readonly targetReplicas: number;
  readonly members: readonly ServerId[];
  readonly deadBytes: number;
}
export const BLOCK_ENTRY_BYTES = 48;

export function encodeBlockEntries(entries: readonly BlockEntry[]): Buffer {
  const out = Buffer.alloc(BLOCK_ENTRY_BYTES * entries.length);
  entries.forEach((entry, i) => {
    const at = i * BLOCK_ENTRY_BYTES;
    assert(entry.members.length <= REPLICAS_MAX, 'a block has a bounded number of members');
    out.writeUInt32LE(entry.block, at);
    out.writeUInt16LE(entry.generation, at + 4);
    out[at + 6] = entry.state;
    out[at + 7] = entry.flags;
    out.writeUInt32LE(entry.length, at + 8);
    out.writeUInt32LE(entry.seq, at + 12);
    out.writeUIntLE(entry.version.epoch, at + 16, 6);
    out.writeUInt16LE(entry.version.n, at + 22);
    out.writeUInt16LE(entry.opsPrimary, at + 24);
    out[at + 26] = entry.members.length;
    out[at + 27] = entry.targetReplicas;
    entry.members.forEach((member, k) => {
      out.writeUInt16LE(member, at + 28 + 2 * k);
    });
    out.writeUInt32LE(entry.deadBytes, at + 44);
  });
  return out;
}

export function decodeBlockEntries(b: Buffer): BlockEntry[] {
  if (b.length % BLOCK_ENTRY_BYTES !== 0) throw bad('block entries have a wrong length');
  const entries: BlockEntry[] = [];
  for (let at = 0; at < b.length; at += BLOCK_ENTRY_BYTES) {
    const count = b[at + 26]!;
    const state = b[at + 6]!;
    if (count > REPLICAS_MAX || state < BlockState.OPEN || state > BlockState.DROPPED)
      throw bad('block entry is malformed');
    const members: ServerId[] = [];
    for (let k = 0; k < count; k++) members.push(member(b.readUInt16LE(at + 28 + 2 * k)));
    entries.push({
      block: blockId(b.readUInt32LE(at)),
      generation: b.readUInt16LE(at + 4),
      state: state as BlockState,
      flags: b[at + 7]!,
      length: b.readUInt32LE(at + 8),
      seq: b.readUInt32LE(at + 12),
      version: { epoch: epochOf(b.readUIntLE(at + 16, 6)) as Epoch, n: b.readUInt16LE(at + 22) },
      opsPrimary: b.readUInt16LE(at + 24),
      targetReplicas: b[at + 27]!,
      members,
      deadBytes: b.readUInt32LE(at + 44),
    });
  }
  return entries;
}

// ---------------------------------------------------------------- shared pieces

function putMembers(out: Buffer, at: number, members: readonly ServerId[]): void {
  assert(members.length <= REPLICAS_MAX, 'a bounded number of members');
  out[at] = members.length;
  for (let i = 0; i < members.length; i++) out.writeUInt16LE(members[i]!, at + 1 + 2 * i);
}

function takeMembers(b: Buffer, at: number, what: string): ServerId[] {
  const count = b[at]!;
  if (count > REPLICAS_MAX) throw bad(`${what} has too many members`);
  exactly(b, at + 1 + 2 * count, what);
  const members: ServerId[] = [];
  for (let i = 0; i < count; i++) members.push(member(b.readUInt16LE(at + 1 + 2 * i)));
  return members;
}

function member(value: number): ServerId {
  if (value === 0) throw bad('server id 0');
  return serverId(value);
}

function need(b: Buffer, length: number, what: string): void {
  if (b.length < length) throw bad(`${what} is cut: ${b.length} of ${length} bytes`);
}

function exactly(b: Buffer, length: number, what: string): void {
  if (b.length !== length) throw bad(`${what} has ${b.length} bytes instead of ${length}`);
}

const bad = (message: string): TfsError => new TfsError('PROTOCOL', message);

export { EMPTY as EMPTY_BUFFER };
