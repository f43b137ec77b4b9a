import type { BlockId } from '../common/ids.ts';
import { type BlockMap, PAGES } from './block-map.ts';
import { idOf } from './block-page.ts';

/** A page of 65 536 blocks takes less than a millisecond. */
const PAGES_PER_STEP = 8;
const FOUND_MAX = 1024;

/** Finds blocks that were sealed without a record, as every start of a DataServer leaves a few, by going round the map. */
export class EmptyScan {
  /** Found on the way round; whoever looks at them takes out what is not so any more. */
  readonly found = new Set<BlockId>();
  readonly #map: Pick<BlockMap, 'page' | 'nextPage'>;
  #next = 0;

  constructor(map: Pick<BlockMap, 'page' | 'nextPage'>) {
    this.#map = map;
  }

  step(): void {
    for (let scanned = 0; scanned < PAGES_PER_STEP; this.#next++) {
      this.#next = this.#map.nextPage(this.#next);
      if (this.#next === PAGES) break;
      const page = this.#map.page(this.#next)!;
      for (let row = 0; row < page.rows; row++) {
        if (this.found.size >= FOUND_MAX) return;
        if (page.has(row) && page.isEmpty(row)) this.found.add(idOf(page.number, row));
      }
      scanned++;
    }
    if (this.#next === PAGES) this.#next = 0;
  }
}
