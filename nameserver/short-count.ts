import type { ServerId } from '../common/ids.ts';
import { shortIn } from './block-facts.ts';
import type { BlockMap } from './block-map.ts';

const PAGES = 0x1_0000;
const SERVER_IDS = 0x1_0000;
/** A page of 65 536 blocks takes about a millisecond. */
const PAGES_PER_STEP = 8;

/**
 * How many blocks have fewer good replicas on living servers than wanted: counted by going round the map a few pages
 * at a time, because a server that goes down changes it for a third of all blocks at once.
 */
export class ShortCount {
  value = 0;
  readonly #map: BlockMap;
  readonly #down: () => Iterable<ServerId>;
  #next = 0;
  #sum = 0;

  /** @param down the servers that do not answer now */
  constructor(map: BlockMap, down: () => Iterable<ServerId>) {
    this.#map = map;
    this.#down = down;
  }

  step(): void {
    const isDown = new Uint8Array(SERVER_IDS);
    for (const server of this.#down()) isDown[server] = 1;
    for (let counted = 0; this.#next < PAGES && counted < PAGES_PER_STEP; this.#next++) {
      const page = this.#map.page(this.#next);
      if (page === undefined) continue;
      this.#sum += shortIn(page, isDown);
      counted++;
    }
    if (this.#next < PAGES) return;
    this.value = this.#sum;
    this.#next = 0;
    this.#sum = 0;
  }
}
