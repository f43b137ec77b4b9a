import type { z } from 'zod';
import { TfsError, toTfsError } from '../common/errors.ts';
import { compareVersions, epochOf, type ServerId, type Version } from '../common/ids.ts';
import { TELL_AGAIN_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import {
  type DrainServer,
  type DrainServerReply,
  type Reign,
  type ServersDrained,
  zServersDrained,
} from '../common/wire/control.ts';
import type { Members } from './members.ts';
import { DRAINED_KEY, type NameStore } from './name-store.ts';

export interface DrainFacts {
  readonly server: ServerId;
  readonly isKnown: boolean;
  /** Failure domains of servers that are not to be emptied, without this one. */
  readonly domainsLeft: number;
  readonly replicas: number;
}

/** @returns undefined where the server can be emptied, else why not and what to do */
export function whyNotDrained({ server, isKnown, domainsLeft, replicas }: DrainFacts): string | undefined {
  if (!isKnown) return `there is no server ${server}`;
  if (domainsLeft >= replicas) return undefined;
  return (
    `${domainsLeft} failure domains would be left, and of every block ${replicas} copies are wanted ` +
    '(cluster.replicas), so that its copies could not go anywhere: add a mount first'
  );
}

export interface DrainsDeps {
  readonly store: NameStore;
  readonly members: Pick<Members, 'known' | 'domainOf'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly replicas: number;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  /** Undefined where there is no other NameServer. */
  readonly tellOther: ((drained: ServersDrained) => Promise<void>) | undefined;
  readonly onMapChange: () => void;
}

const NEVER: Version = { epoch: epochOf(0), n: 0 };

/**
 * Which DataServers are to be emptied, as an operator last said: nothing new is placed on them, and their copies do not
 * count, so that others are made elsewhere and theirs are let go of. Durable on both NameServers; of two lists that of
 * the later leader counts. A cluster that loses both forgets it, and the operator says it again.
 */
export class Drains {
  readonly #deps: DrainsDeps;
  #stamp: Version;
  #servers: ReadonlySet<ServerId>;
  /** The list that the other NameServer is known to have. */
  #toldStamp: Version = NEVER;
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(deps: DrainsDeps, stored: ServersDrained | undefined) {
    this.#deps = deps;
    this.#stamp = stored?.stamp ?? NEVER;
    this.#servers = new Set(stored?.servers);
  }

  static async open(deps: DrainsDeps): Promise<Drains> {
    return new Drains(deps, await deps.store.read(DRAINED_KEY, zServersDrained as z.ZodType<ServersDrained>));
  }

  has(server: ServerId): boolean {
    return this.#servers.has(server);
  }

  /** Lowest first. */
  get servers(): ServerId[] {
    return [...this.#servers].sort((a, b) => a - b);
  }

  /**
   * DRAIN_SERVER from an operator. Durable here when answered.
   *
   * @throws TfsError NOT_LEADER; CONFLICT, see {@link whyNotDrained}; IO, DISK_FULL
   */
  set({ server, drained }: DrainServer): Promise<DrainServerReply> {
    return this.#serially(async () => {
      const { log } = this.#deps;
      const reign = this.#requireReign();
      if (drained !== this.has(server)) {
        const why = drained ? whyNotDrained(this.#facts(server)) : undefined;
        if (why !== undefined) throw new TfsError('CONFLICT', why);
        const n = this.#stamp.epoch === reign.epoch ? this.#stamp.n + 1 : 1;
        const others = this.servers.filter((id) => id !== server);
        await this.#keep({
          stamp: { epoch: reign.epoch, n },
          servers: drained ? [...others, server] : others,
        });
        log.warn({ server, drained }, 'an operator says which DataServers are to be emptied');
      }
      return { drained: this.servers, onBoth: await this.#tell() };
    });
  }

  /** From the other NameServer. Resolves when durable. */
  learn(list: ServersDrained): Promise<void> {
    return this.#serially(async () => {
      if (compareVersions(list.stamp, this.#stamp) > 0) await this.#keep(list);
    });
  }

  /** Tells the other NameServer until it knows. Called now and then. */
  pump(): void {
    const { clock, reign } = this.#deps;
    const isTold = compareVersions(this.#toldStamp, this.#stamp) >= 0;
    if (isTold || reign() === undefined || clock.monotonic() - this.#toldAtMs < TELL_AGAIN_MS) return;
    void this.#tell();
  }

  async #keep(list: ServersDrained): Promise<void> {
    const { store, onMapChange } = this.#deps;
    await store.write(DRAINED_KEY, list, 'which DataServers are to be emptied');
    this.#stamp = list.stamp;
    this.#servers = new Set(list.servers);
    onMapChange();
  }

  /** @returns whether the other one, if there is one, has this list */
  async #tell(): Promise<boolean> {
    const { tellOther, clock, log } = this.#deps;
    const stamp = this.#stamp;
    this.#toldAtMs = clock.monotonic();
    try {
      await tellOther?.({ stamp, servers: this.servers });
      this.#toldStamp = stamp;
      return true;
    } catch (error) {
      log.debug(
        { reason: toTfsError(error).message },
        'the other NameServer was not told which DataServers are to be emptied; it is told later',
      );
      return false;
    }
  }

  #facts(server: ServerId): DrainFacts {
    const { members, replicas } = this.#deps;
    const others = members.known.filter((id) => id !== server && !this.has(id));
    return {
      server,
      isKnown: members.known.includes(server),
      domainsLeft: new Set(others.map((id) => members.domainOf(id))).size,
      replicas,
    };
  }

  #requireReign(): Reign {
    const reign = this.#deps.reign();
    if (reign !== undefined) return reign;
    throw new TfsError('NOT_LEADER', 'this NameServer does not lead: ask the other one');
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => undefined);
    return result;
  }
}
