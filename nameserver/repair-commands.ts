import type { BlockId } from '../common/ids.ts';
import { RPC_MS_DEFAULT } from '../common/limits.ts';
import { tunable } from '../common/tunables.ts';
import {
  type BlockHeadReply,
  type Member,
  type Repair,
  type RepairReply,
  zBlockHeadReply,
  zRepairReply,
} from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

/** What a leading NameServer tells a DataServer whose replica is damaged, and asks those that have a better one. */
export interface RepairCommands {
  /** When answered, what is said of the replica is durable there. Refused with STALE_EPOCH under a reign that is over. */
  repair(to: Member, order: Repair): Promise<RepairReply>;
  /** A question: it changes nothing, and carries no reign. */
  blockHead(to: Member, block: BlockId): Promise<BlockHeadReply>;
}

/** @param onFailure told of every refused order: it may say that somebody else leads */
export function repairCommandsOver(peers: Peers, onFailure: (error: unknown) => void): RepairCommands {
  return {
    repair: async ({ address }, order) => {
      try {
        return (
          await peers.callControl(address, Op.REPAIR, order, zRepairReply, undefined, tunable.repairMsMax)
        ).message;
      } catch (error) {
        onFailure(error);
        throw error;
      }
    },
    blockHead: async ({ address }, block) =>
      (await peers.callControl(address, Op.BLOCK_HEAD, { block }, zBlockHeadReply, undefined, RPC_MS_DEFAULT))
        .message,
  };
}
