import { CLEAR_TRACES_MS_MAX } from '../common/limits.ts';
import { zTracesCleared } from '../common/wire/erase.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { TraceCommands } from './erasure.ts';

/** @param onFailure told of every refused order: it may say that somebody else leads */
export function traceCommandsOver(peers: Peers, onFailure: (error: unknown) => void): TraceCommands {
  return {
    clear: async ({ address }, order) => {
      try {
        return (
          await peers.callControl(
            address,
            Op.CLEAR_TRACES,
            order,
            zTracesCleared,
            undefined,
            CLEAR_TRACES_MS_MAX,
          )
        ).message;
      } catch (error) {
        onFailure(error);
        throw error;
      }
    },
  };
}
