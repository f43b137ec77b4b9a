import { isTfsError } from '../common/errors.ts';
import type { Millis, ServerId } from '../common/ids.ts';
import { SERVER_BACKOFF_MS_MAX, SERVER_BACKOFF_MS_MIN } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';

interface Trouble {
  failures: number;
  /** Monotonic. */
  until: Millis;
  isAsking: boolean;
}

/**
 * Which servers failed lately: they are still asked, but after all others. Without `ping` a server's time simply is over
 * after a while, longer with each failure. With it, its time is over only when it has answered a PING: so no request
 * has to find out that a server still hangs.
 */
export class ServerHealth<K = ServerId> {
  readonly #troubled = new Map<K, Trouble>();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #ping: ((server: K) => Promise<unknown>) | undefined;

  constructor(clock: Clock, random: Random, ping?: (server: K) => Promise<unknown>) {
    this.#clock = clock;
    this.#random = random;
    this.#ping = ping;
  }

  /** Whether nobody is in trouble. */
  get isFine(): boolean {
    return this.#troubled.size === 0;
  }

  succeeded(server: K): void {
    if (this.#troubled.size > 0) this.#troubled.delete(server);
  }

  failed(server: K): void {
    const failures = Math.min((this.#troubled.get(server)?.failures ?? 0) + 1, 16);
    const delay = Math.min(SERVER_BACKOFF_MS_MAX, SERVER_BACKOFF_MS_MIN * 2 ** (failures - 1));
    const until = (this.#clock.monotonic() + delay * (0.5 + this.#random.float() / 2)) as Millis;
    this.#troubled.set(server, { failures, until, isAsking: false });
  }

  isTroubled(server: K): boolean {
    if (this.#troubled.size === 0) return false;
    const trouble = this.#troubled.get(server);
    if (trouble === undefined) return false;
    if (trouble.until > this.#clock.monotonic()) return true;
    if (this.#ping === undefined) return false;
    if (!trouble.isAsking) this.#find(server, trouble, this.#ping);
    return true;
  }

  /** Asks for a sign of life; until there is one it stays in trouble. */
  #find(server: K, trouble: Trouble, ping: (server: K) => Promise<unknown>): void {
    trouble.isAsking = true;
    const isCurrent = () => this.#troubled.get(server) === trouble;
    ping(server).then(
      () => isCurrent() && this.#troubled.delete(server),
      () => isCurrent() && this.failed(server),
    );
  }
}

/** Whether an error says that the server itself did not answer, not what it answered. */
export const isUnreachable = (error: unknown): boolean =>
  isTfsError(error, 'CONNECTION_LOST') || isTfsError(error, 'DEADLINE') || isTfsError(error, 'CLOSED');
