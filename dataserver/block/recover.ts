import { isTfsError, type TfsError, toTfsError } from '../../common/errors.ts';
import { SHA1_BYTES } from '../../common/format/idx.ts';
import { type Op, type OpsState, OpType, slotFlagsOf } from '../../common/format/ops.ts';
import { slotFlags, withSlotFlags } from '../../common/format/slot-word.ts';
import { type ByteSource, sourceOfFile } from '../../common/format/source.ts';
import { type BlockWalk, type WalkOptions, walkBlock } from '../../common/format/walk.ts';
import { isAlias, type Slot } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { tunable } from '../../common/tunables.ts';
import { BlockFlag, NameFlag } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { seededAs } from './faults.ts';
import { LoadedIndex } from './loaded-index.ts';
import { markSuspect } from './suspect.ts';
import { Tail } from './tail.ts';
import { TolerantSource } from './tolerant-source.ts';

export interface Walked extends BlockWalk {
  /** 20 bytes a slot; zeros where there is no record. */
  readonly sha1s: Buffer;
  /** Something that the disk failed to read counts as damaged. */
  readonly unread: boolean;
}

/** The index of a block that was OPEN when its process died: walked once, however many ask. */
export async function recovered(context: StoreContext, block: Block): Promise<LoadedIndex> {
  if (block.tail !== undefined && block.index !== undefined) return block.index;
  block.loading ??= recoverBlock(context, block).finally(() => {
    block.loading = undefined;
  });
  return block.loading;
}

/** What is known of a block beside what its records say. */
export interface Known {
  /** Durable on every member. */
  readonly provenLength: number;
  /** Durable here, as this process has seen: whatever does not verify below it is damage, and not the end. */
  readonly own: { readonly length: number; readonly slots: number };
}

/** Of a block whose index is in memory. */
export const knownOf = (block: Block): Known => ({
  provenLength: block.tail?.provenLength ?? block.provenLength,
  own: { length: block.index!.length, slots: block.index!.count },
});

/**
 * Walks an unsealed block and makes what it finds its index and its tail. It changes no byte, so it may be repeated and
 * interrupted at will; what is torn off stays in the file until the seal cuts it. Data that was acknowledged, or that
 * this process has written, and does not verify is a hole, and the block SUSPECT. What a disk cannot read is a hole too
 * below what is known to have been there; elsewhere it is neither that nor an end: the walk rejects.
 */
export async function recoverBlock(context: StoreContext, block: Block, known?: Known): Promise<LoadedIndex> {
  const held = block.index?.file;
  const file = held ?? (await openForRepair(context, block));
  try {
    const walked = await walk(
      context,
      block,
      file,
      known === undefined ? {} : { proven: known.own, tolerant: true },
    );
    const [bad] = context.faults.has('truncate-at-first-bad') ? walked.holes : [];
    // A planted bug: nobody looks at what lies behind, and at what it says of what had been acknowledged.
    const result = bad === undefined ? walked : await walk(context, block, file, { end: bad.start });
    const durable = await settle(context, block, file, result);
    const state = await block.ops.warm();
    const columns = [result.words, result.words.length, result.validLength] as const;
    const index =
      block.index === undefined
        ? new LoadedIndex(file, ...columns, block.seed)
        : LoadedIndex.over(block.index, ...columns);
    applyNameFlags(index, state);
    block.tail = new Tail({
      holes: result.holes,
      unread: result.unread,
      clean: false,
      provenLength: Math.max(result.watermark, known?.provenLength ?? 0),
      digest: result.holes.length > 0 ? undefined : result.digest,
      sha1s: result.sha1s,
    });
    block.tail.durable = durable;
    block.index = index;
    block.unread = false;
    if (result.holes.length > 0) block.flags |= BlockFlag.SUSPECT;
    else if (!block.isUnsound) block.flags &= ~BlockFlag.SUSPECT;
    if (result.holes.length > 0 || result.tornRecords > 0) {
      mark(result.holes.length > 0 ? 'recovered-hole' : 'recovered-torn');
      context.log.warn(
        { block: block.block, length: result.validLength, holes: result.holes, torn: result.tornRecords },
        result.holes.length > 0
          ? 'acknowledged records do not verify'
          : 'records of a torn write are dropped',
      );
    }
    context.changed(block.block);
    return index;
  } catch (error) {
    if (held === undefined) await file.close();
    const failure = unreadable(context, block, error);
    if (isTfsError(failure, 'IO') && block.tail === undefined) {
      block.unread = true;
      markSuspect(context, block, failure);
    }
    throw failure;
  }
}

