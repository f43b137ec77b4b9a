import type { TfsError } from '../common/errors.ts';
import type { ServerId } from '../common/ids.ts';
import { AILING_MS_MIN } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';

interface Ailing {
  /** Monotonic. */
  untilMs: number;
  times: number;
}

/**
 * Servers that could not take part in a configuration that was to begin. Each try stops the operations of a block for
 * seconds: for a while, which grows, none is begun with them where it can be done without.
 */
export class AilingServers {
  readonly #clock: Clock;
  readonly #servers = new Map<ServerId, Ailing>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(server: ServerId): boolean {
    const ailing = this.#servers.get(server);
    return ailing !== undefined && this.#clock.monotonic() < ailing.untilMs;
  }

  /**
   * @param failure details `avoid`: whom the one that was to begin it could not do it with; without, it failed itself,
   *   unless somebody else is about to begin another one
   * @param opsPrimary the one that was to begin it
   */
  failed({ code, details }: TfsError, opsPrimary: ServerId): void {
    const avoid = details?.['avoid'];
    const itself = code === 'STALE_EPOCH' ? [] : [opsPrimary];
    for (const server of Array.isArray(avoid) ? (avoid as ServerId[]) : itself) this.#note(server);
  }

  tookPart(servers: readonly ServerId[]): void {
    for (const server of servers) this.#servers.delete(server);
  }

  #note(server: ServerId): void {
    const now = this.#clock.monotonic();
    const before = this.#servers.get(server);
    // One that was well for long is at the beginning again.
    const times = before === undefined || now > before.untilMs + tunable.attachRetryMsMax ? 0 : before.times;
    const ms = Math.min(tunable.attachRetryMsMax, AILING_MS_MIN * 2 ** Math.min(times, 16));
    this.#servers.set(server, { untilMs: now + ms, times: times + 1 });
  }
}
