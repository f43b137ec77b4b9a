import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { ERASE_RETRY_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { CompactReply } from '../common/wire/compaction.ts';
import type { Member, Reign } from '../common/wire/control.ts';
import type {
  ClearTraces,
  ClearTracesOrder,
  ClearTracesReply,
  ErasedSlot,
  EraseRecords,
  EraseRecordsReply,
  TracesCleared,
} from '../common/wire/erase.ts';
import type { BlockMap } from './block-map.ts';
import { Whole } from './block-page.ts';
import type { Compaction, Outcome } from './compaction.ts';
import type { ErasureList } from './erasure-list.ts';
import type { Members } from './members.ts';

/** How a leading NameServer has traces removed. Refused with STALE_EPOCH under a reign that is over. */
export interface TraceCommands {
  /** When answered, what was removed is gone, durably. */
  clear(to: Member, order: ClearTracesOrder): Promise<TracesCleared>;
}

export interface ErasureDeps {
  readonly map: Pick<BlockMap, 'facts'>;
  readonly members: Pick<Members, 'known' | 'removed' | 'reachable'>;
  readonly compaction: Pick<Compaction, 'erase'>;
  readonly list: ErasureList;
  readonly commands: TraceCommands;
  readonly log: Log;
  /** @throws TfsError NOT_LEADER */
  readonly requireReign: () => Reign;
  readonly isLed: () => boolean;
  /** There is a queue that works: what was noted comes back from there, as a job. */
  readonly isQueued: () => boolean;
  /** An operator wants no jobs of the kind. What is ordered is done all the same. */
  readonly isPaused: () => boolean;
  /** The block gets its final length as soon as that can be. */
  readonly seal: (block: BlockId, why: string) => void;
}

/**
 * Legal erasure, as far as it takes the leader: the bytes of records whose names are all deleted go from the members of
 * their block, and then whatever else a disk may have of them. What could not be done at once is noted, in memory, and
 * tried again. Nothing depends on that: whoever asks again, whomever leads then, has it go on from where the replicas are.
 */
export class Erasure {
  readonly stats = { blocks: 0, cleared: 0 };
  readonly #deps: ErasureDeps;
  #running: Promise<void> | undefined;

  constructor(deps: ErasureDeps) {
    this.#deps = deps;
  }

  /**
   * ERASE_RECORDS. When it resolves with nothing kept, the block was compacted without the records.
   *
   * @throws TfsError NOT_LEADER; DONT_KNOW for a block that no server has reported; UNAVAILABLE until the block is sealed,
   *   and as long as not all of its members can take part; CORRUPT when a record that lives verifies on no replica
   */
  async erase({ block, slots }: EraseRecords): Promise<EraseRecordsReply> {
    this.#deps.requireReign();
    const { kept } = await this.#run(block, this.#deps.list.note(block, slots));
    return { kept: [...kept] };
  }

  /**
   * For a job of the kind `purge`: what was noted of the block, if anything, whatever the job says.
   *
   * @throws TfsError as {@link erase}
   */
  async goOn(block: BlockId): Promise<CompactReply> {
    this.#deps.requireReign();
    const slots = this.#deps.list.of(block);
    if (slots === undefined) return { generation: 0, freedBytes: 0 };
    const { generation, freedBytes } = await this.#run(block, slots);
    return { generation, freedBytes };
  }

  /** Without a queue what was noted is tried again at the leader's own command, one block at a time. */
  pump(): void {
    const { list, isLed, isQueued, isPaused } = this.#deps;
    if (this.#running !== undefined || !isLed() || isQueued() || isPaused()) return;
    const due = list.due;
    if (due === undefined) return;
    this.#running = this.#run(...due)
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.#running = undefined;
      });
  }

  async close(): Promise<void> {
    await this.#running;
  }

  async #run(block: BlockId, slots: readonly ErasedSlot[]): Promise<Outcome> {
    const { list, log } = this.#deps;
    try {
      const outcome = await this.#erase(block, slots);
      const { length: kept } = outcome.kept;
      log.warn({ block, records: slots.length - kept, kept }, 'records were erased');
      this.stats.blocks++;
      // What is kept somebody has to look at.
      list.end(block);
      return outcome;
    } catch (error) {
      list.failed(block);
      log.info({ block, reason: toTfsError(error).message }, 'records are not erased yet');
      throw error;
    }
  }

  async #erase(block: BlockId, slots: readonly ErasedSlot[]): Promise<Outcome> {
    const { map, compaction, seal } = this.#deps;
    const facts = map.facts(block);
    if (facts === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not known here`);
    if (facts.whole !== Whole.SEALED) {
      seal(block, 'a picture in it is to be erased');
      throw new TfsError('UNAVAILABLE', `block ${block} is being sealed`, { retryAfterMs: ERASE_RETRY_MS });
    }
    return compaction.erase(block, slots);
  }

  /**
   * CLEAR_ALL_TRACES. Asks every DataServer that was ever heard of; an answer says which of them do not hold the bytes any
   * more, at the moment they were asked.
   *
   * @throws TfsError NOT_LEADER
   */
  async clearTraces(ask: ClearTraces): Promise<ClearTracesReply> {
    const { members, requireReign } = this.#deps;
    const reign = requireReign();
    const known = members.known.map((server) => this.#clear(server, { ...ask, reign }));
    const removed = members.removed.map((server) => ({
      server,
      isRemoved: true,
      failure: 'it was taken out of the cluster',
    }));
    const servers = [...(await Promise.all(known)), ...removed];
    this.stats.cleared++;
    return { servers: servers.sort((a, b) => a.server - b.server) };
  }

  async #clear(server: ServerId, order: ClearTracesOrder): Promise<ClearTracesReply['servers'][number]> {
    const { members, commands, log } = this.#deps;
    const member = members.reachable(server, order.reign);
    if (member === undefined) return { server, isRemoved: false, failure: 'it does not answer' };
    try {
      return { server, isRemoved: false, cleared: await commands.clear(member, order) };
    } catch (error) {
      const failure = toTfsError(error).message;
      log.warn({ server, reason: failure }, 'traces of what is erased could not be removed');
      return { server, isRemoved: false, failure };
    }
  }
}
