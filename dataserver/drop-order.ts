import { isTfsError } from '../common/errors.ts';
import { type BlockId, epochOf } from '../common/ids.ts';
import { decodeControl, encodeControl, zDrop } from '../common/wire/control.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore } from './block/store.ts';
import type { PromiseKeeper } from './promise.ts';

export interface DropOrderDeps {
  readonly store: Pick<BlockStore, 'drop'>;
  readonly promise: Pick<PromiseKeeper, 'during'>;
}

/**
 * DROP: the leader has counted enough other copies of the block. Answered when the replica is gone, durably. A later
 * leader must not count it: whoever is shown a higher promise is shown what is left after this as well.
 *
 * @throws TfsError STALE_EPOCH under a reign that is over; otherwise as BlockStore.drop
 */
export async function dropOrder(
  { store, promise }: DropOrderDeps,
  { header }: RpcRequest,
): Promise<RpcResult> {
  const order = decodeControl(zDrop, header, 'DROP');
  const dropped = await promise.during(order.reign, () => store.drop(order));
  return { header: encodeControl({ dropped }) };
}

/** A planted bug: nobody has counted other copies. */
export async function dropUnasked(store: Pick<BlockStore, 'drop' | 'info'>, block: BlockId): Promise<void> {
  const info = store.info(block);
  if (info === undefined) return;
  const { generation, version } = info;
  const newer = { epoch: epochOf(version.epoch + 1), n: 1 };
  try {
    await store.drop({ block, generation, version: newer, reason: 'excess' });
  } catch (error) {
    if (!isTfsError(error)) throw error;
  }
}
