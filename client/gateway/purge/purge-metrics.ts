import type { Metrics } from '../../../common/metrics.ts';
import type { CacheHealth } from './cache-health.ts';
import type { OutstandingPurges } from './outstanding.ts';

/** `failed` is tried again; `given up` was tried for a day. */
export type PurgeOutcome = 'done' | 'failed' | 'given up';

/** The numbers of what one gateway worker tells caches. */
export class PurgeMetrics {
  readonly #purges;
  readonly #scans;
  readonly #missed;

  constructor(
    metrics: Metrics,
    outstanding: OutstandingPurges,
    health: ReadonlyMap<string, Pick<CacheHealth, 'failingMs'>>,
  ) {
    this.#purges = metrics.counter('tfs_gateway_purges_total', 'Purges of names from caches in front', [
      'cache',
      'outcome',
    ]);
    this.#scans = metrics.counter(
      'tfs_gateway_change_scans_total',
      'Rounds in which the DataServers were asked what changed',
      ['outcome'],
    );
    this.#missed = metrics.counter(
      'tfs_gateway_changes_missed_total',
      'Changes that a DataServer had forgotten before it was asked: other replicas may have told them',
    );
    metrics.observedBy(
      'tfs_gateway_purges_pending',
      'Purges that this worker knows of and does not know as done',
      'cache',
      () => [...health.keys()].map((cache) => [cache, outstanding.countOf(cache)] as const),
    );
    metrics.observedBy(
      'tfs_gateway_purge_failing_seconds',
      'Since when no purge of this cache succeeded; 0 while they do',
      'cache',
      () => [...health].map(([cache, { failingMs }]) => [cache, failingMs / 1000] as const),
    );
  }

  purged(cache: string, outcome: PurgeOutcome): void {
    this.#purges.inc({ cache, outcome });
  }

  scanned(silent: number, missed: number): void {
    this.#scans.inc({ outcome: silent === 0 ? 'all' : 'some' });
    if (missed > 0) this.#missed.inc(missed);
  }
}
