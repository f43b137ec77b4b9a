import { isTfsError, TfsError } from '../../common/errors.ts';
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
import { CHUNK_BYTES } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import { tunable } from '../../common/tunables.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { ReadResult } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { markSuspect } from './suspect.ts';

export interface Wanted {
  readonly fileId: FileId;
  /** Undefined: the caller has the place from its own index. */
  readonly cookie: Cookie | undefined;
  readonly offset: number;
  readonly length: number;
  readonly force: boolean;
}

/** The record that is being read. */
interface Place {
  readonly context: StoreContext;
  readonly block: Block;
  readonly index: LoadedIndex;
  readonly slot: number;
}

const EMPTY = Buffer.alloc(0);
/** Of a name that nobody is shown. */
export const UNSEEN = NameFlag.DELETED | NameFlag.HIDDEN;

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
  const place = { context, block, index, slot };
  if ((nameFlags & NameFlag.LOST) !== 0) throw corrupt(place, 'its record is damaged');
  if ((nameFlags & UNSEEN) !== 0 && !wanted.force) throw withheld(block);

  const offset = index.offsetOf(slot);
  const span = index.spanOf(slot);
  let header: RecordHeader;
  let payload: Buffer;
  let payloadAt = 0;
  if (wanted.length > 0 && span <= recordSpan(tunable.wholeReadBytesMax)) {
    // One read of exactly the record.
    const bytes = Buffer.allocUnsafe(span);
    await fill(place, bytes, offset);
    header = headerOf(place, bytes, offset, span);
    const at = recordHeaderBytes(header.size);
    payload = bytes.subarray(at, at + header.size);
    if (!checkPayload(header, payload)) throw corrupt(place, 'payload checksum mismatch');
  } else ({ header, payload, payloadAt } = await readParts(place, offset, span, wanted));
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
async function readParts(place: Place, offset: number, span: number, wanted: Wanted): Promise<Found> {
  place.index.hold();
  try {
    const head = Buffer.allocUnsafe(headBytesMax(span));
    await fill(place, head, offset);
    const header = headerOf(place, head, offset, span);
    if (wanted.length === 0 || wanted.offset >= header.size)
      return { header, payload: EMPTY, payloadAt: Math.min(wanted.offset, header.size) };
    const length = Math.min(wanted.length, header.size - wanted.offset);
    const { first, start, end } = chunkRange(header.size, wanted.offset, length);
    const payload = Buffer.allocUnsafe(end - start);
    await fill(place, payload, offset + recordHeaderBytes(header.size) + start);
    if (!checkChunks(header, first, payload)) throw corrupt(place, 'payload checksum mismatch');
    return { header, payload, payloadAt: start };
  } finally {
    place.index.release();
  }
}

/** Reads all of `target`. @throws TfsError IO, CORRUPT */
async function fill(place: Place, target: Buffer, offset: number): Promise<void> {
  let got: number;
  try {
    got = await place.index.file.read(target, offset);
  } catch (error) {
    const { context, block, index } = place;
    // A sector that the disk cannot give is damage like any other: another replica has what stood there.
    if (isTfsError(error, 'IO') && !index.retired) markSuspect(context, block, error);
    throw error;
  }
  if (got < target.length) throw corrupt(place, 'the file ends in it');
}

/** No payload that fits the span has a longer header. */
function headBytesMax(span: number): number {
  const payloadMax = span - RECORD_HEADER_BYTES;
  return payloadMax <= CHUNK_BYTES ? RECORD_HEADER_BYTES : Math.min(span, recordHeaderBytes(payloadMax));
}

function headerOf(place: Place, bytes: Buffer, offset: number, span: number): RecordHeader {
  const decoded = decodeRecordHeader(bytes, 0, place.index.seed, offset);
  if (!decoded.ok) throw corrupt(place, decoded.why);
  const { value } = decoded;
  if (value.slot !== place.slot || recordSpan(value.size) !== span)
    throw corrupt(place, 'the index names another record');
  return value;
}

/** A miss in a block that waits for its seal, or is known to be damaged, proves nothing. */
const missing = (block: Block): TfsError =>
  block.state === BlockState.RECOVERED ? cannotTell(block) : withheld(block);

/** Deleted or hidden. What a block that waits for its seal may lack is records: it has the operations. */
const withheld = (block: Block): TfsError =>
  (block.flags & BlockFlag.SUSPECT) === 0 ? new TfsError('NOT_FOUND', 'no such picture') : cannotTell(block);

function cannotTell(block: Block): TfsError {
  mark('answer-cannot-tell');
  return new TfsError('DONT_KNOW', `this replica of block ${block.block} cannot tell`, { retryAfterMs: 500 });
}

/** What an index that was replaced meanwhile has led to says nothing about the block as it is now. */
function corrupt({ context, block, index, slot }: Place, why: string): TfsError {
  const error = new TfsError('CORRUPT', `block ${block.block}, slot ${slot}: ${why}`);
  if (!index.retired) markSuspect(context, block, error);
  return error;
}
