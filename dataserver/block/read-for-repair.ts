import { isTfsError, TfsError } from '../../common/errors.ts';
import {
  checkPayload,
  decodeRecordHeader,
  recordHeaderBytes,
  recordPadding,
  recordSpan,
} from '../../common/format/record.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { RawRecords, SoundRecords } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { markSuspect } from './suspect.ts';
import type { Span } from './tolerant-source.ts';

const EMPTY = Buffer.alloc(0);

/**
 * Whole records from `offset` on for another replica, as many as fit `length` and at least one. Each was verified: a
 * replica with bad records still is a source for the others. Where the first one is bad, none; the way around it is told.
 */
export async function readForRepair(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  offset: number,
  length: number,
): Promise<RawRecords> {
  const first = index.recordAt(offset);
  if (first === undefined) return { bytes: EMPTY, next: undefined, unread: false };
  const next = boundaryBehind(index, first);
  let end = offset;
  let slots = 0;
  for (let slot = first; slot < index.count; slot++) {
    const stop = index.offsetOf(slot) + index.spanOf(slot);
    if ((slotFlags(index.words[slot]!) & NameFlag.LOST) !== 0) break;
    if (slots > 0 && stop - offset > length) break;
    end = stop;
    slots++;
  }
  let bytes = await read(index, offset, end - offset);
  const isReadable = bytes !== undefined;
  // A bad sector in a later record must not cost those before it.
  if (!isReadable && slots > 1) bytes = await read(index, offset, index.spanOf(first));
  const good = bytes === undefined ? 0 : verified(index, bytes, first);
  if ((!isReadable || good < end - offset) && !index.retired) {
    const slot = index.slotAt(offset + good);
    markSuspect(
      context,
      block,
      new TfsError('CORRUPT', `block ${block.block}, slot ${slot}: does not verify`),
    );
  }
  return { bytes: bytes?.subarray(0, good) ?? EMPTY, next, unread: bytes === undefined };
}

/**
 * As {@link readForRepair}, but from the first record in the range that verifies: whoever asks does not know where the
 * next one starts behind a damaged one.
 *
 * @returns where the bytes start; without bytes, the end of the range
 */
export async function readNextSound(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  range: { readonly offset: number; readonly length: number },
): Promise<SoundRecords> {
  const end = range.offset + range.length;
  const { tail } = block;
  const isInHole = ({ start, end: stop }: Span): boolean => start < end && stop > range.offset;
  let unread = tail?.unread === true && tail.holes.some(isInHole);
  for (let slot = index.slotAt(range.offset); slot < index.count; slot++) {
    const offset = index.offsetOf(slot);
    if (offset >= end) break;
    if ((slotFlags(index.words[slot]!) & (NameFlag.LOST | NameFlag.PURGED)) !== 0) continue;
    const found = await readForRepair(context, block, index, offset, end - offset);
    if (found.unread) unread = true;
    if (found.bytes.length > 0) return { offset, bytes: found.bytes, unread };
  }
  return { offset: end, bytes: EMPTY, unread };
}

/** The next place where a record is known to start, and how many slots lie before it. */
export function boundaryBehind(
  index: Pick<LoadedIndex, 'count' | 'length' | 'offsetOf'>,
  slot: number,
): { readonly offset: number; readonly slots: number } {
  let next = slot + 1;
  // Records that were lost with their boundaries all lie in one place.
  while (next < index.count && index.offsetOf(next) === index.offsetOf(slot)) next++;
  return { offset: next < index.count ? index.offsetOf(next) : index.length, slots: next - slot };
}

async function read(index: LoadedIndex, offset: number, length: number): Promise<Buffer | undefined> {
  const bytes = Buffer.allocUnsafe(length);
  try {
    return bytes.subarray(0, await index.file.read(bytes, offset));
  } catch (error) {
    if (isTfsError(error, 'IO')) return undefined;
    throw error;
  }
}

/** @returns bytes of the sound records at the start; what is behind their payloads is made zero */
function verified(index: LoadedIndex, bytes: Buffer, first: number): number {
  let good = 0;
  for (let slot = first; good < bytes.length; slot++) {
    if (index.isLeftOut(slot)) continue;
    const span = index.spanOf(slot);
    const decoded = decodeRecordHeader(bytes, good, index.seed, index.offsetOf(slot));
    if (!decoded.ok || good + span > bytes.length) break;
    const header = decoded.value;
    if (header.slot !== slot || recordSpan(header.size) !== span) break;
    const payloadAt = good + recordHeaderBytes(header.size);
    const payloadEnd = payloadAt + header.size;
    if (!checkPayload(header, bytes.subarray(payloadAt, payloadEnd))) break;
    bytes.fill(0, payloadEnd, payloadEnd + recordPadding(header.size));
    good += span;
  }
  return good;
}
