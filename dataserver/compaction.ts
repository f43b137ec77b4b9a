import { purgeableSlots } from '../common/format/ops.ts';
import type { BlockId } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import {
  zAbandonGeneration,
  zCommitGeneration,
  zPrepareGeneration,
  zPurge,
} from '../common/wire/compaction.ts';
import { decodeControl, encodeControl } from '../common/wire/control.ts';
import { EMPTY_BUFFER } from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore } from './block/store.ts';
import type { Directory } from './directory.ts';
import type { OpsSequencer } from './ops-sequencer.ts';
import type { PromiseKeeper } from './promise.ts';
import type { ReplicaRepair } from './repair.ts';

export interface CompactionDeps {
  readonly store: BlockStore;
  readonly ops: Pick<OpsSequencer, 'purge'>;
  readonly promise: PromiseKeeper;
  readonly directory: Pick<Directory, 'learn'>;
  /** Who else may have a record that does not verify here. */
  readonly donors: ReplicaRepair['donors'];
  readonly clock: Clock;
  readonly random: Random;
  /** How long a deleted picture may be undeleted. */
  readonly undeleteWindowMs: number;
  /** The records of this block are in another file now. */
  readonly onCommitted: (block: BlockId) => void;
}

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
    const { store, ops, promise, clock, random, undeleteWindowMs } = this.#deps;
    const { block, reign, bytesMin, erase } = decodeControl(zPurge, header, 'PURGE');
    await promise.accept(reign);
    const slots = erase && new Set(erase);
    const windowMs = erase === undefined ? undeleteWindowMs : 0;
    const due = purgeableSlots(await store.opsState(block), clock.now(), windowMs).filter(
      (slot) => slots?.has(slot) ?? true,
    );
    const bytes = await store.garbageBytes(block, due);
    if (bytes < bytesMin) return { header: encodeControl({ bytes }) };
    const ask = { windowMs, opId: random.bytes(16), ...(slots === undefined ? {} : { slots }) };
    return { header: encodeControl({ bytes, barrier: await ops.purge(block, ask) }) };
  }

  /** PREPARE_GENERATION. The answer means that the file is durable here; it may be lost all the same, and nothing with it. */
  async prepare({ header }: RpcRequest): Promise<RpcResult> {
    const { store, promise, directory, donors } = this.#deps;
    const order = decodeControl(zPrepareGeneration, header, 'PREPARE_GENERATION');
    await promise.accept(order.reign);
    for (const { id, address } of order.sources) directory.learn(id, address);
    const { block, generation, sources } = order;
    this.#preparing.add(block);
    try {
      const made = await store.prepareCompaction(
        order,
        donors({ block, generation: generation - 1, sources }),
      );
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
