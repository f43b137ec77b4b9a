import { isPrivate as isPrivateType, mimeOf } from '../../client/gateway/media.ts';
import { decodeIdx, IDX_LOST, SHA1_BYTES } from '../../common/format/idx.ts';
import {
  nameFlagsOf,
  type Op,
  type OpsFile,
  type OpsState,
  OpType,
  opTypeName,
  sealOf,
} from '../../common/format/ops.ts';
import type { ByteSource } from '../../common/format/source.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { walkBlock } from '../../common/format/walk.ts';
import type { FileId } from '../../common/ids.ts';
import { encodeName } from '../../common/name.ts';
import { NameFlag } from '../../common/wire/messages.ts';

/** One thing a dump shows: for programs, and for people. */
export interface DumpLine {
  readonly value: { readonly kind: string } & Record<string, unknown>;
  readonly text: string;
}

/** Takes a line; where it is slow, a dump of records waits for it. */
export type Emit = (line: DumpLine) => void | Promise<void>;

export interface DumpBlockOptions {
  readonly source: ByteSource;
  readonly superblock: Superblock;
  /** What happened to the records since, where it is known. */
  readonly ops: OpsState | undefined;
  readonly clusterDigit: number;
  readonly checkPayloads: boolean;
  readonly emit: Emit;
}

/** @returns whether everything in the block is sound; a torn tail is */
export async function dumpBlock(options: DumpBlockOptions): Promise<boolean> {
  const { source, superblock, ops, clusterDigit, emit } = options;
  emit(superblockLine(superblock));
  let damaged = 0;
  let records = 0;
  const seal = ops && sealOf(ops, superblock.generation);
  const walk = await walkBlock(source, superblock, {
    checkPayloads: options.checkPayloads,
    ...(seal === undefined ? {} : { proven: seal }),
    onRecord: ({ header, offset, span, payloadOk }) => {
      records++;
      if (!payloadOk) damaged++;
      const fileId = header.slot as number as FileId;
      const { block } = superblock;
      const name = encodeName({ clusterDigit, block, fileId, cookie: header.cookie });
      const flags = flagNames(ops === undefined ? 0 : (nameFlagsOf(ops, fileId) ?? 0));
      const state = payloadOk ? (options.checkPayloads ? 'ok' : 'not checked') : 'DAMAGED';
      const { slot, cookie, size, dataCrc, ackedLength, mtimeMs, suffixHash } = header;
      const sha1 = header.sha1.toString('hex');
      const mediaType = mimeOf(header.mediaType);
      const isPrivate = isPrivateType(header.mediaType);
      return emit({
        value: {
          kind: 'record',
          offset,
          span,
          slot,
          name,
          cookie,
          size,
          mediaType,
          private: isPrivate,
          mtime: dateOf(mtimeMs),
          sha1,
          dataCrc,
          chunks: header.chunkCrcs.length,
          ackedLength,
          opId: header.opId.toString('hex'),
          suffixHash,
          flags,
          payload: state,
        },
        text:
          `${String(offset).padStart(10)}  slot ${String(slot).padEnd(7)} ${name}  ${String(size).padStart(9)} B  ` +
          `${mediaType.padEnd(12)} ${dateOf(mtimeMs)}  acked ${String(ackedLength).padStart(9)}  sha1 ${sha1}  ` +
          [state, ...(isPrivate ? ['private'] : []), ...flags].join(' '),
      });
    },
  });
  for (const { start, end, firstSlot, slots } of walk.holes)
    emit({
      value: { kind: 'hole', start, end, firstSlot, slots },
      text: `${String(start).padStart(10)}  HOLE up to ${end}: ${slots} acknowledged records from slot ${firstSlot} do not verify`,
    });
  const digest = walk.digest?.toString('hex');
  const sealed = seal === undefined ? undefined : sealAgrees(seal, walk.validLength, walk.slots, walk.digest);
  emit({
    value: {
      kind: 'end',
      records,
      damaged,
      validLength: walk.validLength,
      provenLength: walk.provenLength,
      slots: walk.slots,
      tornRecords: walk.tornRecords,
      fileBytes: source.size,
      digest,
      ...(sealed === undefined ? {} : { sealAgrees: sealed }),
    },
    text:
      `${String(walk.validLength).padStart(10)}  end: ${records} records, ${walk.slots} slots, acknowledged up to ` +
      `${walk.provenLength} at least; ${Math.max(0, source.size - walk.validLength)} bytes behind it` +
      `${walk.tornRecords > 0 ? `, with ${walk.tornRecords} records of a torn write` : ''}` +
      `${sealed === undefined ? '' : sealed ? '; as sealed' : '; NOT AS SEALED'}\n` +
      `            digest ${digest ?? 'unknown, because of the damage'}`,
  });
  return damaged === 0 && walk.holes.length === 0 && sealed !== false;
}

export function sealAgrees(
  seal: NonNullable<OpsState['seal']>,
  length: number,
  slots: number,
  digest: Buffer | undefined,
): boolean {
  return seal.length === length && seal.slots === slots && digest?.equals(seal.digest) === true;
}

