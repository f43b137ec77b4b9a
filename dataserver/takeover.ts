import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { CAN_ORDER_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import {
  type ConfigurationWish,
  decodeControl,
  type RequestCfgReply,
  zCanOrderReply,
} from '../common/wire/control.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockStore } from './block/store.ts';
import type { Directory } from './directory.ts';

export interface TakeoverDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Pick<Peers, 'call'>;
  readonly directory: Pick<Directory, 'address'>;
  /** Why nothing new should be put on this disk now; undefined while it takes writes. */
  readonly unfit: () => TfsError | undefined;
  readonly requestConfiguration: (
    block: BlockId,
    failed: readonly ServerId[],
    wish?: ConfigurationWish,
  ) => Promise<Pick<RequestCfgReply, 'opsPrimary'>>;
}

/**
 * An operation came to a member that does not order the block's operations, because its client could not reach the one
 * that does, or was told that it cannot. If it can, the client is told; if not, the leader is asked to let another member
 * take its place. And whoever orders them and cannot, because its disk fails, has another one take its place.
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
    const { store, server, unfit } = this.#deps;
    if (store.info(block)?.opsPrimary !== server) return this.#once(block, () => this.#ask(block));
    const why = unfit();
    return why && this.giveUp(block, why);
  }

  /**
   * This server cannot do what is asked of it as the sequencer of the block: the others go on without it, if they can.
   *
   * @param why CORRUPT, where only a member with a sound copy could do it
   * @throws TfsError UNAVAILABLE, always; details `opsPrimary`: who is the sequencer from now on
   */
  async giveUp(block: BlockId, why: TfsError): Promise<never> {
    await this.#once(block, () => this.#giveUp(block, why));
    // What was asked was another question, and made this server the sequencer once more.
    throw cannot(why, new TfsError('UNAVAILABLE', 'the configuration has changed meanwhile'));
  }

  /** Asks the leader once for all who wait. */
  #once(block: BlockId, ask: () => Promise<void>): Promise<void> {
    let asking = this.#asking.get(block);
    if (asking === undefined) {
      asking = ask().finally(() => this.#asking.delete(block));
      this.#asking.set(block, asking);
    }
    return asking;
  }

  async #giveUp(block: BlockId, why: TfsError): Promise<never> {
    const { server, requestConfiguration } = this.#deps;
    const wish = { sound: why.code === 'CORRUPT' };
    const now = await requestConfiguration(block, [server], wish).catch((error: unknown) => {
      throw cannot(why, toTfsError(error));
    });
    if (now.opsPrimary === server)
      throw cannot(why, new TfsError('UNAVAILABLE', 'nobody else can do it now'));
    mark('sequencer-gave-up');
    throw elsewhere(block, now.opsPrimary);
  }

  async #ask(block: BlockId): Promise<void> {
    const { store, server, requestConfiguration } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    const { opsPrimary } = info;
    if (await this.#canOrder(opsPrimary)) throw elsewhere(block, opsPrimary);
    const now = await requestConfiguration(block, [opsPrimary]);
    // What is held here may be older: the others can have left this replica out.
    if (store.info(block)?.opsPrimary !== server) throw elsewhere(block, now.opsPrimary);
    mark('sequencer-taken-over');
  }

  async #canOrder(server: ServerId): Promise<boolean> {
    const { peers, directory } = this.#deps;
    try {
      const { header } = await peers.call(
        await directory.address(server),
        Op.CAN_ORDER,
        EMPTY_BUFFER,
        undefined,
        CAN_ORDER_MS_MAX,
      );
      return decodeControl(zCanOrderReply, header, 'CAN_ORDER').able;
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

/** @param rest why nobody else does it; it may say, by its details, who could be asked */
const cannot = (why: TfsError, { message, details = {} }: TfsError): TfsError =>
  new TfsError('UNAVAILABLE', `${why.message}; ${message}`, { cause: why, details, retryAfterMs: 500 });
