import { blockId, epochOf, type ServerId, serverId } from '../../common/ids.ts';
import { type BlockEntry, BlockState } from '../../common/wire/messages.ts';

export const servers = (...ids: number[]): ServerId[] => ids.map((id) => serverId(id));

/** A block entry with what a test does not care about filled in: OPEN on 1, 2, 3 with primary 1. */
export function entryOf(
  overrides: Partial<Omit<BlockEntry, 'block' | 'version' | 'members'>> & {
    readonly block?: number;
    readonly epoch?: number;
    readonly n?: number;
    readonly members?: readonly number[];
  } = {},
): BlockEntry {
  const { block = 0x2_0000, epoch = 1, n = 1, members = [1, 2, 3], ...rest } = overrides;
  return {
    block: blockId(block),
    generation: 0,
    state: BlockState.OPEN,
    flags: 0,
    length: 4096,
    seq: 1,
    version: { epoch: epochOf(epoch), n },
    opsPrimary: members[0] ?? 0,
    targetReplicas: 3,
    members: servers(...members),
    deadBytes: 0,
    ...rest,
  };
}
