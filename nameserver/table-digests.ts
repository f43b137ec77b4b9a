import type { BlockId } from '../common/ids.ts';
import { replicaDigest } from '../common/wire/table-digest.ts';
import { flagsOf, serverOf, stateOf } from './replica-word.ts';

const SERVER_IDS = 0x1_0000;

/** For each server the `tableDigest` of what it is known to hold, kept up with every change of a replica word. */
export class TableDigests {
  readonly #sums = new Uint32Array(SERVER_IDS);

  of(server: number): number {
    return this.#sums[server]!;
  }

  /** The word of one replica changes; 0 for one that was not there, or is not any more. */
  change(block: BlockId, before: number, after: number): void {
    this.#add(block, after, 1);
    this.#add(block, before, -1);
  }

  #add(block: BlockId, word: number, sign: 1 | -1): void {
    const state = stateOf(word);
    // A member that has not reported the block.
    if (state === 0) return;
    this.#sums[serverOf(word)]! += sign * replicaDigest(block, state, flagsOf(word));
  }
}
