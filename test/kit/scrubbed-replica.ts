import { type BlockId, epochOf } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { Replica } from '../../dataserver/scrub/pass.ts';
import { superblockOf } from './block-world.ts';

/** When {@link replica} was made. */
export const MADE_AT = superblockOf(1).createdAtMs;
const SEAL = { length: 5000, slots: 3, digest: Buffer.alloc(32), epoch: epochOf(1) };

/** One that a scrub reads, with what a test does not care about filled in. */
export const replica = (block: number, overrides: Partial<Replica> = {}): Replica => ({
  block: block as BlockId,
  state: BlockState.SEALED,
  flags: 0,
  seal: SEAL,
  superblock: superblockOf(block),
  length: 5000,
  ...overrides,
});
