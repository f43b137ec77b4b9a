import type { BlockId } from '../ids.ts';
import { BlockFlag, type BlockState } from './messages.ts';

const FLAGS = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;

/**
 * What one replica adds to the digest of a table: a u32, spread by the finalizer of MurmurHash3 (Appleby, 2008). Lengths
 * do not count, because they move with every batch.
 */
export function replicaDigest(block: BlockId, state: BlockState, flags: number): number {
  let h =
    Math.imul(block ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul((state << 8) | (flags & FLAGS), 0xc2b2_ae35);
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Tells whether two have the same table: the sum of {@link replicaDigest} over all replicas, a u32. A sum, so that the
 * order does not matter and one replica can be taken out or changed without looking at the others. It finds mistakes,
 * not malice.
 */
export function tableDigest(
  replicas: Iterable<{ readonly block: BlockId; readonly state: BlockState; readonly flags: number }>,
): number {
  let sum = 0;
  for (const { block, state, flags } of replicas) sum = (sum + replicaDigest(block, state, flags)) >>> 0;
  return sum;
}
