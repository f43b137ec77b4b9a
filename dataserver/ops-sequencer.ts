import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import {
  encodeOpBodies,
  erasableSlots,
  type MutationType,
  nameFlagsOf,
  type OpsState,
  OpType,
} from '../common/format/ops.ts';
import {
  type BlockId,
  type Cookie,
  compareVersions,
  type FileId,
  type ServerId,
  type Slot,
  type Version,
} from '../common/ids.ts';
import { MEMBER_ACK_MS_MAX, OPS_MEMBER_FAILED_MS, OPS_OWN_DISK_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { ConfigurationWish, RequestCfgReply } from '../common/wire/control.ts';
import { BlockState, decodeOpsReply, encodeOps, NameFlag, Op as WireOp } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { Unplaced } from './block/ops-log.ts';
import type { BlockInfo, BlockStore, Faults } from './block/store.ts';
import type { Directory } from './directory.ts';
import { dueSlots } from './due-slots.ts';

export interface OpsSequencerDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Pick<Peers, 'call'>;
  readonly directory: Pick<Directory, 'address' | 'refresh'>;
  readonly clock: Clock;
  /** Members without which nothing is acknowledged. */
  readonly minWrite: number;
  /**
   * Asks the leader for a configuration of the block without these members; resolves with it when there is one.
   * @throws TfsError UNAVAILABLE when there cannot be one, or not yet
   */
  readonly requestConfiguration: (
    block: BlockId,
    failed: readonly ServerId[],
    wish?: ConfigurationWish,
  ) => Promise<Pick<RequestCfgReply, 'version' | 'opsPrimary'>>;
  /** A member holds what only this server can have given out, and its own log lacks it: this disk was set back. */
  readonly onSetBack: (error: TfsError) => void;
  /** Whether it is known what time it is: by the clock of this machine alone nothing is dated that ends some time later. */
  readonly isTimeKnown: () => boolean;
  /** The own disk did not store operations in time. */
  readonly onDiskLate: () => void;
  readonly faults?: Faults | undefined;
}

export interface PurgeAsk {
  /** How long names may be undeleted. */
  readonly windowMs: number;
  /** What time it is by the clocks that agreed on it, ms since 1970: this machine's may change before it is purged. */
  readonly nowMs: number;
  /** An erasure: of these alone, without regard to that time, see {@link erasableSlots}. */
  readonly erase?: ReadonlyMap<Slot, number>;
  /** 16 bytes, never used before. */
  readonly opId: Buffer;
}

/** Where in the order of operations a purge stands: whoever holds everything up to there holds it. */
export interface PurgeBarrier {
  readonly version: Version;
  readonly seq: number;
}

interface Done {
  readonly earlier: FileId | undefined;
  /** Under which all members hold it. */
  readonly version: Version;
}

interface Waiting {
  /** Absent to push what is there. Which records a purge concerns is found out when its turn has come. */
  readonly content: Unplaced | PurgeAsk | undefined;
  /** The name that an earlier op of the same opId concerns, when there is one. */
  earlier: FileId | undefined;
  readonly resolve: (done: Done) => void;
  readonly reject: (error: TfsError) => void;
}

interface Lane {
  waiting: Waiting[];
  running: boolean;
  /** In this life of the process every other member has said that its log holds no more than the own one. */
  isCompared: boolean;
  /** Newest op that each member is known to hold. */
  readonly confirmed: Map<ServerId, number>;
}

/** Tries of one batch: as it is, and under each configuration that began meanwhile. */
const TRIES_MAX = 4;
/** How long a configuration that is being agreed on is waited for. */
const CHANGE_MS_MAX = 1_000;
const CHANGE_LOOK_MS = 25;
/** Rounds of "you are behind, here is more" with one member before it counts as failed. */
const PUSH_ROUNDS_MAX = 4;

/**
 * The operations of the blocks that this DataServer sequences. For each block one lane: number the ops, make them
 * durable here, then on every other member; only then are they acknowledged. The own log comes first, so it holds
 * everything that any member holds, and a member that missed something is given the rest before anything newer. A
 * member that cannot be reached is left out by a new configuration, which only the leader can decide on; the ops that
 * wait for that are in the own log, so they are part of it.
 */
