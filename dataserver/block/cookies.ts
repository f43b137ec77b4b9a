import { isTfsError } from '../../common/errors.ts';
import { decodeRecordHeader, RECORD_HEADER_BYTES } from '../../common/format/record.ts';
import type { Cookie, Slot } from '../../common/ids.ts';
import type { LoadedIndex } from './loaded-index.ts';

/**
 * The cookies of these records, one small read each. A record that does not read is left out, and no judgement on the
 * block: a reader of the picture finds that out, or a scrub.
 */
export async function readCookies(index: LoadedIndex, slots: readonly Slot[]): Promise<Map<Slot, Cookie>> {
  const cookies = new Map<Slot, Cookie>();
  index.hold();
  try {
    for (const slot of slots) {
      if (slot >= index.count || index.isLeftOut(slot)) continue;
      const cookie = await readCookie(index, slot);
      if (cookie !== undefined) cookies.set(slot, cookie);
    }
  } finally {
    index.release();
  }
  return cookies;
}

async function readCookie(index: LoadedIndex, slot: Slot): Promise<Cookie | undefined> {
  const offset = index.offsetOf(slot);
  // That of a large picture goes on with a checksum of each of its chunks.
  for (let bytes = RECORD_HEADER_BYTES; bytes > 0; ) {
    const head = Buffer.allocUnsafe(bytes);
    try {
      if ((await index.file.read(head, offset)) < head.length) return undefined;
    } catch (error) {
      if (!isTfsError(error, 'IO')) throw error;
      return undefined;
    }
    const header = decodeRecordHeader(head, 0, index.seed, offset);
    if (header.ok) return header.value.slot === slot ? header.value.cookie : undefined;
    bytes = header.short;
  }
  return undefined;
}
