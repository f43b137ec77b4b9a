import { TfsError } from '../common/errors.ts';
import { decodeOpBodies } from '../common/format/ops.ts';
import { decodeSuperblock, encodeSuperblock } from '../common/format/superblock.ts';
import type { ServerId } from '../common/ids.ts';
import { READ_RAW_MS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import {
  decodeControl,
  encodeControl,
  type Member,
  type Repair,
  sealFactOf,
  sealInfoOf,
  zBlockHead,
  zBlockHeadReply,
  zReadRawReply,
  zRepair,
} from '../common/wire/control.ts';
import { decodeOps, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore, Donor, Received } from './block/store.ts';
import type { Directory } from './directory.ts';
import type { PromiseKeeper } from './promise.ts';

/** How fast and how long a replica may be made. */
export interface Pace {
  /** A piece came: resolves when the next one may be asked for. */
  came(bytes: number): Promise<void> | void;
  /** @throws TfsError when it is too late for anything more */
  assertInTime(): void;
}
const UNPACED: Pace = { came: () => undefined, assertInTime: () => undefined };

export interface ReplicaRepairDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly promise: PromiseKeeper;
  readonly directory: Directory;
  /** The replica of this block is another file now. */
  readonly onRepaired: (block: Repair['block']) => void;
}

/** The repair of replicas on this disk, at the word of the leader, and what this disk gives to repairs elsewhere. */
export class ReplicaRepair {
  readonly stats = { repaired: 0, fetched: 0, lost: 0 };
  readonly #deps: ReplicaRepairDeps;
  #closing = false;

  constructor(deps: ReplicaRepairDeps) {
    this.#deps = deps;
  }

  /**
   * REPAIR: make the replica of a sealed block whole, or make it where there is none. The answer means that what it says
   * is durable here, under the block's name.
   */
  async repair({ header }: RpcRequest): Promise<RpcResult> {
    return { header: encodeControl(await this.make(decodeControl(zRepair, header, 'REPAIR'))) };
  }

  /**
   * As ordered by the leader, in a REPAIR or in answer to a question. What takes long happens beside everything; only
   * the step by which the replica comes to be there holds up a new leader, which thereby knows of it, or ends it.
   *
   * @throws TfsError STALE_EPOCH when another leader commands by now; otherwise as {@link BlockStore.receiveReplica}
   */
  async make(order: Repair, pace: Pace = UNPACED): Promise<Received> {
    const { store, promise, directory, onRepaired } = this.#deps;
    const { block, generation, version, joins, mayLoseUnread = false, reign } = order;
    await promise.accept(reign);
    for (const { id, address } of order.sources) directory.learn(id, address);
    const wanted = { block, generation, version, joins, mayLoseUnread, seal: sealInfoOf(order.seal) };
    const received = await store.receiveReplica(wanted, this.donors(order, pace), (install) =>
      promise.during(reign, async () => {
        pace.assertInTime();
        await install();
      }),
    );
    if (received.whole) this.stats.repaired++;
    this.stats.fetched += received.fetched;
    this.stats.lost += received.lost;
    onRepaired(block);
    return received;
  }

  /** BLOCK_HEAD: the superblock, and the seal. */
  head({ header }: RpcRequest): RpcResult {
    const { store } = this.#deps;
    const { block } = decodeControl(zBlockHead, header, 'BLOCK_HEAD');
    const { superblock, generation, seal } = store.head(block);
    const state = store.info(block)?.state;
    return {
      header: encodeControl({ generation, state, seal: seal && sealFactOf(seal) }),
      payload: [encodeSuperblock(superblock)],
    };
  }

  /** Repairs that are under way end soon, in an error, so that a stop does not wait for them. */
  close(): void {
    this.#closing = true;
  }

  /** Replicas of a block as sources, as far as they are of that generation. */
  donors(
    { block, generation, sources }: Pick<Repair, 'block' | 'generation' | 'sources'>,
    pace: Pace = UNPACED,
  ): Donor[] {
    return sources
      .filter(({ id }) => id !== this.#deps.server)
      .map((source) => ({
        server: source.id,
        head: async () => {
          const reply = await this.#ask(source, Op.BLOCK_HEAD, { block }, RPC_MS_DEFAULT);
          const superblock = decodeSuperblock(reply.payload);
          if (!superblock.ok)
            throw new TfsError('PROTOCOL', `BLOCK_HEAD of server ${source.id}: ${superblock.why}`);
          const { seal, ...head } = decodeControl(zBlockHeadReply, reply.header, 'answer to BLOCK_HEAD');
          return { ...head, superblock: superblock.value, seal: seal && sealInfoOf(seal) };
        },
        records: async (offset, length) => {
          pace.assertInTime();
          const question = { block, generation, offset, length };
          const reply = await this.#ask(source, Op.READ_RAW, question, READ_RAW_MS_MAX);
          const { next } = decodeControl(zReadRawReply, reply.header, 'answer to READ_RAW');
          await pace.came(reply.payload.length);
          return { bytes: reply.payload, next };
        },
        ops: async () => {
          const reply = await this.#ask(source, Op.OPS_TAIL, { block, afterSeq: 0 }, RPC_MS_DEFAULT);
          const ops = decodeOpBodies(reply.payload);
          if (!ops.ok) throw new TfsError('PROTOCOL', `operations of server ${source.id}: ${ops.why}`);
          return { version: decodeOps(reply.header).version, ops: ops.value };
        },
      }));
  }

  #ask({ address }: Member, op: number, question: object, deadlineMs: number) {
    if (this.#closing) throw new TfsError('CLOSED', 'this DataServer is stopping');
    return this.#deps.peers.call(address, op, encodeControl(question), undefined, deadlineMs);
  }
}
