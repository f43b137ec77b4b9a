import { isTfsError } from '../common/errors.ts';
import type { Millis, ServerId } from '../common/ids.ts';
import { READ_ATTEMPT_MS_MAX, SERVER_BACKOFF_MS_MAX, SERVER_BACKOFF_MS_MIN } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';

interface Trouble {
  failures: number;
  /** Monotonic. */
  until: Millis;
}

/**
 * Which servers failed lately: they are still asked, but after all others. When a server's time is over, one request is
 * let through to find out; the others go on avoiding it meanwhile, so that a server that hangs costs one wait and not
 * that of everybody.
 */
export class ServerHealth {
  readonly #troubled = new Map<ServerId, Trouble>();
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  succeeded(server: ServerId): void {
    if (this.#troubled.size > 0) this.#troubled.delete(server);
  }

  failed(server: ServerId): void {
    const failures = Math.min((this.#troubled.get(server)?.failures ?? 0) + 1, 16);
    const delay = Math.min(SERVER_BACKOFF_MS_MAX, SERVER_BACKOFF_MS_MIN * 2 ** (failures - 1));
    const until = (this.#clock.monotonic() + delay * (0.5 + this.#random.float() / 2)) as Millis;
    this.#troubled.set(server, { failures, until });
  }

  isTroubled(server: ServerId): boolean {
    if (this.#troubled.size === 0) return false;
    const trouble = this.#troubled.get(server);
    return trouble !== undefined && trouble.until > this.#clock.monotonic();
  }

  /**
   * The servers in the order to ask them: as given, but those in trouble last.
   *
   * @param isUp what else is known of them
   */
  order(servers: readonly ServerId[], isUp: (server: ServerId) => boolean): readonly ServerId[] {
    if (this.#troubled.size === 0 && servers.every(isUp)) return servers;
    const good: ServerId[] = [];
    const bad: ServerId[] = [];
    for (const server of servers) (isUp(server) && !this.isTroubled(server) ? good : bad).push(server);
    const first = good[0];
    const trial = first === undefined ? undefined : this.#troubled.get(first);
    // Its time is over and this request is the one that finds out.
    if (trial !== undefined) trial.until = (this.#clock.monotonic() + READ_ATTEMPT_MS_MAX) as Millis;
    return [...good, ...bad];
  }
}

/** Whether an error says that the server itself did not answer, not what it answered. */
export const isUnreachable = (error: unknown): boolean =>
  isTfsError(error, 'CONNECTION_LOST') || isTfsError(error, 'DEADLINE') || isTfsError(error, 'CLOSED');
