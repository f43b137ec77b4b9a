import { isTfsError, TfsError } from '../common/errors.ts';
import { type Op as BlockOp, decodeOpBodies, encodeOpBodies } from '../common/format/ops.ts';
import { decodeSuperblock } from '../common/format/superblock.ts';
import { type BlockId, compareVersions, type ServerId } from '../common/ids.ts';
import { RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import { tunable } from '../common/tunables.ts';
import {
  decodeControl,
  encodeControl,
  type Member,
  type Seal,
  sealFactOf,
  zCreateBlock,
  zFence,
  zOpsTail,
  zReadRaw,
  zReadRawReply,
  zSeal,
  zSyncOps,
} from '../common/wire/control.ts';
import {
  BlockFlag,
  decodeAppend,
  decodeOps,
  EMPTY_BUFFER,
  encodeOps,
  encodeOpsReply,
  Op,
} from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore, SealOrder } from './block/store.ts';
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
    for (const member of order.members) directory.learn(member.id, member.address);
    await promise.during(order.reign, () =>
      store.create(value, { version: order.version, opsPrimary: order.opsPrimary, members }),
    );
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
      mark('ops-refused-version');
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
    return { header: encodeOpsReply({ version: info.version, seq: info.seq }) };
  }

  /** READ_RAW: records for another replica. */
  async readRaw({ header }: RpcRequest): Promise<RpcResult> {
    const { block, generation, offset, length, sound } = decodeControl(zReadRaw, header, 'READ_RAW');
    const { store } = this.#deps;
    if (sound) {
      const { bytes, ...found } = await store.readSound(block, generation, { offset, length });
      return { header: encodeControl(found), payload: [bytes] };
    }
    const { bytes, next } = await store.readRaw(block, generation, offset, length);
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
    if (store.info(block) === undefined) await store.forbidCreation(block);
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
        seal: facts.seal === undefined ? undefined : sealFactOf(facts.seal),
        members: facts.members,
      }),
    };
  }

  /** SEAL: make the block immutable at a length, after fetching what is missing below it. Durable when answered. */
  async seal({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise } = this.#deps;
    const order = decodeControl(zSeal, header, 'SEAL');
    await promise.accept(order.reign);
    const wanted: SealOrder = {
      length: order.length,
      slots: order.slots,
      digest: order.digest === undefined ? undefined : Buffer.from(order.digest, 'hex'),
      epoch: order.epoch,
      complete: order.complete,
      lost: order.lost ?? 0,
      mayLose: order.mayLose,
      mayLoseUnread: order.mayLoseUnread,
    };
    await this.#complete(order, wanted);
    const { digest, length, slots, lost } = await store.seal(order.block, wanted);
    this.#deps.onSealed(order.block);
    return { header: encodeControl({ digest: digest.toString('hex'), length, slots, lost }) };
  }

  /**
   * Fetches from other members what does not verify here below the length to be sealed. What none of them has stays
   * missing; whether it may, the seal decides.
   *
   * @throws TfsError UNAVAILABLE where something is missing and not everyone could be asked
   */
  async #complete(order: Seal, wanted: SealOrder): Promise<void> {
    const { store, server, log } = this.#deps;
    const { block } = order;
    const bytesIn = (spans: readonly Span[]): number =>
      spans.reduce((sum, { start, end }) => sum + end - start, 0);
    let missing: readonly Span[] = await store.missingFor(block, wanted);
    const before = bytesIn(missing);
    while (missing.length > 0) {
      const sources = new Set(order.sources.filter((source) => source.id !== server));
      const asked = sources.size;
      const unsure = new Set<Member>();
      let fetched = 0;
      for (const span of missing) fetched += await this.#fetch(block, { sources, unsure }, span);
      if (fetched > 0) missing = await store.missingFor(block, wanted);
      else if (sources.size < asked || (unsure.size > 0 && !order.mayLoseUnread))
        throw new TfsError(
          'UNAVAILABLE',
          `block ${block}: ${bytesIn(missing)} bytes are missing, and not all sources could be asked`,
        );
      else break;
    }
    const after = bytesIn(missing);
    if (before > after) {
      mark('seal-record-fetched');
      log.info({ block, bytes: before - after }, 'completed before the seal');
    }
    if (after > 0) log.error({ block, bytes: after }, 'records verify on no replica that answers');
  }

  /**
   * Fetches one span, from whoever has the next record of it. Where nobody has, it goes on at the next that anyone has.
   *
   * @param asked of the sources those that cannot help are taken out; unsure are those whose disk failed to read some of it
   * @returns bytes that were filled
   */
  async #fetch(
    block: BlockId,
    { sources, unsure }: { readonly sources: Set<Member>; readonly unsure: Set<Member> },
    { start, end }: Span,
  ): Promise<number> {
    let filled = 0;
    for (let at = start; at < end; ) {
      let next = end;
      const from = at;
      for (const source of [...sources]) {
        const found = await this.#fetchFrom(block, source, { start: at, end });
        if (found?.unread) unsure.add(source);
        if (found === undefined) sources.delete(source);
        else if (found.offset === at) {
          at += found.bytes;
          filled += found.bytes;
        } else next = Math.min(next, found.offset);
        if (at >= end) break;
      }
      if (at === from) at = next;
    }
    return filled;
  }

  /** @returns where the next record of that source starts, and, if that is right at the start, how much was filled */
  async #fetchFrom(
    block: BlockId,
    source: Member,
    { start, end }: Span,
  ): Promise<{ offset: number; bytes: number; unread: boolean } | undefined> {
    const { store, peers, log } = this.#deps;
    const generation = store.info(block)?.generation ?? 0;
    const length = Math.min(end - start, tunable.fetchBytes);
    try {
      const ask = encodeControl({ block, generation, offset: start, length, sound: true });
      const { header, payload } = await peers.call(
        source.address,
        Op.READ_RAW,
        ask,
        undefined,
        RPC_MS_DEFAULT,
      );
      const { offset = start, unread } = decodeControl(zReadRawReply, header, 'answer to READ_RAW');
      if (payload.length === 0) return { offset: Math.min(end, start + length), bytes: 0, unread };
      if (offset > start) return { offset, bytes: 0, unread };
      await store.fill(block, start, payload);
      return { offset: start, bytes: payload.length, unread };
    } catch (error) {
      if (!isTfsError(error)) throw error;
      log.info(
        { block, source: source.id, reason: error.message },
        'a source could not help; asking the next',
      );
      return undefined;
    }
  }
}

interface Span {
  readonly start: number;
  readonly end: number;
}

function opsIn(payload: Buffer): BlockOp[] {
  const ops = decodeOpBodies(payload);
  if (!ops.ok) throw new TfsError('PROTOCOL', ops.why);
  return ops.value;
}
