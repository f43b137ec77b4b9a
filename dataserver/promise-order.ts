import { isTfsError } from '../common/errors.ts';
import type { Incarnation, ServerId } from '../common/ids.ts';
import {
  compareReigns,
  decodeControl,
  encodeControl,
  type PromiseReply,
  zPromise,
} from '../common/wire/control.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { NameServers } from './nameservers.ts';
import type { PromiseKeeper } from './promise.ts';

export interface PromiseOrderDeps {
  readonly server: ServerId;
  readonly incarnation: Incarnation;
  readonly promise: PromiseKeeper;
  readonly nameservers: Pick<NameServers, 'hurry'>;
}

/**
 * PROMISE: a NameServer begins to lead, or makes sure that it still does. What is promised is the answer, durable, also
 * where that is something higher: then the asker does not lead any more.
 */
export async function promiseOrder(deps: PromiseOrderDeps, { header }: RpcRequest): Promise<RpcResult> {
  const { server, incarnation, promise, nameservers } = deps;
  const { reign } = decodeControl(zPromise, header, 'PROMISE');
  if (compareReigns(reign, promise.reign) > 0) {
    try {
      await promise.accept(reign);
    } catch (error) {
      // Something higher was promised meanwhile: the answer says what.
      if (!isTfsError(error, 'STALE_EPOCH')) throw error;
    }
    // Who leads is learnt from an answer to a heartbeat: at once.
    nameservers.hurry();
  }
  const reply: PromiseReply = { server, incarnation, promise: promise.reign };
  return { header: encodeControl(reply) };
}