export class OpsSequencer {
  readonly #deps: OpsSequencerDeps;
  readonly #lanes = new Map<BlockId, Lane>();
  /** Members that lately did not take operations, and until when they are not waited for. */
  readonly #failed = new Map<ServerId, number>();

  constructor(deps: OpsSequencerDeps) {
    this.#deps = deps;
  }

  /**
   * @returns the id of the alias: that of an earlier op with this opId if the log holds one, which may never have been
   *   acknowledged, and only that one exists then
   * @throws TfsError GONE when the bytes are about to go, or the block takes no more aliases
   */
  async alias(
    block: BlockId,
    alias: { aliasId: FileId; cookie: Cookie; target: Slot; opId: Buffer },
  ): Promise<FileId> {
    const { earlier } = await this.#submit(block, { type: OpType.ALIAS, ...alias });
    const aliasId = earlier ?? alias.aliasId;
    // In the log it is, but behind a purge it made no name.
    const flags = nameFlagsOf(await this.#deps.store.opsState(block), aliasId) ?? NameFlag.PURGED;
    if ((flags & NameFlag.PURGED) === 0) return aliasId;
    mark('alias-behind-purge');
    if (this.#deps.faults?.has('ack-alias-of-purged')) return aliasId;
    throw new TfsError('GONE', `block ${block}: the record of slot ${alias.target} takes no second name`);
  }

  /**
   * Has records go of which no name may be undeleted any more. From the moment the answer is given their names can
   * neither be undeleted nor get others, on any member: their bytes may be left out of the next generation.
   *
   * @throws TfsError CONFLICT for a block that is not sealed; otherwise as any operation
   */
  async purge(block: BlockId, ask: PurgeAsk): Promise<PurgeBarrier> {
    const { version } = await this.#submit(block, ask);
    const { seq } = this.#deps.store.info(block) ?? { seq: 0 };
    return { version, seq };
  }

  /** Whether all of these took what they were given last: if not, an operation would have to wait for one of them. */
  isReady(members: readonly ServerId[]): boolean {
    return members.every((member) => !this.#hasFailed(member));
  }

  /** A new configuration of the block has begun: what was known of its members says nothing any more; they all took part. */
  reset(block: BlockId, members: readonly ServerId[]): void {
    this.#lanes.get(block)?.confirmed.clear();
    for (const member of members) this.#failed.delete(member);
  }

  /** @throws TfsError UNAVAILABLE also for a deletion, while it is not known what time it is */
  async mutate(block: BlockId, type: MutationType, fileId: FileId, opId: Buffer): Promise<void> {
    if (type === OpType.DELETE && !this.#deps.isTimeKnown()) {
      mark('delete-without-time');
      throw new TfsError('UNAVAILABLE', 'no leader has said yet what time it is: nothing is deleted before', {
        retryAfterMs: 250,
      });
    }
    await this.#submit(block, { type, fileId, opId });
  }

  /**
   * Resolves when every member holds all the ops that this log holds now.
   *
   * @returns the version under which that is so. What the log said before that version began need not be part of it:
   *   whoever answers from it has to look whether the version is still the one it looked under.
   */
  async confirm(block: BlockId): Promise<Version> {
    const { version } = await this.#submit(block, undefined);
    return version;
  }

  #submit(block: BlockId, content: Waiting['content']): Promise<Done> {
    return new Promise((resolve, reject) => {
      let lane = this.#lanes.get(block);
      if (lane === undefined) {
        lane = { waiting: [], running: false, isCompared: false, confirmed: new Map() };
        this.#lanes.set(block, lane);
      }
      lane.waiting.push({ content, earlier: undefined, resolve, reject });
      if (!lane.running) void this.#run(block, lane);
    });
  }

  async #run(block: BlockId, lane: Lane): Promise<void> {
    lane.running = true;
    // A turn of the event loop, so that ops which arrived together share an fdatasync.
    await new Promise<void>((resolve) => this.#deps.clock.soon(resolve));
    while (lane.waiting.length > 0) {
      const batch = lane.waiting.splice(0, batchLength(lane.waiting));
      try {
        const version = await this.#insist(block, () => this.#perform(block, lane, batch));
        // The ack: every op of the batch is durable in this log and in that of every other member, at least minWrite
        // of them together.
        for (const { resolve, earlier } of batch) resolve({ earlier, version });
      } catch (error) {
        const failure = toTfsError(error);
        for (const { reject } of batch) reject(failure);
      }
    }
    lane.running = false;
    if (this.#lanes.size > tunable.opsLanesKeptMax) this.#lanes.delete(block);
  }

  /**
   * Into this log and all others, under one version from beginning to end. A version that begins meanwhile is made of
   * all logs, but where another sequencer was at work in between, what only this log held need not be part of it: then
   * the batch is looked for, and what is missing is appended again.
   */
  async #perform(block: BlockId, lane: Lane, batch: readonly Waiting[]): Promise<Version> {
    const { faults, store } = this.#deps;
    if (!lane.isCompared) {
      // Before a place in the order is given out: on a disk that was set back it may be taken, and whoever holds
      // another operation in it would take the new one for done.
      await this.#push(block, lane);
      lane.isCompared = true;
    }
    for (let left = TRIES_MAX; left > 0; left--) {
      const version = await this.#append(block, batch);
      if (faults?.has('ack-under-next-version')) {
        await this.#insist(block, () => this.#push(block, lane));
        return version;
      }
      await this.#push(block, lane);
      const now = store.info(block)?.version;
      if (now !== undefined && compareVersions(now, version) === 0) return version;
      mark('ops-later-version');
    }
    throw new TfsError('UNAVAILABLE', `block ${block} is getting one configuration after the other`, {
      retryAfterMs: 250,
    });
  }

  /** @returns the version under which all of the batch is in this log */
  async #append(block: BlockId, batch: readonly Waiting[]): Promise<Version> {
    const { store, server, clock, onDiskLate } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    if (info.opsPrimary !== server) throw this.#notMine(block, info.opsPrimary);
    const state = await store.opsState(block);
    const { version } = info;
    const fresh: Unplaced[] = [];
    const seen = new Map<string, FileId>();
    for (const waiting of batch) {
      const { content } = waiting;
      if (content === undefined) continue;
      if (isPurge(content)) {
        fresh.push(...this.#due(block, state, content));
        continue;
      }
      // An op that is in the log already is not repeated: the request came twice.
      const key = content.opId.toString('hex');
      waiting.earlier = seen.get(key) ?? state.recentOps?.get(key)?.fileId;
      if (waiting.earlier !== undefined) {
        mark('op-id-replayed');
        continue;
      }
      if (content.type === OpType.ALIAS) seen.set(key, content.aliasId);
      else if ('fileId' in content) seen.set(key, content.fileId);
      fresh.push(content);
    }
    // Also without a new one: what a killed process left may not be durable yet.
    const late = clock.after(OPS_OWN_DISK_MS_MAX, onDiskLate);
    await store.sequenceOps(block, version, fresh).finally(() => late.cancel());
    return version;
  }

  /** The purge that is due by what the log holds now: nothing can come between this and its place in the log. */
  #due(block: BlockId, state: OpsState, { windowMs, nowMs, erase, opId }: PurgeAsk): Unplaced[] {
    const { store, faults } = this.#deps;
    const info = store.info(block);
    if (info?.state !== BlockState.SEALED)
      throw new TfsError('CONFLICT', `block ${block} is not sealed here: nothing of it is purged`);
    const names = faults?.has('purge-ignores-alias') ? { ...state, aliases: undefined } : state;
    const all = erase === undefined ? dueSlots(names, nowMs, windowMs, faults) : erasableSlots(names, erase);
    const due = all.filter((slot) => slot < info.slots);
    const ops: Unplaced[] = [];
    for (let at = 0; at < due.length; at += tunable.purgeSlotsPerOpMax)
      ops.push({ type: OpType.PURGE_INTENT, slots: due.slice(at, at + tunable.purgeSlotsPerOpMax), opId });
    return ops;
  }

  /** Under whatever configuration it takes. */
  async #insist<T>(block: BlockId, work: () => Promise<T>): Promise<T> {
    const { store } = this.#deps;
    for (let left = TRIES_MAX; ; left--) {
      const version = store.info(block)?.version;
      try {
        return await work();
      } catch (error) {
        const failure = toTfsError(error);
        if (left === 1) throw failure;
        const failed = failure.details?.['avoid'];
        if (failure.code === 'STALE_EPOCH') {
          if (!(await this.#isChanged(block, version))) await this.#change(block, [], { renew: true });
        } else if (Array.isArray(failed)) await this.#change(block, failed as ServerId[]);
        else throw failure;
      }
    }
  }

  /** @throws TfsError UNAVAILABLE, details `opsPrimary`, when the block has gone on without this server meanwhile */
  async #change(block: BlockId, failed: readonly ServerId[], wish?: ConfigurationWish): Promise<void> {
    const { store, server, requestConfiguration } = this.#deps;
    const { version, opsPrimary } = await requestConfiguration(block, failed, wish);
    const held = store.info(block)?.version;
    if (opsPrimary !== server && held !== undefined && compareVersions(version, held) > 0)
      throw this.#notMine(block, opsPrimary);
  }

  /** Waits for a change that is under way. @returns whether the version of the block is another one than it was */
  async #isChanged(block: BlockId, version: Version | undefined): Promise<boolean> {
    const { store, clock } = this.#deps;
    for (let waitedMs = 0; waitedMs < CHANGE_MS_MAX; waitedMs += CHANGE_LOOK_MS) {
      const now = store.info(block)?.version;
      if (now !== undefined && version !== undefined && compareVersions(now, version) !== 0) return true;
      await clock.sleep(CHANGE_LOOK_MS);
    }
    return false;
  }

