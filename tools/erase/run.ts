import type { PictureKey } from '../../client/reader.ts';
import { isTfsError, type TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { ERASE_LOOK_AGAIN_MS, ERASE_RETRY_MS, ERASE_SLOTS_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type {
  ClearTraces,
  ClearTracesReply,
  ErasedSlot,
  EraseRecords,
  EraseRecordsReply,
} from '../../common/wire/erase.ts';
import { type Found, type FoundName, type FoundPlace, fewBlocks, placeKey, type Untold } from './find.ts';
import type { EraseNote } from './note.ts';

export interface ErasePorts {
  readonly find: (sha1: string) => Promise<Found>;
  readonly remove: (key: PictureKey) => Promise<void>;
  readonly eraseRecords: (order: EraseRecords) => Promise<EraseRecordsReply>;
  readonly clearTraces: (order: ClearTraces) => Promise<ClearTracesReply>;
  readonly clock: Clock;
  readonly onStep: (done: number, steps: number, what: string) => void;
}

export interface EraseOrder {
  readonly sha1: string;
  /** As they were shown and agreed to. */
  readonly places: readonly FoundPlace[];
  /** Of these, and of those that were agreed to before. */
  readonly records: EraseNote['records'];
  /** Servers whose disks do not exist any more, says somebody who knows. */
  readonly destroyed: ReadonlySet<ServerId>;
  /** How long what cannot be done yet is tried again. */
  readonly waitMs: number;
}

export interface EraseOutcome {
  /** No disk of the cluster can hold the bytes. */
  readonly done: boolean;
  /** Disks that may hold them, and why. */
  readonly mayHold: readonly Untold[];
  /** What else was not done. */
  readonly pending: readonly string[];
  /** Names of the same content that were not agreed to: left as they are. */
  readonly added: readonly (FoundName & { readonly block: BlockId })[];
}

/**
 * Erases records with all names that were agreed to: deletes the names, has the records purged and their blocks compacted,
 * has everything else removed that may hold the bytes, and looks once more at every disk. Each step may be repeated, in any
 * state that a crash or another leader leaves, and what is done already is found done.
 */
export async function erase(ports: ErasePorts, order: EraseOrder): Promise<EraseOutcome> {
  return new Run(ports, order).run();
}

class Run {
  readonly #ports: ErasePorts;
  readonly #order: EraseOrder;
  readonly #untilMs: number;
  readonly #pending: string[] = [];
  #steps = 0;

  constructor(ports: ErasePorts, order: EraseOrder) {
    this.#ports = ports;
    this.#order = order;
    this.#untilMs = ports.clock.monotonic() + order.waitMs;
  }

  async run(): Promise<EraseOutcome> {
    for (const place of this.#order.places) await this.#removeNames(place);
    const blocks = byBlock(this.#order.records);
    for (const [block, slots] of blocks) {
      this.#step(`block ${block}`);
      for (let at = 0; at < slots.length; at += ERASE_SLOTS_MAX)
        await this.#eraseRecords(block, slots.slice(at, at + ERASE_SLOTS_MAX));
    }
    this.#step('all disks');
    const { found, mayHold } = await this.#clearAll(blocks);
    const added = this.#added(found);
    const done = mayHold.length === 0 && this.#pending.length === 0 && added.length === 0;
    return { done, mayHold, pending: this.#pending, added };
  }

  async #removeNames({ block, slot, names }: FoundPlace): Promise<void> {
    for (const { fileId, cookie, state } of names) {
      this.#step(`block ${block}`);
      if (state === 'deleted' || state === 'purged') continue;
      if (cookie === undefined) {
        this.#pending.push(`slot ${slot} of block ${block} reads on no server, so it cannot be deleted`);
        continue;
      }
      try {
        await this.#ports.remove({ block, fileId, cookie });
      } catch (error) {
        this.#pending.push(`a name in block ${block} could not be deleted: ${toTfsError(error).message}`);
      }
    }
  }

  /** It waits for seals, and for members that are just coming back. */
  async #eraseRecords(block: BlockId, slots: ErasedSlot[]): Promise<void> {
    try {
      const { kept } = await this.#insist(() => this.#ports.eraseRecords({ block, slots }));
      if (kept.length > 0)
        this.#pending.push(
          `${kept.length} records of block ${block} are kept: a name of theirs lives, or came up since they were listed`,
        );
    } catch (error) {
      this.#pending.push(toTfsError(error).message);
    }
  }

  /**
   * Until no server that answers holds anything: what is outside of a configuration is let go of by and by, and a server
   * that is just back has its blocks sealed. First it is looked and then cleared, because a seal may set records aside.
   */
  async #clearAll(
    blocks: ReadonlyMap<BlockId, readonly ErasedSlot[]>,
  ): Promise<{ found: Found; mayHold: Untold[] }> {
    for (;;) {
      const found = await this.#ports.find(this.#order.sha1);
      const untold = found.untold.filter(({ server }) => !this.#order.destroyed.has(server));
      const mayHold = unique([...untold, ...(await this.#clear(blocks))]);
      const isHopeless = this.#pending.length > 0 || !mayHold.some(({ passes }) => passes);
      if (isHopeless || this.#isOver) return { found, mayHold };
      await this.#ports.clock.sleep(ERASE_LOOK_AGAIN_MS);
    }
  }

  async #clear(blocks: ReadonlyMap<BlockId, readonly ErasedSlot[]>): Promise<Untold[]> {
    const mayHold: Untold[] = [];
    for (const group of groupsOf(blocks)) {
      const ask = { sha1: this.#order.sha1, blocks: group };
      const { servers } = await this.#insist(() => this.#ports.clearTraces(ask));
      for (const { server, cleared, failure } of servers) {
        const found = (why: string, passes: boolean) => mayHold.push({ server, why, passes });
        if (cleared === undefined) {
          if (!this.#order.destroyed.has(server)) found(failure ?? 'it does not answer', false);
          continue;
        }
        const { holds, left } = cleared;
        if (holds.length > 0) found(`its copy of ${fewBlocks(holds)} still has the bytes`, true);
        if (left.length > 0)
          found(`files that nobody knows, or that cannot be removed: ${left.join(', ')}`, false);
      }
    }
    return mayHold;
  }

  #added({ places }: Found): EraseOutcome['added'] {
    const agreed = new Map(this.#order.places.map((place) => [placeKey(place), place]));
    const isAgreed = (place: FoundPlace, { fileId }: FoundName): boolean =>
      agreed.get(placeKey(place))?.names.some((name) => name.fileId === fileId) ?? false;
    return places.flatMap((place) =>
      place.names
        .filter((name) => name.state !== 'purged' && !isAgreed(place, name))
        .map((name) => ({ ...name, block: place.block })),
    );
  }

  get #isOver(): boolean {
    return this.#ports.clock.monotonic() >= this.#untilMs;
  }

  async #insist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isTfsError(error) || !(error as TfsError).retryable || this.#isOver) throw error;
        await this.#ports.clock.sleep(ERASE_RETRY_MS);
      }
    }
  }

  #step(what: string): void {
    const { places, records } = this.#order;
    const names = places.reduce((sum, place) => sum + place.names.length, 0);
    this.#ports.onStep(this.#steps++, names + byBlock(records).size + 1, what);
  }
}

function byBlock(records: EraseNote['records']): Map<BlockId, ErasedSlot[]> {
  const blocks = new Map<BlockId, ErasedSlot[]>();
  for (const { block, slot, aliases } of records)
    blocks.set(block, [...(blocks.get(block) ?? []), { slot, aliases }]);
  return blocks;
}

/** As many as one message takes. One group even for none: the rest of a disk is cleared all the same. */
function groupsOf(blocks: ReadonlyMap<BlockId, readonly ErasedSlot[]>): ClearTraces['blocks'][] {
  const groups: ClearTraces['blocks'][] = [[]];
  let slots = 0;
  for (const [block, all] of blocks)
    for (let at = 0; at < all.length; at += ERASE_SLOTS_MAX) {
      const part = all.slice(at, at + ERASE_SLOTS_MAX).map(({ slot }) => slot);
      if (slots + part.length > ERASE_SLOTS_MAX) {
        groups.push([]);
        slots = 0;
      }
      slots += part.length;
      groups.at(-1)!.push({ block, slots: part });
    }
  return groups;
}

function unique(untold: readonly Untold[]): Untold[] {
  const seen = new Map(untold.map((one) => [`${one.server} ${one.why}`, one]));
  return [...seen.values()].sort((a, b) => a.server - b.server);
}
