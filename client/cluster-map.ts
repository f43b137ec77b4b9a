import { TfsError, toTfsError } from '../common/errors.ts';
import { formatHostPort, type HostPort, type Millis, type ServerId } from '../common/ids.ts';
import { CLUSTER_MAP_REFRESH_MS, CLUSTER_MAP_REFRESH_MS_MIN } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import {
  type ClusterMap,
  compareReigns,
  decodeControl,
  encodeControl,
  type Reign,
  zClusterMap,
} from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { NameServers } from './nameservers.ts';
import type { Weighted } from './rendezvous.ts';

export interface ClusterMapCacheOptions {
  readonly nameservers: NameServers;
  readonly clock: Clock;
  readonly log: Log;
  /** 32 hex digits: a map of another cluster is refused. */
  readonly clusterUuid?: string;
}

/**
 * The servers of the cluster as a NameServer last told: where they are and what they may store. Read again every
 * few seconds, when a NameServer mentions another version, and when a server fails; an old map is better than none,
 * so a NameServer outage changes nothing here.
 */
export class ClusterMapCache {
  #current: ClusterMap | undefined;
  /** The highest that anyone claimed to lead under. */
  #reign: Reign | undefined;
  #addresses = new Map<ServerId, HostPort>();
  #weighted: readonly Weighted[] = [];
  #writable: ReadonlySet<ServerId> = new Set();
  #down: ReadonlySet<ServerId> = new Set();
  #slow: ReadonlySet<ServerId> = new Set();
  #refreshing: Promise<ClusterMap> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY as Millis;
  #timer: Timer | undefined;
  #closed = false;
  readonly #options: ClusterMapCacheOptions;

  static open(options: ClusterMapCacheOptions): ClusterMapCache {
    const cache = new ClusterMapCache(options);
    cache.#timer = options.clock.every(CLUSTER_MAP_REFRESH_MS, () => cache.#refreshSoon());
    cache.#refreshSoon();
    return cache;
  }

  private constructor(options: ClusterMapCacheOptions) {
    this.#options = options;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  get current(): ClusterMap | undefined {
    return this.#current;
  }

  /** Every registered DataServer with its share of the contents, also those that are down. */
  get weighted(): readonly Weighted[] {
    return this.#weighted;
  }

  addressOf(server: ServerId): HostPort | undefined {
    return this.#addresses.get(server);
  }

  /** Whether the map shows the server as up; a server it does not show yet may well be. */
  isUp(server: ServerId): boolean {
    return !this.#down.has(server);
  }

  /** Whether the map shows the server's disk as slow, or as failing. */
  isSlow(server: ServerId): boolean {
    return this.#slow.has(server);
  }

  /** Whether the map shows every server as up and none as slow. */
  get isEven(): boolean {
    return this.#down.size === 0 && this.#slow.size === 0;
  }

  /** Whether the map shows the server as up, with a disk that takes writes, and nobody wants it emptied. */
  isWritable(server: ServerId): boolean {
    return this.#writable.has(server);
  }

  /** Whether the map shows enough failure domains for a write set. */
  get writeSetPossible(): boolean {
    const map = this.#current;
    if (map === undefined) return false;
    const domains = new Set(map.servers.filter((s) => this.#writable.has(s.id)).map((s) => s.domain));
    return domains.size >= map.minWrite;
  }

  /** @throws TfsError UNAVAILABLE when no NameServer answers and none ever did */
  async get(): Promise<ClusterMap> {
    return this.#current ?? this.refresh();
  }

  /** Something does not fit the map: reads it again, not too often. */
  noteTrouble(): void {
    if (this.#options.clock.monotonic() - this.#askedAt >= CLUSTER_MAP_REFRESH_MS_MIN) this.#refreshSoon();
  }

  noteVersion(version: number): void {
    if (version !== this.#current?.mapVersion) this.noteTrouble();
  }

  /** Concurrent calls share one round of questions. */
  refresh(): Promise<ClusterMap> {
    this.#refreshing ??= this.#ask().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  #refreshSoon(): void {
    if (this.#closed) return;
    this.refresh().catch((error: unknown) => {
      this.#options.log.debug({ err: error }, 'the cluster map could not be read');
    });
  }

  /**
   * Asks all NameServers at once; the leader's answer counts as soon as it is there, another's if there is none. Two may
   * claim to lead, when one was deposed and has not heard of it: the higher reign counts, also if its answer comes later.
   */
  async #ask(): Promise<ClusterMap> {
    this.#askedAt = this.#options.clock.monotonic();
    const { nameservers } = this.#options;
    const failures: string[] = [];
    let cause: unknown;
    let leader: ClusterMap | undefined;
    let isDone = false;
    const best = await new Promise<ClusterMap | undefined>((resolve) => {
      let waiting = nameservers.ordered.length;
      let fallback: ClusterMap | undefined;
      for (const address of nameservers.ordered) {
        this.#askOne(address)
          .then((map) => {
            if (map.leader && this.#isHighest(map.reign)) {
              nameservers.leads(address);
              leader = map;
              if (isDone) this.#adopt(map);
              else resolve(map);
            } else if (fallback === undefined || map.mapVersion > fallback.mapVersion) fallback = map;
          })
          .catch((error: unknown) => {
            cause = error;
            failures.push(`${formatHostPort(address)}: ${toTfsError(error).message}`);
          })
          .finally(() => {
            waiting--;
            if (waiting === 0) resolve(fallback);
          });
      }
    });
    isDone = true;
    const found = leader ?? best;
    if (found !== undefined) {
      this.#adopt(found);
      return found;
    }
    throw new TfsError('UNAVAILABLE', `no NameServer answers (${failures.join('; ')})`, {
      cause,
      retryAfterMs: 1000,
    });
  }

  /** Whether nobody is known to lead under a higher reign. */
  #isHighest(reign: Reign): boolean {
    if (this.#reign !== undefined && compareReigns(reign, this.#reign) < 0) return false;
    this.#reign = reign;
    return true;
  }

  async #askOne(address: HostPort): Promise<ClusterMap> {
    const reply = await this.#options.nameservers.call(address, Op.CLUSTER_MAP, encodeControl({}));
    const map = decodeControl(zClusterMap, reply.header, 'cluster map');
    const { clusterUuid } = this.#options;
    if (clusterUuid !== undefined && clusterUuid !== map.clusterUuid)
      throw new TfsError(
        'CONFIG',
        `the NameServer at ${formatHostPort(address)} belongs to cluster ${map.clusterUuid}, not to ` +
          `${clusterUuid}: correct its address or cluster.uuid in config.json`,
      );
    return map;
  }

  #adopt(map: ClusterMap): void {
    this.#current = map;
    this.#addresses = new Map(map.servers.map((server) => [server.id, server.address]));
    this.#weighted = map.servers.map((server) => ({ id: server.id, weight: server.capacityBytes }));
    this.#down = new Set(map.servers.filter((server) => server.state !== 'up').map((server) => server.id));
    this.#slow = new Set(map.servers.filter(({ io }) => io.slow || !io.healthy).map((server) => server.id));
    this.#writable = new Set(
      map.servers
        .filter(
          ({ state, io, drained }) => state === 'up' && io.healthy && !io.readOnly && !io.full && !drained,
        )
        .map((server) => server.id),
    );
  }
}
