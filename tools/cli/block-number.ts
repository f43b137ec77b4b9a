import { InvalidArgumentError } from 'commander';

const BLOCK_MAX = 0xffff_ffff;
export const BLOCK_HELP = 'number of the block, as in logs and in the names of its files';

/** @throws InvalidArgumentError */
export function blockNumber(text: string): number {
  const block = Number(text);
  if (text !== '' && Number.isInteger(block) && block >= 0 && block <= BLOCK_MAX) return block;
  throw new InvalidArgumentError('it is a whole number, such as 131072.');
}
