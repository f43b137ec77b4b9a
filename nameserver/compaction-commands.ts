import { PURGE_MS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import { tunable } from '../common/tunables.ts';
import {
  type AbandonGeneration,
  type CommitGeneration,
  type PreparedGenerationFact,
  type PrepareGeneration,
  type Purge,
  type PurgeReply,
  zPreparedGeneration,
  zPurgeReply,
} from '../common/wire/compaction.ts';
import { type BlockHeadReply, type Member, zBlockHeadReply, zEmpty } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

/**
 * What a leading NameServer tells DataServers in order to compact a block. Each may be repeated, and is refused with
 * STALE_EPOCH under a reign that is over.
 */
export interface CompactionCommands {
  /** To the sequencer. When answered with a barrier, every member has the purge. */
  purge(to: Member, order: Purge): Promise<PurgeReply>;
  /** When answered, the next file is durable there, and nothing else has changed. */
  prepare(to: Member, order: PrepareGeneration): Promise<PreparedGenerationFact>;
  /** When answered, the new generation is durable there, and in use. */
  commit(to: Member, order: CommitGeneration): Promise<void>;
  abandon(to: Member, order: AbandonGeneration): Promise<void>;
  /** A question: it changes nothing. */
  blockHead(to: Member, block: CommitGeneration['block']): Promise<BlockHeadReply>;
}

/** @param onFailure told of every refused order: it may say that somebody else leads */
export function compactionCommandsOver(
  peers: Peers,
  onFailure: (error: unknown) => void,
): CompactionCommands {
  const noticed = async <T>(work: Promise<{ readonly message: T }>): Promise<T> => {
    try {
      return (await work).message;
    } catch (error) {
      onFailure(error);
      throw error;
    }
  };
  return {
    purge: ({ address }, order) =>
      noticed(peers.callControl(address, Op.PURGE, order, zPurgeReply, undefined, PURGE_MS_MAX)),
    prepare: ({ address }, order) =>
      noticed(
        peers.callControl(
          address,
          Op.PREPARE_GENERATION,
          order,
          zPreparedGeneration,
          undefined,
          tunable.prepareGenerationMsMax,
        ),
      ),
    commit: async ({ address }, order) => {
      await noticed(
        peers.callControl(address, Op.COMMIT_GENERATION, order, zEmpty, undefined, RPC_MS_DEFAULT),
      );
    },
    abandon: async ({ address }, order) => {
      await noticed(
        peers.callControl(address, Op.ABANDON_GENERATION, order, zEmpty, undefined, RPC_MS_DEFAULT),
      );
    },
    blockHead: async ({ address }, block) =>
      (await peers.callControl(address, Op.BLOCK_HEAD, { block }, zBlockHeadReply, undefined, RPC_MS_DEFAULT))
        .message,
  };
}
