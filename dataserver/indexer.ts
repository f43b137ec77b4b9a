import { isTfsError, toTfsError } from '../common/errors.ts';
import { OpType } from '../common/format/ops.ts';
import { type BlockId, fileId, type ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockStore } from './block/store.ts';
import type { DigestIndex } from './digest-index.ts';

const FLUSH_EVERY = 4096;

export interface IndexerDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly index: DigestIndex;
  readonly log: Log;
}

/**
 * Keeps the SHA-1 index whole: after a start it walks the blocks that were open when the process ended, and enters
 * every block that the index does not vouch for. One block at a time, in the background; until then some duplicates
 * are stored twice.
 */
export class Indexer {
  readonly #deps: IndexerDeps;
  readonly #queue: BlockId[] = [];
  /** To be entered although the index vouches for them. */
  readonly #again = new Set<BlockId>();
  #running: Promise<void> | undefined;
  #closed = false;
  /** Blocks entered since the start. */
  rebuilt = 0;

  constructor(deps: IndexerDeps) {
    this.#deps = deps;
  }

  /** Looks at all blocks; those that wait for their seal first, because readers and NameServers wait for them too. */
  start(): void {
    const { store } = this.#deps;
    const states = store.blocks.map((block) => ({ block, state: store.info(block)?.state }));
    for (const { block, state } of states) if (state === BlockState.RECOVERED) this.#queue.push(block);
    for (const { block, state } of states) if (state === BlockState.SEALED) this.#queue.push(block);
    this.#kick();
  }

  /** A block was sealed: its entries are final. */
  sealed(block: BlockId): void {
    this.#queue.push(block);
    this.#kick();
  }

  /** The file of a sealed block was made anew: what was damaged in the old one may not have been entered. */
  repaired(block: BlockId): void {
    this.#again.add(block);
    this.sealed(block);
  }

  get waiting(): number {
    return this.#queue.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#queue.length = 0;
    await this.#running;
  }

  #kick(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#queue.length > 0 && !this.#closed) this.#kick();
    });
  }

  async #run(): Promise<void> {
    for (let block = this.#queue.shift(); block !== undefined && !this.#closed; block = this.#queue.shift()) {
      try {
        await this.#enter(block);
      } catch (error) {
        if (isTfsError(error, 'CLOSED')) return;
        this.#deps.log.warn(
          { block, reason: toTfsError(error).message },
          'a block could not be entered into the SHA-1 index',
        );
      }
    }
  }

  async #enter(block: BlockId): Promise<void> {
    const { store, index, server } = this.#deps;
    const again = this.#again.delete(block);
    if (store.info(block)?.state === BlockState.RECOVERED) await store.recover(block);
    const info = store.info(block);
    // Only the sequencer of a block may make aliases in it: its contents are of no use to anyone else's index.
    if (info === undefined || info.opsPrimary !== server || !index.enabled) return;
    const sealed = info.state === BlockState.SEALED;
    if (sealed && !again && (await index.holdsBlock(block, info.generation))) return;
    let count = 0;
    for await (const { slot, sha1 } of store.records.refs(block)) {
      if (this.#closed) return;
      index.addContent(sha1, { block, fileId: fileId(slot) });
      if (++count % FLUSH_EVERY === 0) await index.flush();
    }
    const { recentOps } = await store.opsState(block);
    for (const [opId, { type, fileId: id }] of [...(recentOps ?? [])]) {
      if (type === OpType.ALIAS) index.addOp(Buffer.from(opId, 'hex'), { block, fileId: id });
    }
    await index.flush();
    if (sealed) await index.markBlock(block, info.generation);
    this.rebuilt++;
  }
}
