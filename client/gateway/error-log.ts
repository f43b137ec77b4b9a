import { type ErrorCode, toTfsError } from '../../common/errors.ts';
import type { Millis } from '../../common/ids.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';

/** In an outage every request fails alike: one line in this time tells it. */
const SAME_CODE_MS = 1_000;

/** Writes down what went wrong here, with the request id that the client was given. Mistakes of clients are not. */
export class ErrorLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #seen = new Map<ErrorCode, { loggedAt: Millis; suppressed: number }>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  note(thrown: unknown, requestId: string): void {
    const error = toTfsError(thrown);
    if (error.httpStatus < 500) return;
    const now = this.#clock.monotonic();
    const last = this.#seen.get(error.code);
    if (last !== undefined && now - last.loggedAt < SAME_CODE_MS) {
      last.suppressed++;
      return;
    }
    this.#seen.set(error.code, { loggedAt: now, suppressed: 0 });
    const facts = { err: error, code: error.code, requestId, suppressed: last?.suppressed ?? 0 };
    if (error.httpStatus === 503) this.#log.warn(facts, 'a request could not be served now');
    else this.#log.error(facts, 'a request failed');
  }
}
