import {
  type DropEntry,
  DropReason,
  encodeDropEntry,
  encodeDropLogHeader,
} from '../../common/format/drop-log.ts';
import { type BlockId, epochOf } from '../../common/ids.ts';
import { EXAMPLE_CLUSTER } from './example-block.ts';

/** A replica that was let go of, and taken in again five minutes later. */
export const EXAMPLE_DROPS: readonly DropEntry[] = [
  {
    block: 65_537 as BlockId,
    generation: 0,
    version: { epoch: epochOf(5), n: 1 },
    reason: DropReason.EXCESS,
    atMs: 1_700_000_000_000,
  },
  {
    block: 65_537 as BlockId,
    generation: 0,
    version: { epoch: epochOf(7), n: 2 },
    reason: DropReason.RETURNED,
    atMs: 1_700_000_300_000,
  },
];

export function buildDropLog(entries: readonly DropEntry[] = EXAMPLE_DROPS): Buffer {
  const header = encodeDropLogHeader(EXAMPLE_CLUSTER);
  return Buffer.concat([header, ...entries.map((entry) => encodeDropEntry(entry, header))]);
}
