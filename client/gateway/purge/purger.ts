import { TfsError, toTfsError } from '../../../common/errors.ts';
import { PURGE_LOOK_MS, PURGE_TIER_MS_MAX } from '../../../common/limits.ts';
import type { Log } from '../../../common/log.ts';
import type { Metrics } from '../../../common/metrics.ts';
import { NAME_LENGTH } from '../../../common/name.ts';
import type { Clock, Timer } from '../../../common/seams/clock.ts';
import type { JobTaker } from '../../../common/seams/job-queue.ts';
import type { Change } from '../../../common/wire/changes.ts';
import type { TfsClient } from '../../client.ts';
import { CacheHealth } from './cache-health.ts';
import { ChangesScan } from './changes-scan.ts';
import { type OutstandingPurge, OutstandingPurges, type Purge, purgeId } from './outstanding.ts';
import { PurgeMetrics } from './purge-metrics.ts';
import { purgeOfJob } from './purge-of-job.ts';
import type { PurgeQueue } from './purge-queue.ts';
import { QueueFeeder } from './queue-feeder.ts';
import { CacheSender } from './sender.ts';
import { type PurgeTarget, tiersOf } from './target.ts';

export interface PurgerOptions {
  readonly targets: readonly PurgeTarget[];
  readonly client: Pick<TfsClient, 'changesOn' | 'clusterMap' | 'nameOf' | 'clusterDigit'>;
  readonly queue: PurgeQueue;
  /** Between two questions to the DataServers. */
  readonly scanMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** How long a gateway that stops waits for what it has just sent. */
const CLOSE_MS_MAX = 1_000;
/** To one cache in one round, by a worker itself, without a queue. */
const ALONE_MAX = 64;
const AGAIN = 'it is purged, and will be again when the caches that it asks are';

/**
 * Tells the caches in front when a name changed its state.
 *
 * Three ways lead there, each without the others. A change through this gateway is sent at once, whatever Redis does. What
 * failed, and what the DataServers tell of, is outstanding: it goes into a queue in Redis, from which all workers take, and
 * which tries it for a day; while there is no Redis this worker tries it itself. And because the DataServers tell each
 * change of the last day to whoever asks, a queue that is lost, or a gateway that was killed before it could send
 * anything, loses nothing: it is asked for again by every worker every {@link PurgerOptions.scanMs}.
 *
 * A cache that asks other caches is purged after them, and again when one of them had to be tried again: an answer that it
 * had fetched from there meanwhile would stay.
 *
 * So a change is purged again when it was told, as a rule. That is not in vain. An answer that was on
 * its way from a gateway to a cache when the first purge came may have been stored behind it.
 */
export class Purger {
  readonly #options: PurgerOptions;
  readonly #senders: ReadonlyMap<string, CacheSender>;
  /** Ids of caches, those that ask the gateways first. */
  readonly #tiers: readonly (readonly string[])[];
  readonly #health: ReadonlyMap<string, CacheHealth>;
  readonly #outstanding: OutstandingPurges;
  readonly #metrics: PurgeMetrics;
  readonly #scan: ChangesScan;
  readonly #feeder: QueueFeeder;
  readonly #takers: readonly JobTaker[];
  /** Sent at once and not answered yet. */
  readonly #sending = new Set<Promise<void>>();
  #scanDueAtMs = 0;
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #isBusy = false;
  #closed = false;

  static open(options: PurgerOptions): Purger {
    const purger = new Purger(options);
    purger.#soon(0);
    return purger;
  }

  private constructor(options: PurgerOptions) {
    const { targets, client, queue, clock, log, metrics } = options;
    this.#options = options;
    this.#senders = new Map(targets.map((target) => [target.id, new CacheSender(target, clock)]));
    this.#tiers = tiersOf(targets).map((tier) => tier.map(({ id }) => id));
    this.#health = new Map(targets.map(({ id }) => [id, new CacheHealth(clock)]));
    this.#outstanding = new OutstandingPurges(() => clock.monotonic());
    this.#metrics = new PurgeMetrics(metrics, this.#outstanding, this.#health);
    this.#scan = new ChangesScan(client, log);
    this.#feeder = new QueueFeeder(queue, this.#outstanding, clock);
    this.#takers = targets.map(({ id, kind, batch, concurrency }) =>
      queue.take(id, kind === 'webhook' ? batch : concurrency, (payload) => this.#work(id, payload)),
    );
  }