export function dumpOps(path: string, file: OpsFile, emit: Emit): boolean {
  const { header, goodLength, end, why } = file;
  emit({
    value: { kind: 'ops', path, block: header.block, n: header.n, goodLength, end, ...(why ? { why } : {}) },
    text:
      `ops log ${path}: block ${header.block}, n ${header.n}, ` +
      (end === 'clean' ? `${goodLength} bytes` : `${end.toUpperCase()} at ${goodLength}: ${why}`),
  });
  for (const op of file.ops) emit(opLine(op, ''));
  for (const op of file.beyond) emit(opLine(op, '  (behind the damage)'));
  return end !== 'corrupt';
}

export function dumpIdx(path: string, bytes: Buffer, emit: Emit): boolean {
  const decoded = decodeIdx(bytes);
  if (!decoded.ok) {
    emit({ value: { kind: 'idx', path, why: decoded.why }, text: `index ${path}: DAMAGED: ${decoded.why}` });
    return false;
  }
  const { header, columns } = decoded.value;
  const { block, generation, session, length, slots } = header;
  emit({
    value: { kind: 'idx', path, block, generation, session, length, slots },
    text: `index ${path}: block ${block}, generation ${generation}, ${slots} slots, sealed at ${length}`,
  });
  for (let slot = 0; slot < slots; slot++) {
    const offset = columns.offsets[slot]! * 8;
    const sha1 = columns.sha1s.toString('hex', slot * SHA1_BYTES, (slot + 1) * SHA1_BYTES);
    const lost = (columns.flags[slot]! & IDX_LOST) !== 0;
    emit({
      value: { kind: 'idx-slot', slot, offset, sha1, lost },
      text: `${String(offset).padStart(10)}  slot ${String(slot).padEnd(7)} sha1 ${sha1}${lost ? '  lost' : ''}`,
    });
  }
  return true;
}

function superblockLine(s: Superblock): DumpLine {
  const { clusterUuid, block, generation, session, blockBytes, targetReplicas, slotCount, members } = s;
  const created = dateOf(s.createdAtMs);
  const salt = s.salt.toString('hex');
  return {
    value: {
      kind: 'superblock',
      clusterUuid,
      block,
      generation,
      session,
      blockBytes,
      targetReplicas,
      slotCount,
      created,
      salt,
      members,
    },
    text:
      `block ${block}, generation ${generation}, session ${session}, made ${created}, up to ${blockBytes} bytes\n` +
      `cluster ${clusterUuid}, salt ${salt}, ${targetReplicas} replicas wanted, write set ` +
      members.map(({ id, incarnation }) => `${id} (incarnation ${incarnation})`).join(', '),
  };
}

function opLine(op: Op, note: string): DumpLine {
  const { version, seq } = op;
  const opId = op.opId.toString('hex');
  const facts = factsOf(op);
  const value = { kind: 'op', type: opTypeName(op.type), version, seq, at: dateOf(op.atMs), opId, ...facts };
  const shown = Object.entries(facts).map(([key, fact]) => `${key} ${JSON.stringify(fact)}`);
  return {
    value,
    text:
      `${`${version.epoch}.${version.n}`.padStart(6)} ${String(seq).padStart(6)}  ` +
      `${opTypeName(op.type).padEnd(12)} ${dateOf(op.atMs)}  ${shown.join(', ')}${note}`,
  };
}

function factsOf(op: Op): Record<string, unknown> {
  switch (op.type) {
    case OpType.SNAPSHOT:
      return {
        members: op.state.cfg?.members,
        opsPrimary: op.state.cfg?.opsPrimary,
        flagged: op.state.slotFlags.reduce((sum, flags) => sum + (flags === 0 ? 0 : 1), 0),
        aliases: op.state.aliases?.count ?? 0,
        deletions: [...(op.state.deletions?.entries() ?? [])].length,
        recentOps: op.state.recentOps?.size ?? 0,
      };
    case OpType.CFG:
      return { members: op.members, opsPrimary: op.opsPrimary };
    case OpType.ALIAS:
      return { aliasId: op.aliasId, cookie: op.cookie, target: op.target };
    case OpType.PURGE_INTENT:
      return { slots: op.slots };
    case OpType.SEAL:
      return {
        length: op.length,
        slots: op.slots,
        epoch: op.epoch,
        digest: op.digest.toString('hex'),
        complete: op.complete ?? false,
        lost: op.lost ?? 0,
      };
    case OpType.GEN_COMMIT:
      return {
        generation: op.generation,
        length: op.length,
        slots: op.slots,
        epoch: op.epoch,
        digest: op.digest.toString('hex'),
      };
    default:
      return { fileId: op.fileId };
  }
}

export const flagNames = (nameFlags: number): string[] =>
  Object.entries(NameFlag)
    .filter(([, bit]) => (nameFlags & bit) !== 0)
    .map(([name]) => name.toLowerCase());

const dateOf = (ms: number): string =>
  Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString().replace('.000Z', 'Z') : `${ms} ms`;
