import { TfsError } from '../../common/errors.ts';
import {
  checkChunks,
  checkPayload,
  chunkRange,
  decodeRecordHeader,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import { ALIAS_BIT, type Cookie, type FileId, type Slot } from '../../common/ids.ts';
import { CHUNK_BYTES, WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { ReadResult } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import type { LoadedIndex } from './loaded-index.ts';

export interface Wanted {
  readonly fileId: FileId;
  /** Undefined: the caller has the place from its own index. */
  readonly cookie: Cookie | undefined;
  readonly offset: number;
  readonly length: number;
  readonly force: boolean;
}

const EMPTY = Buffer.alloc(0);
const UNSEEN = NameFlag.DELETED | NameFlag.HIDDEN;
/** A record of up to {@link WHOLE_READ_BYTES_MAX} of payload comes in one read. */
const WHOLE_SPAN_MAX = recordSpan(WHOLE_READ_BYTES_MAX);

/** The state bits of a name, from memory. @throws TfsError NOT_FOUND, DONT_KNOW */
export function flagsOf(block: Block, index: LoadedIndex, fileId: FileId): number {
  const { aliases } = index;
  if (fileId < ALIAS_BIT) {
    if (fileId >= index.count) throw missing(block);
    return slotFlags(index.words[fileId]!);
  }
  const at = aliases?.find(fileId) ?? -1;
  if (at < 0) throw missing(block);
  return aliases!.flagsAt(at) | targetFlags(index, aliases!.targetAt(at));
}

/** What becomes of a target's bytes becomes of its aliases; what happens to its name does not. */
const targetFlags = (index: LoadedIndex, target: number): number =>
  target < index.count ? slotFlags(index.words[target]!) & (NameFlag.PURGED | NameFlag.LOST) : 0;

/** Reads one name. The index is held from the lookup to the start of the read without a pause, so nothing is closed. */
export async function readName(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  wanted: Wanted,
): Promise<ReadResult> {
  const { fileId } = wanted;
  const alias = fileId >= ALIAS_BIT;
  const nameFlags = flagsOf(block, index, fileId);
  let slot = fileId as number;
  let cookie = wanted.cookie;
  if (alias) {
    const aliases = index.aliases!;
    const at = aliases.find(fileId);
    if (cookie !== undefined && cookie !== aliases.cookieAt(at)) throw missing(block);
    slot = aliases.targetAt(at);
    // The record's own cookie belongs to another name.
    cookie = undefined;
    if (slot >= index.count) throw missing(block);
  }
  if ((nameFlags & NameFlag.PURGED) !== 0) throw missing(block);
  if ((nameFlags & NameFlag.LOST) !== 0) throw corrupt(context, block, slot, 'its record is damaged');
  if ((nameFlags & UNSEEN) !== 0 && !wanted.force) throw missing(block);

  const offset = index.offsetOf(slot);
  const span = index.spanOf(slot);
  let header: RecordHeader;
  let payload: Buffer;
  let payloadAt = 0;
  if (wanted.length > 0 && span <= WHOLE_SPAN_MAX) {
    // One read of exactly the record.
    const bytes = Buffer.allocUnsafe(span);
    if ((await index.file.read(bytes, offset)) < span)
      throw corrupt(context, block, slot, 'the file ends in it');
    header = headerOf(context, block, bytes, slot, offset, span);
    const at = recordHeaderBytes(header.size);
    payload = bytes.subarray(at, at + header.size);
    if (!checkPayload(header, payload)) throw corrupt(context, block, slot, 'payload checksum mismatch');
  } else
    ({ header, payload, payloadAt } = await readParts(context, block, index, slot, offset, span, wanted));
  if (cookie !== undefined && cookie !== header.cookie) throw missing(block);
  const start = Math.min(wanted.offset, header.size);
  const end = Math.min(start + wanted.length, header.size);
  if (start !== payloadAt || end !== payloadAt + payload.length)
    payload = payload.subarray(start - payloadAt, end - payloadAt);
  const proven = offset + span <= block.provenLength;
  return { header, nameFlags, alias, slot: slot as Slot, offset: start, payload, proven };
}

interface Found {
  readonly header: RecordHeader;
  readonly payload: Buffer;
  /** Where in the payload it starts. */
  readonly payloadAt: number;
}

/** The header with its chunk table, then the whole chunks that the range touches, if it touches any. */
async function readParts(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  slot: number,
  offset: number,
  span: number,
  wanted: Wanted,
): Promise<Found> {
  block.users++;
  try {
    const head = Buffer.allocUnsafe(headBytesMax(span));
    if ((await index.file.read(head, offset)) < head.length)
      throw corrupt(context, block, slot, 'the file ends in it');
    const header = headerOf(context, block, head, slot, offset, span);
    if (wanted.length === 0 || wanted.offset >= header.size)
      return { header, payload: EMPTY, payloadAt: Math.min(wanted.offset, header.size) };
    const length = Math.min(wanted.length, header.size - wanted.offset);
    const { first, start, end } = chunkRange(header.size, wanted.offset, length);
    const payload = Buffer.allocUnsafe(end - start);
    const at = offset + recordHeaderBytes(header.size) + start;
    if ((await index.file.read(payload, at)) < payload.length)
      throw corrupt(context, block, slot, 'the file ends in it');
    if (!checkChunks(header, first, payload))
      throw corrupt(context, block, slot, 'payload checksum mismatch');
    return { header, payload, payloadAt: start };
  } finally {
    block.users--;
  }
}

/** No payload that fits the span has a longer header. */
function headBytesMax(span: number): number {
  const payloadMax = span - RECORD_HEADER_BYTES;
  return payloadMax <= CHUNK_BYTES ? RECORD_HEADER_BYTES : Math.min(span, recordHeaderBytes(payloadMax));
}

function headerOf(
  context: StoreContext,
  block: Block,
  bytes: Buffer,
  slot: number,
  offset: number,
  span: number,
): RecordHeader {
  const decoded = decodeRecordHeader(bytes, 0, block.seed, offset);
  if (!decoded.ok) throw corrupt(context, block, slot, decoded.why);
  const { value } = decoded;
  if (value.slot !== slot || recordSpan(value.size) !== span)
    throw corrupt(context, block, slot, 'the index names another record');
  return value;
}

/** A miss in a block that waits for its seal, or is known to be damaged, proves nothing. */
function missing(block: Block): TfsError {
  const certain = block.state !== BlockState.RECOVERED && (block.flags & BlockFlag.SUSPECT) === 0;
  return certain
    ? new TfsError('NOT_FOUND', 'no such picture')
    : new TfsError('DONT_KNOW', `this replica of block ${block.block} cannot tell`, { retryAfterMs: 500 });
}

function corrupt(context: StoreContext, block: Block, slot: number, why: string): TfsError {
  const error = new TfsError('CORRUPT', `block ${block.block}, slot ${slot}: ${why}`);
  if (!block.suspect) {
    block.flags |= BlockFlag.SUSPECT;
    context.corrupt(block.block, error);
    context.changed(block.block);
  }
  return error;
}