  /** A name's state changed, or may have, through this gateway. Returns at once and never throws. */
  changed(name: string): void {
    const sent = this.#sendAtOnce(name.slice(0, NAME_LENGTH), this.#options.clock.now());
    this.#sending.add(sent);
    void sent.finally(() => this.#sending.delete(sent));
  }

  /** What this worker does not know as done. */
  get pending(): number {
    return this.#outstanding.size;
  }

  /** For `tfs status` and `tfs doctor`: of the caches that fail the one that has failed longest. */
  get status(): Readonly<Record<string, string | number>> {
    let longest: { cache: string; ms: number; why: string } | undefined;
    for (const [cache, { failingMs, why }] of this.#health)
      if (failingMs > (longest?.ms ?? 0)) longest = { cache, ms: failingMs, why };
    return {
      purgesPending: this.pending,
      ...(longest === undefined ? {} : { purgeFailing: longest.why, purgeFailingMs: Math.round(longest.ms) }),
    };
  }

  /** Lets what was sent at once come to its end, for a moment. Everything else the other workers know too. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    const { clock } = this.#options;
    await Promise.race([Promise.all(this.#sending), clock.sleep(CLOSE_MS_MAX)]);
    await Promise.all(this.#takers.map((taker) => taker.close()));
    await Promise.all([...this.#senders.values()].map((sender) => sender.close()));
    await this.#round;
  }

  /** To one tier after the other; whoever is late is not waited for. */
  async #sendAtOnce(name: string, atMs: number): Promise<void> {
    let isInOrder = true;
    for (const tier of this.#tiers) {
      const sent = Promise.all(
        tier.map((cache) => this.#sendOne({ cache, name, reason: 'changed', atMs }, isInOrder)),
      );
      const late = this.#options.clock.sleep(PURGE_TIER_MS_MAX).then(() => [false]);
      const outcomes = await (tier === this.#tiers.at(-1) ? sent : Promise.race([sent, late]));
      isInOrder &&= outcomes.every(Boolean);
    }
  }

  /** @returns whether it is done */
  async #sendOne(purge: Purge, isInOrder: boolean): Promise<boolean> {
    const isSent = await this.#send(purge).then(
      () => true,
      () => false,
    );
    if (isSent && isInOrder) {
      void this.#done(purge);
      return true;
    }
    // Where there is no room for it the DataServers will tell of the change.
    if (this.#outstanding.add(purge)) this.#soon(0);
    return false;
  }

  /** Resolves when others can know it. */
  async #done(purge: Purge): Promise<void> {
    this.#outstanding.done(purgeId(purge));
    // Where this is lost it is purged once more.
    await this.#options.queue.markDone(purge).catch(() => undefined);
  }

  /** Whether the caches that this one asks have nothing of it any more. */
  async #isInOrder(purge: Purge): Promise<boolean> {
    const own = this.#senders.get(purge.cache)!.target.tier;
    const before = [...this.#senders.values()]
      .filter(({ target }) => target.tier < own)
      .map(({ target }): Purge => ({ ...purge, cache: target.id }));
    const unknown = before.filter((one) => !this.#outstanding.isDone(purgeId(one)));
    if (unknown.length === 0) return true;
    const done = await this.#options.queue.doneOf(unknown).catch(() => []);
    return done.length === unknown.length;
  }

  /** @throws TfsError when it is to be tried again */
  async #send(purge: Purge): Promise<void> {
    const { cache, name, reason } = purge;
    const health = this.#health.get(cache)!;
    try {
      await this.#senders.get(cache)!.purge(name, reason);
      health.succeeded();
      this.#metrics.purged(cache, 'done');
    } catch (error) {
      if (!this.#closed) {
        const why = toTfsError(error).message;
        if (health.failingMs === 0)
          this.#options.log.warn({ cache, reason: why }, 'a cache could not be purged');
        health.failed(why);
        this.#metrics.purged(cache, 'failed');
      }
      throw error;
    }
  }

  /** A job. */
  async #work(cache: string, payload: unknown): Promise<string> {
    const purge = purgeOfJob(cache, payload, this.#options.client.clusterDigit);
    if (purge === undefined) return 'not a purge';
    const isInOrder = await this.#isInOrder(purge);
    await this.#send(purge);
    if (!isInOrder) throw new TfsError('UNAVAILABLE', AGAIN);
    await this.#done(purge);
    return 'purged';
  }

  /** Never two at a time. */
  #soon(afterMs: number): void {
    if (this.#closed || this.#isBusy) return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(afterMs, () => {
      this.#isBusy = true;
      this.#round = this.#look()
        .catch((err: unknown) => this.#options.log.error({ err }, 'purges could not be looked after'))
        .finally(() => {
          this.#isBusy = false;
          this.#soon(this.#restMs());
        });
    });
  }

