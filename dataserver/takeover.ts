import { TfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { SEQUENCER_PING_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { RequestCfgReply } from '../common/wire/control.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockStore } from './block/store.ts';
import type { Directory } from './directory.ts';

export interface TakeoverDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Pick<Peers, 'call'>;
  readonly directory: Pick<Directory, 'address'>;
  readonly requestConfiguration: (
    block: BlockId,
    failed: readonly ServerId[],
  ) => Promise<Pick<RequestCfgReply, 'opsPrimary'>>;
}

/**
 * An operation came to a member that does not order the block's operations, because its client could not reach the one
 * that does. If that one lives, the client is told; if not, the leader is asked to let another member take its place.
 */
export class Takeover {
  readonly #deps: TakeoverDeps;
  readonly #asking = new Map<BlockId, Promise<void>>();

  constructor(deps: TakeoverDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves at once on the sequencer, or when this server has become it.
   * @throws TfsError UNAVAILABLE, details `opsPrimary` where another one is the sequencer; DONT_KNOW for an unknown block
   */
  ensure(block: BlockId): Promise<void> | undefined {
    const { store, server } = this.#deps;
    if (store.info(block)?.opsPrimary === server) return undefined;
    let asking = this.#asking.get(block);
    if (asking === undefined) {
      asking = this.#ask(block).finally(() => this.#asking.delete(block));
      this.#asking.set(block, asking);
    }
    return asking;
  }

  async #ask(block: BlockId): Promise<void> {
    const { store, server, requestConfiguration } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    const { opsPrimary } = info;
    if (await this.#lives(opsPrimary)) throw elsewhere(block, opsPrimary);
    const now = await requestConfiguration(block, [opsPrimary]);
    // What is held here may be older: the others can have left this replica out.
    if (store.info(block)?.opsPrimary !== server) throw elsewhere(block, now.opsPrimary);
    mark('sequencer-taken-over');
  }

  async #lives(server: ServerId): Promise<boolean> {
    const { peers, directory } = this.#deps;
    try {
      await peers.call(
        await directory.address(server),
        Op.PING,
        EMPTY_BUFFER,
        undefined,
        SEQUENCER_PING_MS_MAX,
      );
      return true;
    } catch {
      // Whatever the reason: whether it is to be left out the leader decides.
      return false;
    }
  }
}

const elsewhere = (block: BlockId, opsPrimary: ServerId): TfsError =>
  new TfsError('UNAVAILABLE', `DataServer ${opsPrimary} sequences the operations of block ${block}`, {
    details: { opsPrimary },
    retryAfterMs: 250,
  });
