import type { BlockId, ServerId } from '../common/ids.ts';
import { type BlockMap, PAGES } from './block-map.ts';
import { type BlockPage, INLINE_REPLICAS, idOf, SUSPECT_BIT, Whole } from './block-page.ts';
import { Replica, stateOf } from './replica-word.ts';

const SERVER_IDS = 0x1_0000;
/** A page of 65 536 blocks takes about a millisecond. */
const PAGES_PER_STEP = 8;
/** More are found when these have been seen to. */
const FOUND_MAX = 1024;

/**
 * Finds sealed blocks that a server should hold and does not report, by going round the map a few pages at a time: a
 * disk that comes back empty is missing all of its blocks at once, too many to keep a list of.
 */
export class AbsentScan {
  /** Found on the way round; whoever looks at them takes out what is not so any more. */
  readonly found = new Set<BlockId>();
  readonly #map: BlockMap;
  readonly #present: () => Iterable<ServerId>;
  #next = 0;

  /** @param present servers whose whole table is known */
  constructor(map: BlockMap, present: () => Iterable<ServerId>) {
    this.#map = map;
    this.#present = present;
  }

  step(): void {
    const isPresent = new Uint8Array(SERVER_IDS);
    for (const server of this.#present()) isPresent[server] = 1;
    for (let scanned = 0; scanned < PAGES_PER_STEP; this.#next++) {
      this.#next = this.#map.nextPage(this.#next);
      if (this.#next === PAGES) break;
      if (this.found.size >= FOUND_MAX) return;
      const page = this.#map.page(this.#next)!;
      this.#scan(page, isPresent);
      scanned++;
    }
    if (this.#next === PAGES) this.#next = 0;
  }

  #scan(page: BlockPage, isPresent: Uint8Array): void {
    const { words, shape, state } = page;
    for (let row = 0; row < page.rows; row++) {
      const count = shape[row]! & 15;
      if (count === 0 || (state[row]! & ~SUSPECT_BIT) !== Whole.SEALED) continue;
      // What holds nothing lacks nothing: it is about to be retired, replica by replica.
      if (page.isEmpty(row)) continue;
      for (let i = 0; i < count; i++) {
        const word = i < INLINE_REPLICAS ? words[row * INLINE_REPLICAS + i]! : page.word(row, i);
        const isAbsent = stateOf(word) === 0 && (word & Replica.MEMBER) !== 0;
        if (isAbsent && isPresent[word & 0xffff] === 1) this.found.add(idOf(page.number, row));
      }
      if (this.found.size >= FOUND_MAX) return;
    }
  }
}
