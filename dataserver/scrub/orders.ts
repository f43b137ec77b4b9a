import { opsDigest } from '../../common/format/ops-digest.ts';
import {
  type BlockDigestsReply,
  decodeControl,
  encodeControl,
  sealFactOf,
  zBlockDigests,
} from '../../common/wire/control.ts';
import type { RpcRequest, RpcResult } from '../../common/wire/rpc-server.ts';
import { zScrub } from '../../common/wire/scrub.ts';
import type { BlockStore } from '../block/store.ts';
import type { ScrubLedger } from './ledger.ts';
import type { Scrubber } from './scrubber.ts';

/** What may be asked about the scrub of this disk. */
export class ScrubOrders {
  readonly #deps: { readonly store: BlockStore; readonly scrubber: Scrubber; readonly ledger: ScrubLedger };

  constructor(deps: {
    readonly store: BlockStore;
    readonly scrubber: Scrubber;
    readonly ledger: ScrubLedger;
  }) {
    this.#deps = deps;
  }

  /** SCRUB: begins a pass, if one is asked for; answers how it stands. */
  async scrub({ header }: RpcRequest): Promise<RpcResult> {
    const { begin } = decodeControl(zScrub, header, 'SCRUB');
    return { header: encodeControl(await this.#deps.scrubber.begin(begin)) };
  }

  /** BLOCK_DIGESTS. @throws TfsError DONT_KNOW for a block that is not here, or cannot be read */
  async digests({ header }: RpcRequest): Promise<RpcResult> {
    const { store, ledger } = this.#deps;
    const { block } = decodeControl(zBlockDigests, header, 'BLOCK_DIGESTS');
    const state = await store.opsState(block);
    // After the last await: generation, seal and operations are of one moment.
    const { generation, seal } = store.head(block);
    const scrubbedAtMs = ledger.readAtMs(block);
    const reply: BlockDigestsReply = {
      generation,
      version: state.version,
      seq: state.seq,
      ops: opsDigest(state).toString('hex'),
      ...(seal === undefined ? {} : { seal: sealFactOf(seal) }),
      ...(scrubbedAtMs === undefined ? {} : { scrubbedAtMs }),
    };
    return { header: encodeControl(reply) };
  }
}
