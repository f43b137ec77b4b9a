import type { BlockId } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import type { Reign } from '../common/wire/control.ts';
import { type LocateReply, LocateState, type Location } from '../common/wire/messages.ts';
import type { BlockMap } from './block-map.ts';
import type { NameServerFaults } from './faults.ts';

export interface LocatorDeps {
  readonly map: BlockMap;
  readonly mapVersion: () => number;
  readonly isViewComplete: () => boolean;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  /** Whether this NameServer led after the call, as DataServers say that were asked then. */
  readonly confirm: () => Promise<boolean>;
  readonly faults?: NameServerFaults;
}

/**
 * Where blocks are. A block that is not known is ABSENT only to a leader that has heard of every block and has just
 * made sure that it still leads; to anyone else it may exist.
 */
export class Locator {
  readonly #deps: LocatorDeps;

  constructor(deps: LocatorDeps) {
    this.#deps = deps;
  }

  /** Answers at once unless some block is not known. */
  locate(blocks: readonly BlockId[]): LocateReply | Promise<LocateReply> {
    const { map, reign, isViewComplete, faults } = this.#deps;
    if (reign() !== undefined && faults?.has('absent-in-safe-mode'))
      return this.#reply(blocks, LocateState.ABSENT);
    const mayBeAbsent = reign() !== undefined && isViewComplete() && blocks.some((block) => !map.has(block));
    return mayBeAbsent ? this.#confirmed(blocks) : this.#reply(blocks, LocateState.DONT_KNOW);
  }

  async #confirmed(blocks: readonly BlockId[]): Promise<LocateReply> {
    const isLeader = await this.#deps.confirm();
    // Looked at once more: during the round the block may have been opened, or the view lost.
    const isSure = isLeader && this.#deps.isViewComplete();
    if (!isLeader) mark('locate-round-failed');
    return this.#reply(blocks, isSure ? LocateState.ABSENT : LocateState.DONT_KNOW);
  }

  #reply(blocks: readonly BlockId[], unknown: Location['state']): LocateReply {
    const { map, mapVersion } = this.#deps;
    const locations = blocks.map((block): Location => {
      const found = map.locate(block);
      if (found !== undefined) return { block, state: LocateState.FOUND, ...found };
      if (unknown === LocateState.DONT_KNOW) mark('locate-dont-know');
      return { block, state: unknown, opsPrimary: 0, members: [] };
    });
    return { mapVersion: mapVersion(), locations };
  }
}
