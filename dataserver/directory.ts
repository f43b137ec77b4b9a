import { TfsError } from '../common/errors.ts';
import type { HostPort, Millis, ServerId } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';
import { zClusterMap } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { NameServers } from './nameservers.ts';

const REFRESH_MS_MIN = 500;

/** Where the other DataServers listen, as the leader last said. */
export class Directory {
  readonly #nameservers: NameServers;
  readonly #clock: Clock;
  #addresses = new Map<ServerId, HostPort>();
  #refreshedAt: Millis | undefined;
  #refreshing: Promise<void> | undefined;

  constructor({ nameservers, clock }: { nameservers: NameServers; clock: Clock }) {
    this.#nameservers = nameservers;
    this.#clock = clock;
  }

  /** Notes an address that came with a grant or a command. */
  learn(id: ServerId, address: HostPort): void {
    this.#addresses.set(id, address);
  }

  /** @throws TfsError UNAVAILABLE when nobody knows where that server is */
  async address(id: ServerId): Promise<HostPort> {
    const known = this.#addresses.get(id);
    if (known !== undefined) return known;
    await this.refresh();
    const found = this.#addresses.get(id);
    if (found === undefined)
      throw new TfsError('UNAVAILABLE', `DataServer ${id} is not registered`, { retryAfterMs: 1000 });
    return found;
  }

  /** Asks again, at most twice a second: a server may have come back elsewhere. */
  refresh(): Promise<void> {
    const now = this.#clock.monotonic();
    if (this.#refreshedAt !== undefined && now - this.#refreshedAt < REFRESH_MS_MIN)
      return this.#refreshing ?? Promise.resolve();
    this.#refreshedAt = now;
    this.#refreshing = this.#load().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #load(): Promise<void> {
    const map = await this.#nameservers.callLeader(Op.CLUSTER_MAP, {}, zClusterMap);
    const addresses = new Map<ServerId, HostPort>();
    for (const server of map.servers) addresses.set(server.id, server.address);
    this.#addresses = addresses;
  }
}