  #restMs(): number {
    const untilScanMs = Math.max(0, this.#scanDueAtMs - this.#options.clock.monotonic());
    return this.#outstanding.size > 0 ? Math.min(PURGE_LOOK_MS, untilScanMs) : untilScanMs;
  }

  async #look(): Promise<void> {
    const { clock, scanMs } = this.#options;
    if (clock.monotonic() >= this.#scanDueAtMs) {
      // Before there is a map there is nobody to be asked.
      const isMapped = this.#options.client.clusterMap !== undefined;
      this.#scanDueAtMs = clock.monotonic() + (isMapped ? scanMs : PURGE_LOOK_MS);
      if (isMapped) await this.#askDataServers();
    }
    this.#giveUp();
    for (const [cache, health] of this.#health)
      if (this.#outstanding.countOf(cache) === 0) health.succeeded();
    if (this.#outstanding.size === 0) return;
    try {
      await this.#feeder.feed(this.#senders.keys());
    } catch (error) {
      this.#options.log.debug({ reason: toTfsError(error).message }, 'purges are tried without a queue');
      await this.#sendAlone();
    }
  }

  async #askDataServers(): Promise<void> {
    const { silent, missed, unread } = await this.#scan.run((changes) => this.#take(changes));
    this.#metrics.scanned(silent, missed);
    const { log } = this.#options;
    if (missed > 0)
      log.warn({ missed }, 'a DataServer had more changes than it remembers: some may not be purged');
    if (unread > 0) log.debug({ unread }, 'names that changed do not read on some DataServer');
  }

  /** @returns whether there was room for all of them */
  #take(changes: readonly Change[]): boolean {
    let isAll = true;
    for (const change of changes) {
      const name = this.#options.client.nameOf(change).slice(0, NAME_LENGTH);
      for (const cache of this.#senders.keys())
        if (!this.#outstanding.add({ cache, name, reason: change.kind, atMs: change.atMs })) isAll = false;
    }
    return isAll;
  }

  #giveUp(): void {
    for (const { cache, name, reason, attempts } of this.#outstanding.takeLapsed()) {
      this.#metrics.purged(cache, 'given up');
      const what = 'a purge is given up after a day: send it with "tfs purge" when the cache is back';
      this.#options.log.error({ cache, name, reason, attempts }, what);
    }
  }

  async #sendAlone(): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.monotonic();
    const due: OutstandingPurge[] = [];
    for (const cache of this.#senders.keys()) due.push(...this.#outstanding.due(cache, nowMs, ALONE_MAX));
    await Promise.all(
      due.map(async (purge) => {
        try {
          const isInOrder = await this.#isInOrder(purge);
          await this.#send(purge);
          if (isInOrder) void this.#done(purge);
          else this.#outstanding.failed(purge.id);
        } catch {
          // Counted and told where it was sent.
          this.#outstanding.failed(purge.id);
        }
      }),
    );
  }
}
