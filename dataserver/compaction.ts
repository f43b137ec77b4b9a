import { TfsError } from '../common/errors.ts';
import { erasableSlots, type OpsState, purgeableSlots, unpurgedOf } from '../common/format/ops.ts';
import type { BlockId, Slot } from '../common/ids.ts';
import { CLOCK_AHEAD_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import {
  zAbandonGeneration,
  zCommitGeneration,
  zPrepareGeneration,
  zPurge,
} from '../common/wire/compaction.ts';
import { decodeControl, encodeControl } from '../common/wire/control.ts';
import { EMPTY_BUFFER, NameFlag } from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { Faults } from './block/faults.ts';
import type { BlockStore } from './block/store.ts';
import type { Changes } from './changes/changes.ts';
import type { Directory } from './directory.ts';
import { dueSlots } from './due-slots.ts';
import type { OpsSequencer } from './ops-sequencer.ts';
import type { PromiseKeeper } from './promise.ts';
import type { ReplicaRepair } from './repair.ts';
import { disturbs } from './scrub/pace.ts';
import type { ReadClock } from './scrub/read-times.ts';

export interface CompactionDeps {
  readonly store: BlockStore;
  readonly ops: Pick<OpsSequencer, 'purge'>;
  /** What caches are to be told of names whose records are about to go. */
  readonly changes?: Pick<Changes, 'learn'>;
  readonly promise: PromiseKeeper;
  readonly directory: Pick<Directory, 'learn'>;
  /** Who else may have a record that does not verify here. */
  readonly donors: ReplicaRepair['donors'];
  /** Of pictures on this disk: a compaction slows down when they wait for it. */
  readonly reads: Pick<ReadClock, 'piece' | 'times'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly faults?: Faults | undefined;
  /** How long a deleted picture may be undeleted. */
  readonly undeleteWindowMs: number;
  /** The records of this block are in another file now. */
  readonly onCommitted: (block: BlockId) => void;
}

/** Of the undelete window: what is deleted from now on is due no earlier than at the end of it. */
const PROBED_PARTS = [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1];
const DONE: RpcResult = { header: EMPTY_BUFFER };

/** What this DataServer does for the compaction of blocks, step by step, at the word of the leader. */
export class CompactionSteps {
  readonly stats = { committed: 0, freedBytes: 0 };
  readonly #deps: CompactionDeps;
  readonly #preparing = new Set<BlockId>();

  constructor(deps: CompactionDeps) {
    this.#deps = deps;
  }

  /** PURGE. The answer means that every member has it: no name of what it concerns can come back. */
  async purge({ header }: RpcRequest): Promise<RpcResult> {
    const { store, ops, promise, clock, random, undeleteWindowMs, faults } = this.#deps;
    const { block, reign, bytesMin, wallMs, erase } = decodeControl(zPurge, header, 'PURGE');
    await promise.accept(reign);
    const trustsItself = faults?.has('trust-own-clock') === true;
    if (erase === undefined && !trustsItself) assertSameTime(clock.now(), wallMs);
    // Of the two that agree the earlier one, once for all: a clock that jumps while this waits for anything purges nothing.
    const nowMs = trustsItself ? clock.now() : Math.min(clock.now(), wallMs);
    const agreed = erase && new Map(erase.map(({ slot, aliases }) => [slot, aliases]));
    const state = await store.opsState(block);
    const due =
      agreed === undefined ? dueSlots(state, nowMs, undeleteWindowMs, faults) : erasableSlots(state, agreed);
    const kept = async () => agreed && { kept: unpurgedOf(await store.opsState(block), agreed.keys()) };
    const bytes = await store.garbageBytes(block, due);
    if (bytes < bytesMin) {
      const notBeforeMs =
        erase === undefined ? await this.#notBeforeMs(block, state, { bytesMin, nowMs }) : 0;
      return { header: encodeControl({ bytes, notBeforeMs, ...(await kept()) }) };
    }
    const opId = random.bytes(16);
    const ask = { windowMs: undeleteWindowMs, nowMs, opId, ...(agreed && { erase: agreed }) };
    const barrier = await ops.purge(block, ask);
    if (erase === undefined) await this.#markRace(block, due);
    return { header: encodeControl({ bytes, barrier, ...(await kept()) }) };
  }

  /** An undelete or a second name came before the purge. */
  async #markRace(block: BlockId, due: readonly Slot[]): Promise<void> {
    const { slotFlags } = await this.#deps.store.opsState(block);
    if (due.some((slot) => ((slotFlags[slot] ?? 0) & NameFlag.PURGED) === 0)) mark('purge-found-less');
  }

  /** For how long less than that is due, whatever else is deleted: to be told when to look again. */
  async #notBeforeMs(
    block: BlockId,
    state: OpsState,
    { bytesMin, nowMs }: { readonly bytesMin: number; readonly nowMs: number },
  ): Promise<number> {
    const { store, undeleteWindowMs } = this.#deps;
    let notBeforeMs = 0;
    for (const part of PROBED_PARTS) {
      const inMs = undeleteWindowMs * part;
      const due = purgeableSlots(state, nowMs + inMs, undeleteWindowMs);
      if ((await store.garbageBytes(block, due)) >= bytesMin) break;
      notBeforeMs = inMs;
    }
    return notBeforeMs;
  }

  /** PREPARE_GENERATION. The answer means that the file is durable here; it may be lost all the same, and nothing with it. */
  async prepare({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise, directory, donors, reads } = this.#deps;
    const order = decodeControl(zPrepareGeneration, header, 'PREPARE_GENERATION');
    await promise.accept(order.reign);
    for (const { id, address } of order.sources) directory.learn(id, address);
    const { block, generation, sources } = order;
    this.#preparing.add(block);
    try {
      await this.#deps.changes?.learn(block);
      const from = donors({ block, generation: generation - 1, sources });
      const made = await reads.piece(() => store.prepareCompaction(order, from, () => disturbs(reads.times)));
      return { header: encodeControl({ ...made, digest: made.digest.toString('hex') }) };
    } finally {
      this.#preparing.delete(block);
    }
  }

  /** COMMIT_GENERATION. The answer means that the new generation is durable here and all reads use it. */
  async commit({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise, onCommitted } = this.#deps;
    const order = decodeControl(zCommitGeneration, header, 'COMMIT_GENERATION');
    const { block, reign, generation } = order;
    const before = store.info(block);
    const was = { generation: before?.generation, length: before?.length ?? 0 };
    await promise.during(reign, () =>
      store.commitGeneration(block, { ...order, digest: Buffer.from(order.digest, 'hex') }),
    );
    if (was.generation === generation) return DONE;
    this.stats.committed++;
    this.stats.freedBytes += Math.max(0, was.length - order.length);
    onCommitted(block);
    return DONE;
  }

  /** ABANDON_GENERATION */
  async abandon({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise } = this.#deps;
    const { block, reign } = decodeControl(zAbandonGeneration, header, 'ABANDON_GENERATION');
    await promise.accept(reign);
    await store.abandonCompaction(block);
    return DONE;
  }

  /** What is under way ends soon, in an error, so that a stop does not wait for it. */
  async close(): Promise<void> {
    for (const block of this.#preparing) await this.#deps.store.abandonCompaction(block);
  }
}

/** One wrong clock must not make the time pass in which a picture may be undeleted; two are wrong alike hardly ever. */
function assertSameTime(nowMs: number, leaderMs: number): void {
  const aheadMs = nowMs - leaderMs;
  if (Math.abs(aheadMs) <= CLOCK_AHEAD_MS_MAX) return;
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  throw new TfsError(
    'UNAVAILABLE',
    `its clock is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} the time of the cluster: nothing is purged until they agree`,
  );
}
