import type { ServerId } from '../common/ids.ts';
import type { ServerHealth } from './server-health.ts';
import type { ServerPace } from './server-pace.ts';

/** What the cluster map says of servers. */
export interface ServerStates {
  /** Whether all of them are up and fast. */
  readonly isEven: boolean;
  isUp(server: ServerId): boolean;
  /** Whether its disk is slow, as its own probe finds. */
  isSlow(server: ServerId): boolean;
}

/** In which order to ask servers, from all that is known of them. */
export class Preference {
  readonly #states: ServerStates;
  readonly #health: ServerHealth;
  readonly #pace: ServerPace;

  constructor(states: ServerStates, health: ServerHealth, pace: ServerPace) {
    this.#states = states;
    this.#health = health;
    this.#pace = pace;
  }

  isReachable(server: ServerId): boolean {
    return this.#states.isUp(server) && !this.#health.isTroubled(server);
  }

  /** By the map or by this client's own measure. */
  isSlow(server: ServerId): boolean {
    return this.#states.isSlow(server) || this.#pace.isBehind(server);
  }

  /** As given, but slow servers after the others, and those that do not answer last. */
  order(servers: readonly ServerId[]): readonly ServerId[] {
    if (this.#states.isEven && this.#health.isFine && this.#pace.isEven) return servers;
    const good: ServerId[] = [];
    const slow: ServerId[] = [];
    const bad: ServerId[] = [];
    for (const [i, server] of servers.entries()) {
      if (!this.isReachable(server)) bad.push(server);
      else if (this.#states.isSlow(server)) slow.push(server);
      // Where it would be the first, one request now and then finds out whether it still is slow.
      else if (this.#pace.isBehind(server) && !(i === 0 && this.#pace.tryOut(server))) slow.push(server);
      else good.push(server);
    }
    return [...good, ...slow, ...bad];
  }
}
