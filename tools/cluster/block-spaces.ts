import { RPC_MS_DEFAULT } from '../../common/limits.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import { type BlockSpaceReply, zBlockSpaceReply } from '../../common/wire/space.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { askClusterMap } from './cluster-view.ts';

/** Indexes of many blocks may have to be loaded for it. */
const ASK_MS_MAX = 12 * RPC_MS_DEFAULT;

/**
 * What the bytes of blocks are, on every DataServer that is up.
 *
 * @param rows of each at the most, the blocks with the most garbage
 */
export function blockSpaces(
  home: string,
  rows: number,
): Promise<(BlockSpaceReply & { readonly server: number })[]> {
  return withOperatorPeers(home, async (peers, config) => {
    const { servers } = await askClusterMap(peers, config);
    const up = servers.filter(({ state }) => state === 'up');
    return Promise.all(
      up.map(async ({ id, address }) => {
        const ask = encodeControl({ rows });
        const { payload } = await peers.call(address, Op.BLOCK_SPACE, ask, undefined, ASK_MS_MAX);
        return { server: id as number, ...decodeControl(zBlockSpaceReply, payload, 'answer to BLOCK_SPACE') };
      }),
    );
  });
}
