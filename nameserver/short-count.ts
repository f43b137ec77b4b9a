import type { ServerId } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';
import { type CopyCounts, countCopies, noCopies } from './block-facts.ts';
import { type BlockMap, PAGES } from './block-map.ts';

const SERVER_IDS = 0x1_0000;
/** A page of 65 536 blocks takes a millisecond or two. */
const PAGES_PER_STEP = 8;

export interface ShortCountDeps {
  readonly map: BlockMap;
  readonly clock: Clock;
  /** Copies that are wanted of a block. */
  readonly replicas: number;
  /** The servers that do not answer now, or have not reported all they hold. */
  readonly away: () => Iterable<ServerId>;
}

/**
 * How many good copies blocks have on servers that are there: counted by going round the map a few pages at a time,
 * because a server that goes away changes it for a third of all blocks at once.
 */
export class ShortCount {
  readonly #deps: ShortCountDeps;
  #counts: CopyCounts;
  #countedFromMs: number | undefined;
  #next = 0;
  #sum: CopyCounts;
  #sumFromMs = 0;

  constructor(deps: ShortCountDeps) {
    this.#deps = deps;
    this.#counts = noCopies(deps.replicas);
    this.#sum = noCopies(deps.replicas);
  }

  /** Blocks with fewer good copies than wanted. */
  get value(): number {
    return this.#counts.short;
  }

  /** Of the last whole round. */
  get counts(): Readonly<CopyCounts> {
    return this.#counts;
  }

  /** Since the last whole round began; undefined before the first one has ended. */
  get ageMs(): number | undefined {
    return this.#countedFromMs === undefined ? undefined : this.#deps.clock.monotonic() - this.#countedFromMs;
  }

  step(): void {
    const { map, clock, replicas, away } = this.#deps;
    if (this.#next === 0) this.#sumFromMs = clock.monotonic();
    const isAway = new Uint8Array(SERVER_IDS);
    for (const server of away()) isAway[server] = 1;
    for (let counted = 0; counted < PAGES_PER_STEP; this.#next++) {
      this.#next = map.nextPage(this.#next);
      if (this.#next === PAGES) break;
      const page = map.page(this.#next)!;
      countCopies(page, isAway, this.#sum);
      counted++;
    }
    if (this.#next < PAGES) return;
    this.#counts = this.#sum;
    this.#countedFromMs = this.#sumFromMs;
    this.#next = 0;
    this.#sum = noCopies(replicas);
  }
}
