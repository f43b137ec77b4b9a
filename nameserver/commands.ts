import { RECONFIGURE_MS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import { tunable } from '../common/tunables.ts';
import {
  type Configure,
  type ConfigureReply,
  type Fence,
  type FenceReply,
  type Member,
  type Seal,
  type SealReply,
  type SyncOps,
  zConfigureReply,
  zFenceReply,
  zSealReply,
  zSyncOpsReply,
} from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

/**
 * What a leading NameServer tells a DataServer to do. Each carries the reign, which the DataServer promises durably or
 * refuses with STALE_EPOCH; each may be repeated.
 */
export interface Commands {
  /** When answered, no further append to the block becomes durable on that member. */
  fence(to: Member, order: Fence): Promise<FenceReply>;
  /** When answered, the block is durably sealed there. */
  seal(to: Member, order: Seal): Promise<SealReply>;
  /** @returns the newest operation the replica holds then */
  syncOps(to: Member, order: SyncOps): Promise<{ readonly seq: number }>;
  /** When answered, every member holds the new configuration of the block durably; `to` orders its operations. */
  configure(to: Member, order: Configure): Promise<ConfigureReply>;
}

export function commandsOver(peers: Peers): Commands {
  return {
    fence: async ({ address }, order) =>
      (await peers.callControl(address, Op.FENCE, order, zFenceReply, undefined, tunable.fenceMsMax)).message,
    seal: async ({ address }, order) =>
      (await peers.callControl(address, Op.SEAL, order, zSealReply, undefined, tunable.sealMsMax)).message,
    syncOps: async ({ address }, order) =>
      (await peers.callControl(address, Op.SYNC_OPS, order, zSyncOpsReply, undefined, RPC_MS_DEFAULT))
        .message,
    configure: async ({ address }, order) =>
      (await peers.callControl(address, Op.CONFIGURE, order, zConfigureReply, undefined, RECONFIGURE_MS_MAX))
        .message,
  };
}

/** The same, with a word of each failure: a refusal may tell that another one leads. */
export function noticingRefusals(commands: Commands, onFailure: (error: unknown) => void): Commands {
  const noticed = <A extends unknown[], R>(command: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      try {
        return await command(...args);
      } catch (error) {
        onFailure(error);
        throw error;
      }
    };
  };
  return {
    fence: noticed(commands.fence.bind(commands)),
    seal: noticed(commands.seal.bind(commands)),
    syncOps: noticed(commands.syncOps.bind(commands)),
    configure: noticed(commands.configure.bind(commands)),
  };
}
