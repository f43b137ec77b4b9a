import { TfsError } from '../../common/errors.ts';
import {
  checkPayload,
  decodeRecordHeader,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';

/**
 * Whole records as another server sent them, looked at before a byte of them is written: every header CRC, the order
 * of slots, every payload CRC, nothing left over.
 *
 * @param at where the first one goes: its offset in the block, and its slot
 * @param sparse of a compacted block, in which slots may be left out: then the slot is the least that comes next
 * @throws TfsError PROTOCOL
 */
export function decodeRawRecords(
  bytes: Buffer,
  seed: number,
  at: { readonly offset: number; readonly slot: number },
  { sparse = false }: { readonly sparse?: boolean } = {},
): RecordHeader[] {
  const headers: RecordHeader[] = [];
  let position = 0;
  while (position < bytes.length) {
    const offset = at.offset + position;
    const decoded = decodeRecordHeader(bytes, position, seed, offset);
    if (!decoded.ok) throw refused(offset, decoded.why);
    const header = decoded.value;
    const next = (headers.at(-1)?.slot ?? at.slot - 1) + 1;
    if (sparse ? header.slot < next : header.slot !== next)
      throw refused(offset, `slot ${header.slot} where ${next} comes next`);
    const end = position + recordSpan(header.size);
    if (end > bytes.length) throw refused(offset, 'the record is cut');
    const payloadAt = position + recordHeaderBytes(header.size);
    if (!checkPayload(header, bytes.subarray(payloadAt, payloadAt + header.size)))
      throw refused(offset, 'payload checksum mismatch');
    // No checksum covers them, so that they are zero is all there is to know.
    if (bytes.subarray(payloadAt + header.size, end).some((byte) => byte !== 0))
      throw refused(offset, 'padding that is not zero');
    headers.push(header);
    position = end;
  }
  if (headers.length === 0) throw refused(at.offset, 'no record');
  return headers;
}

function refused(offset: number, why: string): TfsError {
  return new TfsError('PROTOCOL', `records for offset ${offset} are refused: ${why}`);
}
