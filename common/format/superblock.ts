/**
 * The first 4096 bytes of a block file: who the block is. The same bytes on every replica.
 *
 * | at | field |
 * |---|---|
 * | 0 | magic 'TFSB' u32 · format version u16 · target replicas u8 · member count u8 |
 * | 8 | cluster uuid 16 B |
 * | 24 | block u32 · generation u32 · session u32 · block bytes u32 (capacity) · slot count u32 (generation > 0) · 0 u32 |
 * | 48 | created at, ms since 1970, f64 |
 * | 56 | salt 16 B |
 * | 72 | 8 × { server id u16 · incarnation u32 }, the write set; the first is the primary; unused ones are zero |
 * | 120 | zero |
 * | 4092 | CRC-32 of everything before it |
 */

import { crc32 } from '../crc.ts';
import { assert } from '../errors.ts';
import type { BlockId, Incarnation, ServerId, Session } from '../ids.ts';
import { BLOCK_BYTES_MAX, REPLICAS_MAX, SUPERBLOCK_BYTES } from '../limits.ts';
import { type Decoded, decoded, magic, rejected } from './decoded.ts';

export const FORMAT_VERSION = 1;
const MAGIC = magic('TFSB');
const MEMBERS_AT = 72;
const MEMBER_BYTES = 6;
const CRC_AT = SUPERBLOCK_BYTES - 4;

export interface SuperblockMember {
  readonly id: ServerId;
  /** Of the member's process when the block was made: a member that restarted since has left the session. */
  readonly incarnation: Incarnation;
}

export interface Superblock {
  /** 32 hex digits, lower case. */
  readonly clusterUuid: string;
  readonly block: BlockId;
  /** 0 as written by clients; each compaction makes the next. */
  readonly generation: number;
  readonly session: Session;
  /** Capacity of the file, superblock included. */
  readonly blockBytes: number;
  readonly targetReplicas: number;
  /** Slots of a compacted block, purged ones included; 0 in generation 0, where the records tell. */
  readonly slotCount: number;
  readonly createdAtMs: number;
  /** 16 random bytes, which seed every checksum in the block: bytes of another block never pass as this one's. */
  readonly salt: Buffer;
  readonly members: readonly SuperblockMember[];
}

export function encodeSuperblock(s: Superblock): Buffer {
  assert(/^[0-9a-f]{32}$/.test(s.clusterUuid), 'a cluster uuid is 32 hex digits');
  assert(s.salt.length === 16, 'a salt is 16 bytes');
  const why = implausible(s);
  assert(why === undefined, `a superblock is sound: ${why}`);
  const out = Buffer.alloc(SUPERBLOCK_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(FORMAT_VERSION, 4);
  out[6] = s.targetReplicas;
  out[7] = s.members.length;
  out.write(s.clusterUuid, 8, 'hex');
  out.writeUInt32LE(s.block, 24);
  out.writeUInt32LE(s.generation, 28);
  out.writeUInt32LE(s.session, 32);
  out.writeUInt32LE(s.blockBytes, 36);
  out.writeUInt32LE(s.slotCount, 40);
  out.writeDoubleLE(s.createdAtMs, 48);
  s.salt.copy(out, 56);
  s.members.forEach((member, i) => {
    out.writeUInt16LE(member.id, MEMBERS_AT + i * MEMBER_BYTES);
    out.writeUInt32LE(member.incarnation, MEMBERS_AT + i * MEMBER_BYTES + 2);
  });
  out.writeUInt32LE(crc32(out.subarray(0, CRC_AT)), CRC_AT);
  return out;
}

/** @param b at least the first 4096 bytes of a block file; what the result keeps of it is copied */
export function decodeSuperblock(b: Buffer): Decoded<Superblock> {
  if (b.length < SUPERBLOCK_BYTES)
    return rejected(`superblock is cut: ${b.length} of ${SUPERBLOCK_BYTES} bytes`);
  if (b.readUInt32LE(0) !== MAGIC) return rejected('not a block file (no TFSB at its start)');
  if (crc32(b.subarray(0, CRC_AT)) !== b.readUInt32LE(CRC_AT))
    return rejected('superblock checksum mismatch');
  const version = b.readUInt16LE(4);
  if (version !== FORMAT_VERSION)
    return rejected(`block format ${version}; this program reads format ${FORMAT_VERSION}`);
  const count = b[7]!;
  if (count > REPLICAS_MAX) return rejected(`superblock lists ${count} members`);
  const members: SuperblockMember[] = [];
  for (let i = 0; i < count; i++) {
    const at = MEMBERS_AT + i * MEMBER_BYTES;
    members.push({
      id: b.readUInt16LE(at) as ServerId,
      incarnation: b.readUInt32LE(at + 2) as Incarnation,
    });
  }
  const value: Superblock = {
    clusterUuid: b.toString('hex', 8, 24),
    block: b.readUInt32LE(24) as BlockId,
    generation: b.readUInt32LE(28),
    session: b.readUInt32LE(32) as Session,
    blockBytes: b.readUInt32LE(36),
    targetReplicas: b[6]!,
    slotCount: b.readUInt32LE(40),
    createdAtMs: b.readDoubleLE(48),
    salt: Buffer.from(b.subarray(56, 72)),
    members,
  };
  const why = implausible(value);
  return why === undefined ? decoded(value) : rejected(`superblock is implausible: ${why}`);
}

function implausible(s: Superblock): string | undefined {
  if (s.session === 0) return 'session 0';
  if (s.members.length < 1 || s.members.length > REPLICAS_MAX) return `${s.members.length} members`;
  if (s.members.some((member) => member.id === 0)) return 'server id 0';
  if (s.targetReplicas < 1 || s.targetReplicas > REPLICAS_MAX) return `${s.targetReplicas} target replicas`;
  if (s.blockBytes <= SUPERBLOCK_BYTES || s.blockBytes > BLOCK_BYTES_MAX)
    return `${s.blockBytes} block bytes`;
  if (!Number.isFinite(s.createdAtMs)) return 'no date';
  return undefined;
}
