import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { encodeOpBodies, type MutationType, type Op, type OpContent, OpType } from '../common/format/ops.ts';
import type { BlockId, Cookie, FileId, ServerId, Slot } from '../common/ids.ts';
import { RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import { encodeOps, Op as WireOp } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockStore } from './block/store.ts';
import type { Directory } from './directory.ts';

export interface OpsSequencerDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly directory: Directory;
  readonly clock: Clock;
}

interface Waiting {
  /** Absent to push what is there. */
  readonly content: (OpContent & { readonly opId: Buffer }) | undefined;
  readonly resolve: () => void;
  readonly reject: (error: TfsError) => void;
}

interface Lane {
  waiting: Waiting[];
  running: boolean;
  /** Newest op that each member is known to hold. */
  readonly confirmed: Map<ServerId, number>;
}

/** Rounds of "you are behind, here is more" with one member before it counts as failed. */
const PUSH_ROUNDS_MAX = 4;
/** Idle lanes that are remembered; one that was dropped costs its members one question more. */
const LANES_KEPT_MAX = 4096;

/**
 * The operations of the blocks that this DataServer sequences. For each block one lane: number the ops, make them
 * durable here, then on every other member; only then are they acknowledged. The own log comes first, so it holds
 * everything that any member holds, and a member that missed something is given the rest before anything newer.
 */
export class OpsSequencer {
  readonly #deps: OpsSequencerDeps;
  readonly #lanes = new Map<BlockId, Lane>();

  constructor(deps: OpsSequencerDeps) {
    this.#deps = deps;
  }

  alias(
    block: BlockId,
    alias: { aliasId: FileId; cookie: Cookie; target: Slot; opId: Buffer },
  ): Promise<void> {
    return this.#submit(block, { type: OpType.ALIAS, ...alias });
  }

  mutate(block: BlockId, type: MutationType, fileId: FileId, opId: Buffer): Promise<void> {
    return this.#submit(block, { type, fileId, opId });
  }

  /** Resolves when every member holds all the ops that this log holds now. */
  confirm(block: BlockId): Promise<void> {
    return this.#submit(block, undefined);
  }

  #submit(block: BlockId, content: Waiting['content']): Promise<void> {
    return new Promise((resolve, reject) => {
      let lane = this.#lanes.get(block);
      if (lane === undefined) {
        lane = { waiting: [], running: false, confirmed: new Map() };
        this.#lanes.set(block, lane);
      }
      lane.waiting.push({ content, resolve, reject });
      if (!lane.running) void this.#run(block, lane);
    });
  }

  async #run(block: BlockId, lane: Lane): Promise<void> {
    lane.running = true;
    // A turn of the event loop, so that ops which arrived together share an fdatasync.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (lane.waiting.length > 0) {
      const batch = lane.waiting;
      lane.waiting = [];
      try {
        await this.#append(block, batch);
        await this.#push(block, lane);
        // The ack: every op of the batch is durable in this log and in that of every other member.
        for (const { resolve } of batch) resolve();
      } catch (error) {
        const failure = toTfsError(error);
        for (const { reject } of batch) reject(failure);
      }
    }
    lane.running = false;
    if (this.#lanes.size > LANES_KEPT_MAX) this.#lanes.delete(block);
  }

  async #append(block: BlockId, batch: readonly Waiting[]): Promise<void> {
    const { store, server, clock } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    if (info.opsPrimary !== server) {
      throw new TfsError(
        'UNAVAILABLE',
        `DataServer ${info.opsPrimary} sequences the operations of block ${block}`,
        {
          details: { opsPrimary: info.opsPrimary },
        },
      );
    }
    const state = await store.opsState(block);
    const ops: Op[] = [];
    const seen = new Set<string>();
    for (const { content } of batch) {
      if (content === undefined) continue;
      // An op that is in the log already is not repeated: the request came twice.
      const key = content.opId.toString('hex');
      if (seen.has(key) || state.recentOps?.has(key)) continue;
      seen.add(key);
      ops.push({
        ...content,
        version: info.version,
        seq: info.seq + 1 + ops.length,
        atMs: clock.now(),
      } as Op);
    }
    // Also without a new one: what a killed process left may not be durable yet.
    await store.appendOps(block, ops);
  }

  /** Brings every other member up to the newest op of this log. */
  async #push(block: BlockId, lane: Lane): Promise<void> {
    const { store, server } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    const others = info.members.filter((member) => member !== server);
    const outcomes = await Promise.allSettled(others.map((member) => this.#pushTo(block, lane, member)));
    const failed = outcomes.flatMap((outcome, i) =>
      outcome.status === 'rejected' ? [{ id: others[i]!, error: outcome.reason }] : [],
    );
    if (failed.length === 0) return;
    const ids = failed.map(({ id }) => id);
    throw new TfsError(
      'UNAVAILABLE',
      `DataServer ${ids.join(', ')} cannot take operations on block ${block} now: ${toTfsError(failed[0]!.error).message}`,
      { cause: failed[0]!.error, details: { avoid: ids }, retryAfterMs: 1000 },
    );
  }

  async #pushTo(block: BlockId, lane: Lane, member: ServerId): Promise<void> {
    const { store, peers, directory } = this.#deps;
    const address = await directory.address(member);
    // A member that was never asked gets nothing but the question where it stands.
    let after = lane.confirmed.get(member) ?? store.info(block)?.seq ?? 0;
    for (let round = 0; round < PUSH_ROUNDS_MAX; round++) {
      const info = store.info(block);
      if (info === undefined) break;
      const ops = after < info.seq ? await store.opsAfter(block, after) : [];
      const header = encodeOps({ block, version: info.version, firstSeq: after + 1 });
      try {
        await peers.call(
          address,
          WireOp.OPS,
          header,
          ops.length > 0 ? [encodeOpBodies(ops)] : undefined,
          RPC_MS_DEFAULT,
        );
        lane.confirmed.set(member, Math.max(after, ...ops.map((op) => op.seq)));
        return;
      } catch (error) {
        lane.confirmed.delete(member);
        if (isTfsError(error, 'CONNECTION_LOST')) void directory.refresh().catch(() => undefined);
        const seq = isTfsError(error, 'OPS_GAP') ? error.details?.['seq'] : undefined;
        if (typeof seq !== 'number') throw error;
        // The own log is written first, so nobody can be ahead of it unless this disk has gone back in time.
        if (seq > info.seq) {
          throw new TfsError(
            'CORRUPT',
            `DataServer ${member} holds operation ${seq} of block ${block}, this disk only ${info.seq}: it has lost writes that it had confirmed. Stop this DataServer and replace its disk.`,
            { cause: error },
          );
        }
        after = seq;
      }
    }
    throw new TfsError(
      'OPS_GAP',
      `DataServer ${member} does not catch up with the operations of block ${block}`,
    );
  }
}
