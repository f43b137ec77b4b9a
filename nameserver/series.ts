import { z } from 'zod';
import { TfsError } from '../common/errors.ts';
import { type BlockId, blockId } from '../common/ids.ts';
import { COUNTERS_PER_SERIES, NEW_SERIES_PER_HOUR_MAX, SERIES_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { NameServerFaults } from './faults.ts';
import { type NameStore, SERIES_KEY } from './name-store.ts';

const zSeries = z.object({
  /** The one that is used, 0 for none. */
  series: z.number().int().min(0).max(SERIES_MAX),
  /** Counters below it may have been given out. */
  reserved: z.number().int().min(0).max(COUNTERS_PER_SERIES),
  /** Highest series that anyone has used, as far as was ever heard. */
  highest: z.number().int().min(0).max(SERIES_MAX),
});
type Stored = z.infer<typeof zSeries>;

const HOUR_MS = 3_600_000;

export interface SeriesDeps {
  readonly store: NameStore;
  readonly nameserver: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined when every id that was ever used has been heard of, else who is missing for that. */
  readonly whoIsMissing: () => string | undefined;
  readonly faults?: NameServerFaults;
}

/**
 * The ids of new blocks: 15 bits series, 1 bit NameServer, 16 bits counter. An id is given out once for ever. A
 * counter is durably reserved before it is given out, so a restart goes on behind it; a series is drawn above every
 * one that was ever heard of, and only when everyone has been heard.
 */
export class Series {
  readonly #deps: SeriesDeps;
  #stored: Stored;
  #next: number;
  #drawnAtMs: number[] = [];
  #queue: Promise<void> = Promise.resolve();

  private constructor(deps: SeriesDeps, stored: Stored) {
    this.#deps = deps;
    this.#stored = stored;
    this.#next = stored.reserved;
  }

  static async open(deps: SeriesDeps): Promise<Series> {
    const stored = await deps.store.read(SERIES_KEY, zSeries);
    return new Series(deps, stored ?? { series: 0, reserved: COUNTERS_PER_SERIES, highest: 0 });
  }

  get series(): number {
    return this.#stored.series;
  }

  /** Whether the next id needs a new series, and not everyone has been heard: {@link next} would fail. */
  get isBlocked(): boolean {
    return this.#isUsedUp && this.#deps.whoIsMissing() !== undefined;
  }

  /**
   * Some DataServer holds, or held, this id.
   *
   * @returns false when it is one that this store cannot have given out although it is of the series in use: the
   *   store is older than the ids (a restored copy). The series is given up then.
   */
  heard(page: number, counter: number): boolean {
    if (this.#deps.faults?.has('series-from-store-alone')) return true;
    const series = page >>> 1;
    if (series > this.#stored.highest) this.#stored = { ...this.#stored, highest: series };
    const isMine = page === this.#page && this.#stored.series !== 0;
    if (!isMine || counter < this.#stored.reserved) return true;
    mark('series-given-up');
    this.#deps.log.error(
      { series, counter, reserved: this.#stored.reserved },
      'a block id is newer than the state of this NameServer: its directory is an old copy; taking a new series',
    );
    this.#stored = { ...this.#stored, series: 0, reserved: COUNTERS_PER_SERIES };
    this.#next = COUNTERS_PER_SERIES;
    return false;
  }

  /** @throws TfsError SAFE_MODE when a new series is needed and not everyone has been heard; IO, DISK_FULL */
  async next(): Promise<BlockId> {
    // Again and again: others that waited for the same refill may have taken all of it.
    while (!this.#hasCounter) await this.#refill();
    // No await from here on: two callers never get the same counter.
    const counter = this.#next++;
    return blockId(this.#page * COUNTERS_PER_SERIES + counter);
  }

  get #hasCounter(): boolean {
    return this.#stored.series !== 0 && this.#next < this.#stored.reserved;
  }

  get #isUsedUp(): boolean {
    return this.#stored.series === 0 || this.#next >= tunable.countersPerSeries;
  }

  get #page(): number {
    return this.#stored.series * 2 + this.#deps.nameserver;
  }

  /** One at a time; those that wait find counters when their turn comes. */
  #refill(): Promise<void> {
    const work = this.#queue.then(async () => {
      if (this.#hasCounter) return;
      await (this.#isUsedUp ? this.#draw() : this.#reserve());
    });
    this.#queue = work.catch(() => undefined);
    return work;
  }

  async #reserve(): Promise<void> {
    const reserved = Math.min(tunable.countersPerSeries, this.#next + tunable.counterReserve);
    await this.#keep({ ...this.#stored, reserved });
  }

  async #draw(): Promise<void> {
    const { whoIsMissing, clock, log } = this.#deps;
    const missing = whoIsMissing();
    if (missing !== undefined)
      throw new TfsError(
        'SAFE_MODE',
        `no new block ids before enough DataServers have reported; ${missing}: start them (see "tfs status")`,
        { retryAfterMs: 1000 },
      );
    const series = this.#stored.highest + 1;
    if (series > SERIES_MAX)
      throw new TfsError(
        'UNAVAILABLE',
        `all ${SERIES_MAX} series of block ids are used up: start another cluster`,
      );
    const reserved = Math.min(tunable.countersPerSeries, tunable.counterReserve);
    if (!(await this.#keep({ series, reserved, highest: series }))) return;
    this.#next = 0;
    mark('series-drawn');
    const now = clock.monotonic();
    this.#drawnAtMs = [...this.#drawnAtMs.filter((at) => now - at < HOUR_MS), now];
    const facts = { series, inTheLastHour: this.#drawnAtMs.length };
    if (this.#drawnAtMs.length > NEW_SERIES_PER_HOUR_MAX)
      log.error(facts, 'too many new series of block ids');
    else log.info(facts, 'a new series of block ids');
  }

  /** @returns false when the series was given up meanwhile */
  async #keep(next: Stored): Promise<boolean> {
    const before = this.#stored.series;
    await this.#deps.store.write(SERIES_KEY, next, 'its block ids');
    const highest = Math.max(next.highest, this.#stored.highest);
    const holds = this.#stored.series === before;
    this.#stored = holds ? { ...next, highest } : { ...this.#stored, highest };
    return holds;
  }
}
