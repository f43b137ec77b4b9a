/** Names of a block's files: `<block>.<generation>.blk`, `<block>.<n>.ops`, `<block>.<generation>.idx`, in decimal. */

import type { BlockId } from '../ids.ts';

export type BlockFileKind = 'blk' | 'ops' | 'idx';

export interface BlockFileName {
  readonly block: BlockId;
  /** The generation of a .blk or .idx, the n of an .ops. */
  readonly number: number;
  readonly kind: BlockFileKind;
}

export const blockFileName = (block: BlockId, number: number, kind: BlockFileKind): string =>
  `${block}.${number}.${kind}`;

/** @param name without a directory. @returns undefined for any other name, and for one with leading zeros */
export function parseBlockFileName(name: string): BlockFileName | undefined {
  const match = /^(0|[1-9]\d{0,9})\.(0|[1-9]\d{0,9})\.(blk|ops|idx)$/.exec(name);
  if (match === null) return undefined;
  const block = Number(match[1]);
  const number = Number(match[2]);
  if (block > 0xffff_ffff || number > 0xffff_ffff) return undefined;
  return { block: block as BlockId, number, kind: match[3] as BlockFileKind };
}
