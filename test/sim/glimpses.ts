import {
  checkPayload,
  decodeRecordHeader,
  peekRecord,
  type RecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';
import type { Slot } from '../../common/ids.ts';
import { RECORD_ALIGN_BYTES } from '../../common/limits.ts';

interface Glimpse {
  readonly header: RecordHeader;
  /** Of the header, with the checksums of all the rest. */
  readonly bytes: Buffer;
}

/**
 * Records that a process could read in a file that a fault has damaged. Nobody can say what of such a file is durable, so
 * that it counts for no promise and the observer looks at it no more. But its server does not know: it goes on appending
 * to it, and what reads well there it rightly gives to others, behind a fence too, and enters in its SHA-1 index.
 */
export class Glimpses {
  readonly #records = new Map<Slot, Glimpse>();

  /** @param from end of what is known: only what stands behind that is news */
  look(bytes: Buffer, from: number, seed: number): void {
    for (let at = from; at < bytes.length; ) {
      const decoded = peekRecord(bytes, at) < 0 ? undefined : decodeRecordHeader(bytes, at, seed, at);
      if (decoded?.ok !== true) {
        at += RECORD_ALIGN_BYTES;
        continue;
      }
      const { slot, size } = decoded.value;
      const payloadAt = at + recordHeaderBytes(size);
      if (checkPayload(decoded.value, bytes.subarray(payloadAt, payloadAt + size))) {
        const own = Buffer.from(bytes.subarray(at, payloadAt));
        const header = decodeRecordHeader(own, 0, seed, at);
        if (header.ok) this.#records.set(slot, { header: header.value, bytes: own });
      }
      at += recordSpan(size);
    }
  }

  of(slot: Slot): Glimpse | undefined {
    return this.#records.get(slot);
  }
}
