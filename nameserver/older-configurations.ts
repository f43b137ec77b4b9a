import { type BlockId, compareVersions, type ServerId, type Version } from '../common/ids.ts';
import { BlockState } from '../common/wire/messages.ts';
import { type BlockPage, idOf } from './block-page.ts';
import { Replica, serverOf, stateOf } from './replica-word.ts';

/** What a replica holds that does not hold the newest configuration of its block. */
export interface OlderConfiguration {
  readonly version: Version;
  readonly members: readonly ServerId[];
  readonly opsPrimary: number;
  /** Newest operation that the replica is known to have; 0 where that is not known. */
  readonly seq: number;
}

/**
 * Configurations of replicas that are stale, for the case that nobody holds the newest one any more. As few as those
 * replicas, and in memory alone: they are reported again.
 */
export class OlderConfigurations {
  readonly #byBlock = new Map<BlockId, Map<ServerId, OlderConfiguration>>();

  note(block: BlockId, server: ServerId, { version, members, opsPrimary, seq }: OlderConfiguration): void {
    const held = this.#byBlock.get(block) ?? new Map<ServerId, OlderConfiguration>();
    this.#byBlock.set(block, held);
    held.set(server, { version, members, opsPrimary, seq });
  }

  forget(block: BlockId, server: ServerId): void {
    const held = this.#byBlock.get(block);
    if (held?.delete(server) && held.size === 0) this.#byBlock.delete(block);
  }

  forgetBlock(block: BlockId): void {
    this.#byBlock.delete(block);
  }

  of(block: BlockId): ReadonlyMap<ServerId, OlderConfiguration> {
    return this.#byBlock.get(block) ?? NONE;
  }

  /**
   * The configuration to go back to, where the newest one went with servers that are lost for good before it was in
   * force. It begins in the log of one server alone (docs/decisions/012): when that one is lost then, the others are as
   * good as they were, and would be stale for ever.
   *
   * That it was not in force shows in a member that is there and holds an older one: an operation needs all of them. What
   * was acknowledged before is on whoever holds the newest of the older ones, unless another that is newer was in force
   * on servers that are all lost: those would be `minWrite` at least.
   *
   * @returns undefined where there is none, or where that cannot be told
   */
  toGoBackTo(
    page: BlockPage,
    row: number,
    { lost, minWrite }: { readonly lost: ReadonlySet<ServerId>; readonly minWrite: number },
  ): OlderConfiguration | undefined {
    const older = this.of(idOf(page.number, row));
    if (older.size === 0) return undefined;
    let [gone, lacking] = [0, 0];
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      const server = serverOf(word);
      if (stateOf(word) === 0) {
        if (!lost.has(server)) return undefined;
        gone++;
        continue;
      }
      // One that is not sealed has other things to settle first; of one that cannot be read nobody knows what it holds.
      const isKnown = (word & (Replica.QUARANTINED | Replica.UNCONFIRMED)) === 0 && older.has(server);
      if (stateOf(word) !== BlockState.SEALED || (word & Replica.STALE) === 0 || !isKnown) return undefined;
      if (word & Replica.MEMBER) lacking++;
    }
    if (gone === 0 || gone >= minWrite || lacking === 0) return undefined;
    const [newest] = [...older.values()].sort(
      (a, b) => compareVersions(b.version, a.version) || b.seq - a.seq,
    );
    return newest;
  }
}

const NONE: ReadonlyMap<ServerId, OlderConfiguration> = new Map();
