import fc from 'fast-check';
import type { Decoded } from '../../common/format/decoded.ts';

/** @throws Error with the decoder's reason */
export function unwrap<T>(decoded: Decoded<T>): T {
  if (!decoded.ok) throw new Error(`does not decode: ${decoded.why}`);
  return decoded.value;
}

export const flipBit = (bytes: Buffer, bit: number): Buffer => {
  const out = Buffer.from(bytes);
  out[bit >>> 3]! ^= 1 << (bit & 7);
  return out;
};

/**
 * Bytes to throw at a decoder: noise, cut pieces of something valid, and the same with a few bytes changed. A decoder
 * must answer for each, by a value or by a reason.
 */
export function hostileBytes(valid: Buffer): fc.Arbitrary<Buffer> {
  const noise = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));
  const cut = fc.nat(valid.length).map((length) => Buffer.from(valid.subarray(0, length)));
  const changed = fc
    .array(fc.tuple(fc.nat(Math.max(0, valid.length - 1)), fc.nat(255)), { minLength: 1, maxLength: 6 })
    .map((edits) => {
      const out = Buffer.from(valid);
      for (const [at, byte] of edits) out[at] = byte;
      return out;
    });
  return fc.oneof(noise, cut, changed);
}
