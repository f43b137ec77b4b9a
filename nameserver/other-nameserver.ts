import { within } from '../common/deadline.ts';
import type { HostPort, ServerId } from '../common/ids.ts';
import { HAND_OVER_MS_MAX, PEER_CALL_MS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import {
  type PeerState,
  type PeerStateReply,
  type Reign,
  type ServersDrained,
  zEmpty,
  zPeerStateReply,
  zPromoteReply,
} from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

/** What one NameServer says to the other. Each call is short: no answer is an answer too. */
export interface OtherNameServer {
  /** Tells what this one is, and asks what the other is. */
  state(mine: PeerState): Promise<PeerStateReply>;
  /** This one stops: the other one is to lead. Resolves when it does, or cannot. */
  handOver(mine: { readonly nameserver: number; readonly reign: Reign }): Promise<void>;
}

/** @throws TfsError of the wire, DEADLINE; IO, DISK_FULL of the other one */
export function tellRemovedOver(peers: Peers, address: HostPort) {
  return async (removed: readonly ServerId[]): Promise<void> => {
    await peers.callControl(address, Op.SERVERS_REMOVED, { removed }, zEmpty, undefined, RPC_MS_DEFAULT);
  };
}

/** @throws as {@link tellRemovedOver} */
export function tellDrainedOver(peers: Peers, address: HostPort) {
  return async (drained: ServersDrained): Promise<void> => {
    await peers.callControl(address, Op.SERVERS_DRAINED, drained, zEmpty, undefined, RPC_MS_DEFAULT);
  };
}

export function otherOver(peers: Peers, clock: Clock, address: HostPort): OtherNameServer {
  return {
    state: async (mine) => {
      const call = peers.callControl(
        address,
        Op.PEER_STATE,
        mine,
        zPeerStateReply,
        undefined,
        PEER_CALL_MS_MAX,
      );
      return (await within(clock, PEER_CALL_MS_MAX, 'the other NameServer', call)).message;
    },
    handOver: async (mine) => {
      const call = peers.callControl(address, Op.HAND_OVER, mine, zPromoteReply, undefined, HAND_OVER_MS_MAX);
      await within(clock, HAND_OVER_MS_MAX, 'the other NameServer', call);
    },
  };
}