  /** Brings every other member up to the newest op of this log. @throws TfsError UNAVAILABLE, details `avoid`: the members that failed */
  async #push(block: BlockId, lane: Lane): Promise<void> {
    const { store, server, minWrite } = this.#deps;
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not on this DataServer`);
    if (info.opsPrimary !== server) throw this.#notMine(block, info.opsPrimary);
    if (info.members.length < minWrite && !this.#deps.faults?.has('ack-below-min-write'))
      throw new TfsError(
        'UNAVAILABLE',
        `block ${block} has ${info.members.length} members that take operations, cluster.minWrite is ${minWrite}`,
        { retryAfterMs: 1000 },
      );
    const others = info.members.filter((member) => member !== server);
    const outcomes = await Promise.allSettled(others.map((member) => this.#pushTo(block, lane, member)));
    const failed = outcomes.flatMap((outcome, i) =>
      outcome.status === 'rejected' ? [{ id: others[i]!, error: outcome.reason }] : [],
    );
    if (failed.length === 0 || this.#deps.faults?.has('ack-op-on-some')) return;
    // Not a member that is away: leaving it out would help nobody, or worse.
    const own = failed.find(({ error }) => isOwnTrouble(error));
    if (own !== undefined) throw own.error;
    const ids = failed.map(({ id }) => id);
    throw new TfsError(
      'UNAVAILABLE',
      `DataServer ${ids.join(', ')} cannot take operations on block ${block} now: ${toTfsError(failed[0]!.error).message}`,
      { cause: failed[0]!.error, details: { avoid: ids }, retryAfterMs: 1000 },
    );
  }

  async #pushTo(block: BlockId, lane: Lane, member: ServerId): Promise<void> {
    const { store, peers, directory } = this.#deps;
    if (this.#hasFailed(member))
      throw new TfsError('UNAVAILABLE', `DataServer ${member} did not answer a moment ago`);
    const address = await directory.address(member);
    // A member that was never asked gets nothing but the question where it stands.
    let after = lane.confirmed.get(member) ?? store.info(block)?.seq ?? 0;
    for (let round = 0; round < PUSH_ROUNDS_MAX; round++) {
      const info = store.info(block);
      if (info === undefined) break;
      const { version } = info;
      const ops = after < info.seq ? await store.opsAfter(block, after) : [];
      const header = encodeOps({ block, version: info.version, firstSeq: after + 1 });
      try {
        const reply = await peers.call(
          address,
          WireOp.OPS,
          header,
          ops.length > 0 ? [encodeOpBodies(ops)] : undefined,
          MEMBER_ACK_MS_MAX,
        );
        const held = decodeOpsReply(reply.header);
        const newest = ops.at(-1)?.seq ?? after;
        // It says what it holds, and only that counts: whatever made it skip one, it must not be taken for done.
        if (compareVersions(held.version, info.version) !== 0 || held.seq < newest)
          throw new TfsError(
            'UNAVAILABLE',
            `DataServer ${member} holds block ${block} up to operation ${held.seq}, not ${newest}`,
          );
        lane.confirmed.set(member, newest);
        this.#failed.delete(member);
        return;
      } catch (error) {
        lane.confirmed.delete(member);
        if (isTfsError(error, 'CONNECTION_LOST') || isTfsError(error, 'DEADLINE'))
          this.#failed.set(member, this.#deps.clock.monotonic() + OPS_MEMBER_FAILED_MS);
        if (isTfsError(error, 'CONNECTION_LOST')) void directory.refresh().catch(() => undefined);
        const seq = isTfsError(error, 'OPS_GAP') ? error.details?.['seq'] : undefined;
        if (typeof seq !== 'number') throw error;
        // The own log is written first, so nobody can be ahead of it unless this disk has gone back in time.
        if (seq > info.seq && compareVersions(info.version, version) === 0)
          throw info.wasCut ? this.#lacks(info, member, seq) : this.#setBack(info, member, seq);
        mark('ops-gap-filled');
        after = seq;
      }
    }
    throw new TfsError(
      'OPS_GAP',
      `DataServer ${member} does not catch up with the operations of block ${block}`,
    );
  }

  /**
   * The last frame of this one log has rotted, and was taken for one that was never written to its end. That says nothing of
   * the rest of the disk; and the leader sees that this replica is behind, and has it fetch what it lacks.
   */
  #lacks({ block, seq: own }: BlockInfo, member: ServerId, seq: number): TfsError {
    mark('sequencer-log-cut');
    return new TfsError(
      'UNAVAILABLE',
      `DataServer ${member} holds operation ${seq} of block ${block}, and the log here only ${own}: its end is damaged`,
      { retryAfterMs: 1000, details: { lacks: seq } },
    );
  }

  /** @returns what to answer; this server ends, because whatever else its disk says may be as old */
  #setBack({ block, seq: own }: BlockInfo, member: ServerId, seq: number): TfsError {
    mark('sequencer-set-back');
    const message =
      `DataServer ${member} holds operation ${seq} of block ${block}, this disk, which gave it out, only ${own}: it was ` +
      'set back to an older copy, or has lost writes that it had confirmed. Replace it, or empty it, and give the mount a ' +
      'new id; the other replicas have what it held.';
    this.#deps.onSetBack(new TfsError('REFUSED', message));
    return new TfsError('CORRUPT', message);
  }

  #hasFailed(member: ServerId): boolean {
    return (this.#failed.get(member) ?? Number.NEGATIVE_INFINITY) > this.#deps.clock.monotonic();
  }

  #notMine(block: BlockId, opsPrimary: ServerId): TfsError {
    return new TfsError(
      'UNAVAILABLE',
      `DataServer ${opsPrimary} sequences the operations of block ${block}`,
      {
        details: { opsPrimary },
      },
    );
  }
}

/** No fault of the member that it was found with. */
const isOwnTrouble = (error: unknown): boolean =>
  isTfsError(error, 'STALE_EPOCH') ||
  isTfsError(error, 'CORRUPT') ||
  (isTfsError(error) && error.details?.['lacks'] !== undefined);

const isPurge = (content: Unplaced | PurgeAsk): content is PurgeAsk => 'windowMs' in content;

/** A purge goes alone: what it concerns is decided by the log, and what waits before it is not there yet. */
function batchLength(waiting: readonly Waiting[]): number {
  const at = waiting.findIndex(({ content }) => content !== undefined && isPurge(content));
  return at < 0 ? waiting.length : Math.max(1, at);
}
