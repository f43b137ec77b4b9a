import type { BlockId } from '../common/ids.ts';
import { tunable } from '../common/tunables.ts';
import { type BlockMap, PAGES } from './block-map.ts';
import { type BlockPage, idOf, Whole } from './block-page.ts';

/** A page of 65 536 blocks takes about a millisecond. */
const PAGES_PER_STEP = 4;

/** Whether so much of a block is dead that it may be worth compacting: how much of that may go its sequencer knows. */
export const isGarbageRich = (deadBytes: number, length: number, percentMin: number): boolean =>
  deadBytes > 0 && deadBytes * 100 >= length * percentMin;

/** Finds sealed blocks with much garbage, by going round the map a few pages at a time: where there is no queue for them. */
export class GarbageScan {
  readonly #map: BlockMap;
  readonly #percentMin: number;
  #next = 0;

  constructor(map: BlockMap, percentMin: number) {
    this.#map = map;
    this.#percentMin = percentMin;
  }

  /** @param found is told of each; the scan stays where it is when it answers false */
  step(found: (block: BlockId) => boolean): void {
    for (let scanned = 0; scanned < PAGES_PER_STEP; this.#next++) {
      this.#next = this.#map.nextPage(this.#next);
      if (this.#next === PAGES) break;
      const page = this.#map.page(this.#next)!;
      if (!scan(page, this.#percentMin, found)) return;
      scanned++;
    }
    if (this.#next === PAGES) this.#next = 0;
  }
}

function scan(page: BlockPage, percentMin: number, found: (block: BlockId) => boolean): boolean {
  const { dead, state, length } = page;
  for (let row = 0; row < page.rows; row++) {
    if (dead[row] === 0 || state[row] !== Whole.SEALED) continue;
    if (!isGarbageRich(dead[row]! * tunable.deadUnitBytes, length[row]!, percentMin)) continue;
    if (!found(idOf(page.number, row))) return false;
  }
  return true;
}