export async function walk(
  context: StoreContext,
  block: Block,
  file: DiskFile,
  options: WalkOptions & {
    /** What the disk cannot read counts as damaged: where it is known how far the records went. */
    readonly tolerant?: boolean;
  },
): Promise<Walked> {
  const source = options.tolerant ? await TolerantSource.of(file) : await sourceOfFile(file);
  let sha1s = Buffer.alloc(256 * SHA1_BYTES);
  const walked = await walkBlock(
    context.faults.has('eio-as-torn') ? zerosForErrors(source) : source,
    seededAs(block.sound(), context.faults),
    {
      ...options,
      onRecord: (record) => {
        const at = record.header.slot * SHA1_BYTES;
        if (at + SHA1_BYTES > sha1s.length) {
          const grown = Buffer.alloc(Math.max(2 * sha1s.length, at + SHA1_BYTES));
          sha1s.copy(grown);
          sha1s = grown;
        }
        if (record.payloadOk) record.header.sha1.copy(sha1s, at);
        return options.onRecord?.(record);
      },
    },
  );
  const bytes = walked.words.length * SHA1_BYTES;
  const padded = bytes <= sha1s.length ? sha1s.subarray(0, bytes) : Buffer.concat([sha1s], bytes);
  const unread = source instanceof TolerantSource && source.unreadable.length > 0;
  return { ...walked, sha1s: padded, unread };
}

/**
 * What the walk has read may be in the kernel's memory alone: written by a process that was killed before its sync,
 * or even after a sync that failed, which leaves pages that look written and never will be. What no watermark covers
 * is therefore written once more, the same bytes, before anything is concluded from it.
 *
 * @returns false on a disk that takes no writes: then nobody may rely on the tail
 */
async function settle(
  context: StoreContext,
  block: Block,
  file: DiskFile,
  { provenLength, validLength }: BlockWalk,
): Promise<boolean> {
  if (context.faults.has('trust-page-cache')) return true;
  if (context.failure !== undefined) return false;
  try {
    for (let at = Math.max(provenLength, SUPERBLOCK_BYTES); at < validLength; at += tunable.batchBytesMax) {
      const bytes = Buffer.allocUnsafe(Math.min(tunable.batchBytesMax, validLength - at));
      const got = await file.read(bytes, at);
      await file.writeDurable([bytes.subarray(0, got)], at);
    }
    return true;
  } catch (error) {
    context.failed(error, `settling block ${block.block}`);
    return false;
  }
}

/** Puts the state of every name into its word, and the second names beside them. */
export function applyNameFlags(index: LoadedIndex, state: OpsState): void {
  const { words } = index;
  for (let slot = 0; slot < index.count; slot++) {
    const flags = slotFlagsOf(state, slot as Slot);
    const before = slotFlags(words[slot]!);
    if (flags === before) continue;
    // What the file says for itself: a record is damaged, or a compaction left it out.
    const own = index.isLeftOut(slot) ? NameFlag.PURGED : NameFlag.LOST;
    words[slot] = withSlotFlags(words[slot]!, flags | (before & own));
  }
  index.aliases = state.aliases;
}

/** Brings a loaded index up to ops that were just folded into the state. */
export function applyOps(index: LoadedIndex, ops: readonly Op[], state: OpsState): void {
  for (const op of ops) {
    if (op.type === OpType.SNAPSHOT) applyNameFlags(index, state);
    else if (op.type === OpType.PURGE_INTENT) for (const slot of op.slots) applyTo(index, slot, state);
    else if ('fileId' in op && !isAlias(op.fileId)) applyTo(index, op.fileId as number as Slot, state);
  }
  // The table is the state's own, so changes to aliases are there already; it may just have come into being.
  index.aliases = state.aliases;
}

function applyTo(index: LoadedIndex, slot: Slot, state: OpsState): void {
  if (slot >= index.count) return;
  const word = index.words[slot]!;
  const own = slotFlags(word) & NameFlag.LOST;
  index.words[slot] = withSlotFlags(word, slotFlagsOf(state, slot) | own);
}

/** For a repair it has to be writable; on a disk that is not it can still be read. */
async function openForRepair(context: StoreContext, block: Block): Promise<DiskFile> {
  try {
    return await context.open(block.fileName, 'write');
  } catch (error) {
    if (!isTfsError(error, 'READ_ONLY')) throw error;
    return context.open(block.fileName, 'read');
  }
}

function unreadable(context: StoreContext, block: Block, error: unknown): TfsError {
  const failure = toTfsError(error, 'IO', `reading block ${block.block}`);
  context.log.error({ block: block.block, err: failure }, 'cannot read a block');
  return failure;
}

/** A planted bug. */
function zerosForErrors(source: ByteSource): ByteSource {
  return {
    size: source.size,
    read: (target, position) =>
      source.read(target, position).catch(() => {
        target.fill(0);
        return Math.min(target.length, source.size - position);
      }),
  };
}
