import { crc32 } from '../../../common/crc.ts';

/**
 * The checksum that TFS keeps of a file: the polynomial of zlib, but begun with 0 and not inverted at the end.
 *
 * It follows from zlib's sum and the length. A CRC is linear over GF(2), so what the first register of all ones adds to
 * the result does not depend on the bytes: it is the register after as many zeros. zlib's sum of n zeros is that, inverted,
 * and the two inversions cancel: sum of TFS = sum of zlib ⊕ zlib's sum of n zeros.
 *
 * @param crc zlib's CRC-32 of the file
 * @param size its bytes
 */
export const fileCrcOf = (crc: number, size: number): number => (crc ^ crcOfZeros(size)) >>> 0;

/** zlib's CRC-32 of `size` zeros, in as many steps as `size` has bits: a register shifted by n bytes is multiplied by x^8n. */
function crcOfZeros(size: number): number {
  let register = crc32(EMPTY, 0) ^ ALL_ONES;
  let power = X8;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) register = multiply(power, register);
    power = multiply(power, power);
  }
  return (register ^ ALL_ONES) >>> 0;
}

const EMPTY = Buffer.alloc(0);
const ALL_ONES = 0xffff_ffff;
/** Polynomials are reflected, as zlib has them: bit 31 is x^0. */
const POLYNOMIAL = 0xedb8_8320;
const X0 = 0x8000_0000;
const X8 = X0 >>> 8;

/** Product of two polynomials over GF(2), modulo that of the CRC. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = X0; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= shifted;
    shifted = (shifted & 1) !== 0 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}
