import { DROP_MS_MAX } from '../common/limits.ts';
import { type Drop, type DropReply, type Member, zDropReply } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

/** How a leading NameServer has a replica let go of. */
export interface DropCommands {
  /** When answered, the replica is gone for good. Refused with STALE_EPOCH under a reign that is over. */
  drop(to: Member, order: Drop): Promise<DropReply>;
}

/** @param onFailure told of every refused order: it may say that somebody else leads */
export function dropCommandsOver(peers: Peers, onFailure: (error: unknown) => void): DropCommands {
  return {
    drop: async ({ address }, order) => {
      try {
        return (await peers.callControl(address, Op.DROP, order, zDropReply, undefined, DROP_MS_MAX)).message;
      } catch (error) {
        onFailure(error);
        throw error;
      }
    },
  };
}
