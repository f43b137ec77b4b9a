import type { BlockId } from '../../common/ids.ts';
import { RPC_MS_DEFAULT, VERIFY_MS_MAX } from '../../common/limits.ts';
import {
  type ClusterMap,
  encodeControl,
  type ServerInfo,
  type VerifyReply,
  zVerifyReply,
} from '../../common/wire/control.ts';
import { type BlockEntry, decodeBlockEntries, Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';

/** What an operator asks of the servers, without a gateway. */
export interface Operator {
  /** @throws TfsError UNAVAILABLE when no NameServer answers */
  map(): Promise<ClusterMap>;
  /** Every replica of a DataServer. */
  list(server: ServerInfo): Promise<BlockEntry[]>;
  /** Has one replica read as a whole; what does not verify is repaired from then on. */
  verify(server: ServerInfo, block: BlockId): Promise<VerifyReply>;
}

export function operatorOver(peers: Peers, map: () => Promise<ClusterMap>): Operator {
  return {
    map,
    list: async ({ address }) => {
      const reply = await peers.call(address, Op.LIST_BLOCKS, encodeControl({}), undefined, RPC_MS_DEFAULT);
      return decodeBlockEntries(reply.payload);
    },
    verify: async ({ address }, block) =>
      (await peers.callControl(address, Op.VERIFY, { block }, zVerifyReply, undefined, VERIFY_MS_MAX))
        .message,
  };
}
