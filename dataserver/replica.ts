import { isTfsError, TfsError } from '../common/errors.ts';
import { type Op as BlockOp, decodeOpBodies, encodeOpBodies } from '../common/format/ops.ts';
import { decodeSuperblock } from '../common/format/superblock.ts';
import { type BlockId, compareVersions, type ServerId } from '../common/ids.ts';
import { BATCH_BYTES_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import {
  decodeControl,
  encodeControl,
  type Member,
  type Seal,
  type SealFact,
  zCreateBlock,
  zFence,
  zOpsTail,
  zReadRaw,
  zSeal,
  zSyncOps,
} from '../common/wire/control.ts';
import { BlockFlag, decodeAppend, decodeOps, EMPTY_BUFFER, encodeOps, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore, FenceFacts, SealInfo } from './block/store.ts';
import type { Directory } from './directory.ts';
import type { PromiseKeeper } from './promise.ts';

export interface ReplicaDeps {
  readonly server: ServerId;
  readonly clusterUuid: string;
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly promise: PromiseKeeper;
  readonly directory: Directory;
  readonly log: Log;
  /** A block is sealed here. */
  readonly onSealed: (block: BlockId) => void;
  readonly onFenced: (block: BlockId) => void;
}

const DONE: RpcResult = { header: EMPTY_BUFFER };
/** Bytes asked of a source at a time while a block is repaired before its seal. */
const FETCH_BYTES = 8 * BATCH_BYTES_MAX;

/** What this DataServer does for blocks as one of their members, at the word of the primary or of the leader. */
export class Replica {
  readonly #deps: ReplicaDeps;

  constructor(deps: ReplicaDeps) {
    this.#deps = deps;
  }

  /** CREATE_BLOCK from the primary, under the reign that granted the block. Durable when answered. */
  async create({ header, payload }: RpcRequest): Promise<RpcResult> {
    const { store, promise, directory, server, clusterUuid } = this.#deps;
    const order = decodeControl(zCreateBlock, header, 'CREATE_BLOCK');
    const superblock = decodeSuperblock(payload);
    if (!superblock.ok) throw new TfsError('PROTOCOL', `CREATE_BLOCK: ${superblock.why}`);
    const { value } = superblock;
    const members = order.members.map((member) => member.id);
    if (value.block !== order.block || value.clusterUuid !== clusterUuid || !members.includes(server)) {
      throw new TfsError('PROTOCOL', `CREATE_BLOCK ${order.block}: superblock and order do not agree`);
    }
    await promise.accept(order.reign);
    for (const member of order.members) directory.learn(member.id, member.address);
    await store.create(value, { version: order.version, opsPrimary: order.opsPrimary, members });
    return DONE;
  }

  /** APPEND: a batch, verified record by record. The answer means that it is durable here. */
  async append({ header, payload }: RpcRequest): Promise<RpcResult> {
    const { block, session, offset, ackedLength } = decodeAppend(header);
    await this.#deps.store.appendRaw(block, session, offset, payload, ackedLength);
    return DONE;
  }

  /** OPS from the sequencer of the version that is held here, in order. The answer means that they are durable here. */
  async ops({ header, payload, peer }: RpcRequest): Promise<RpcResult> {
    const { store } = this.#deps;
    const { block, version, firstSeq } = decodeOps(header);
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    if (
      compareVersions(version, info.version) !== 0 ||
      peer.id !== String(info.opsPrimary) ||
      info.prepared !== undefined
    ) {
      throw new TfsError(
        'STALE_EPOCH',
        `operations on block ${block} under version (${version.epoch}, ${version.n}) from DataServer ${peer.id}: this replica holds (${info.version.epoch}, ${info.version.n}) of DataServer ${info.opsPrimary}`,
      );
    }
    if (firstSeq !== info.seq + 1) {
      throw new TfsError('OPS_GAP', `block ${block}: operation ${firstSeq} does not follow ${info.seq}`, {
        details: { seq: info.seq },
      });
    }
    // Without ops it is asked whether it holds everything: durably, after what a killed process may have left.
    await store.appendOps(block, payload.length > 0 ? opsIn(payload) : []);
    return DONE;
  }

  /** READ_RAW: records for another replica. */
  async readRaw({ header }: RpcRequest): Promise<RpcResult> {
    const { block, generation, offset, length } = decodeControl(zReadRaw, header, 'READ_RAW');
    const { bytes, next } = await this.#deps.store.readRaw(block, generation, offset, length);
    return { header: encodeControl({ next }), payload: [bytes] };
  }

  /** OPS_TAIL: the sequencer's log after some op. */
  async opsTail({ header }: RpcRequest): Promise<RpcResult> {
    const { store } = this.#deps;
    const { block, afterSeq } = decodeControl(zOpsTail, header, 'OPS_TAIL');
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    const ops = await store.opsAfter(block, afterSeq);
    return {
      header: encodeOps({ block, version: info.version, firstSeq: afterSeq + 1 }),
      payload: [encodeOpBodies(ops)],
    };
  }

  /** SYNC_OPS: this replica is behind; fetch the rest from the sequencer. */
  async syncOps({ header }: RpcRequest): Promise<RpcResult> {
    const { store, peers, promise } = this.#deps;
    const { block, reign, from } = decodeControl(zSyncOps, header, 'SYNC_OPS');
    await promise.accept(reign);
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    if (from.id !== this.#deps.server) {
      const tail = await peers.call(
        from.address,
        Op.OPS_TAIL,
        encodeControl({ block, afterSeq: info.seq }),
        undefined,
        RPC_MS_DEFAULT,
      );
      if (compareVersions(decodeOps(tail.header).version, info.version) !== 0) {
        throw new TfsError(
          'CONFLICT',
          `block ${block}: this replica and DataServer ${from.id} hold different configurations`,
        );
      }
      const ops = opsIn(tail.payload);
      await store.appendOps(block, ops);
    }
    return { header: encodeControl({ seq: store.info(block)?.seq ?? info.seq }) };
  }

  /** FENCE: after the answer no append of this block becomes durable here. */
  async fence({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise } = this.#deps;
    const { block, reign } = decodeControl(zFence, header, 'FENCE');
    await promise.accept(reign);
    const info = store.info(block);
    if (info === undefined || (info.flags & BlockFlag.QUARANTINED) !== 0) {
      // One that cannot be read has no session in this process either: there is nothing to fence.
      return {
        header: encodeControl({
          known: info !== undefined,
          unreadable: info !== undefined,
          validLength: 0,
          slots: 0,
          provenLength: 0,
          holes: [],
          clean: false,
          members: info?.superblock?.members.map(({ id }) => id) ?? info?.members ?? [],
        }),
      };
    }
    const facts = await store.fence(block, reign.epoch);
    this.#deps.onFenced(block);
    return {
      header: encodeControl({
        known: true,
        validLength: facts.validLength,
        slots: facts.slots,
        provenLength: facts.provenLength,
        holes: facts.holes,
        clean: facts.clean,
        digest: facts.digest?.toString('hex'),
        seal: facts.seal === undefined ? undefined : sealFact(facts.seal),
        members: facts.members,
      }),
    };
  }

  /** SEAL: make the block immutable at a length, after fetching what is missing below it. Durable when answered. */
  async seal({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise } = this.#deps;
    const order = decodeControl(zSeal, header, 'SEAL');
    await promise.accept(order.reign);
    let sealed = store.info(order.block)?.seal;
    if (sealed === undefined) {
      await this.#complete(order);
      sealed = await store.seal(order.block, {
        length: order.length,
        slots: order.slots,
        digest: order.digest === undefined ? undefined : Buffer.from(order.digest, 'hex'),
        epoch: order.epoch,
      });
    }
    if (
      sealed.length !== order.length ||
      (order.digest !== undefined && order.digest !== sealed.digest.toString('hex'))
    ) {
      throw new TfsError(
        'CONFLICT',
        `block ${order.block} is sealed here at ${sealed.length} with another digest than ordered`,
      );
    }
    if (order.complete) store.setSealComplete(order.block);
    this.#deps.onSealed(order.block);
    return {
      header: encodeControl({
        digest: sealed.digest.toString('hex'),
        length: sealed.length,
        slots: sealed.slots,
      }),
    };
  }

  /** Fetches from other members what does not verify here below the length to be sealed. */
  async #complete(order: Seal): Promise<void> {
    const { store, log } = this.#deps;
    let facts = await store.fence(order.block, order.reign.epoch);
    for (
      let missing = missingOf(facts, order.length);
      missing.length > 0;
      missing = missingOf(facts, order.length)
    ) {
      const before = missing.reduce((sum, { start, end }) => sum + end - start, 0);
      for (const { start, end } of missing) await this.#fetch(order, start, end);
      facts = await store.fence(order.block, order.reign.epoch);
      const after = missingOf(facts, order.length).reduce((sum, { start, end }) => sum + end - start, 0);
      if (after >= before) {
        throw new TfsError(
          'CONFLICT',
          `block ${order.block}: ${after} bytes below ${order.length} verify on no member that answers`,
        );
      }
    }
    if (facts.holes.length > 0) log.info({ block: order.block }, 'repaired before the seal');
  }

  async #fetch(order: Seal, start: number, end: number): Promise<void> {
    const { store, peers, server, log } = this.#deps;
    const generation = store.info(order.block)?.generation ?? 0;
    let at = start;
    const sources: Member[] = order.sources.filter((source) => source.id !== server);
    for (const source of sources) {
      try {
        while (at < end) {
          const ask = encodeControl({
            block: order.block,
            generation,
            offset: at,
            length: Math.min(end - at, FETCH_BYTES),
          });
          const { payload } = await peers.call(source.address, Op.READ_RAW, ask, undefined, RPC_MS_DEFAULT);
          if (payload.length === 0) break;
          await store.fill(order.block, at, payload);
          at += payload.length;
        }
      } catch (error) {
        if (!isTfsError(error)) throw error;
        log.info(
          { block: order.block, source: source.id, reason: error.message },
          'a source could not help; asking the next',
        );
      }
      if (at >= end) return;
    }
  }
}

function opsIn(payload: Buffer): BlockOp[] {
  const ops = decodeOpBodies(payload);
  if (!ops.ok) throw new TfsError('PROTOCOL', ops.why);
  return ops.value;
}

/** What does not verify here of the first `length` bytes. */
function missingOf(facts: FenceFacts, length: number): { start: number; end: number }[] {
  const missing = facts.holes.filter((hole) => hole.start < length).map(({ start, end }) => ({ start, end }));
  if (facts.validLength < length) missing.push({ start: facts.validLength, end: length });
  return missing;
}

const sealFact = (
  seal: SealInfo,
): Omit<SealFact, 'digest' | 'epoch'> & { digest: string; epoch: number } => ({
  length: seal.length,
  slots: seal.slots,
  digest: seal.digest.toString('hex'),
  epoch: seal.epoch,
});
