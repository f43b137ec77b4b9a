import { randomBytes, randomFillSync } from 'node:crypto';
import type { Random } from '../seams/random.ts';

/** Drawn in pages: one call to the operating system's generator costs as much as a thousand numbers. */
const PAGE_BYTES = 4096;
const page = Buffer.alloc(PAGE_BYTES);
let used = PAGE_BYTES;

function u32(): number {
  if (used === PAGE_BYTES) {
    randomFillSync(page);
    used = 0;
  }
  const value = page.readUInt32LE(used);
  // A drawn number may become a cookie that must not be guessed: it does not stay in memory.
  page.writeUInt32LE(0, used);
  used += 4;
  return value;
}

/** The operating system's cryptographic generator. */
export const nodeRandom: Random = {
  bytes: (length) => randomBytes(length),
  u32,
  // 53 bits, as many as a number has.
  float: () => ((u32() >>> 5) * 2 ** 26 + (u32() >>> 6)) / 2 ** 53,
};
