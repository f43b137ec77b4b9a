import { type Dispatcher, Pool } from 'undici';
import { TfsError } from '../../../common/errors.ts';
import { PURGE_BATCH_MS, PURGES_WAITING_MAX } from '../../../common/limits.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import type { ChangeKind } from '../../../common/wire/changes.ts';
import type { PurgeTarget } from './target.ts';
import { SIGNATURE_HEADER, signatureOf } from './webhook-signature.ts';

/** Why a name is purged: what happened to it, `changed` where only that something did is known, or that somebody asked. */
export type PurgeReason = ChangeKind | 'changed' | 'request';

/** Of the answer, which nobody reads. */
const ANSWER_BYTES_MAX = 64 * 1024;

interface Waiting {
  readonly name: string;
  readonly reason: PurgeReason;
  readonly resolve: () => void;
  readonly reject: (error: TfsError) => void;
}

/**
 * Purges names from one cache: a few requests at a time, each bounded in time, to the configured URL and nowhere else: a
 * redirect is a failure. 2xx is done, and for PURGE 404 too, which says that nothing of it is there.
 */
export class CacheSender {
  readonly target: PurgeTarget;
  readonly #clock: Clock;
  readonly #pool: Pool;
  readonly #path: string;
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #closed = false;
  /** A webhook that waits for more names. */
  #gathering = false;

  constructor(target: PurgeTarget, clock: Clock) {
    const { origin, pathname, search } = new URL(target.url);
    this.target = target;
    this.#clock = clock;
    this.#path = target.kind === 'purge' ? pathname.replace(/\/$/, '') : `${pathname}${search}`;
    this.#pool = new Pool(origin, {
      connections: target.concurrency,
      connect: { timeout: target.timeoutMs },
      headersTimeout: target.timeoutMs,
      bodyTimeout: target.timeoutMs,
      keepAliveTimeout: 4_000,
    });
  }

  /**
   * Resolves when the cache has said that it has nothing of the name any more.
   *
   * @param name 18 characters
   * @throws TfsError UNAVAILABLE when it does not say so, OVERLOADED when too many wait already
   */
  purge(name: string, reason: PurgeReason): Promise<void> {
    if (this.#closed) return Promise.reject(new TfsError('CLOSED', 'this gateway stops'));
    if (this.#waiting.length >= PURGES_WAITING_MAX)
      return Promise.reject(new TfsError('OVERLOADED', `too many purges wait for cache ${this.target.id}`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ name, reason, resolve, reject });
      if (this.target.kind === 'purge') this.#next();
      else this.#gather();
    });
  }

  /** What waits is refused; what is under way is cut. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new TfsError('CLOSED', 'this gateway stops'));
    await this.#pool.destroy();
  }

  #gather(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    // Somebody waits for it: a command must not end before.
    void this.#clock.sleep(PURGE_BATCH_MS).then(() => {
      this.#gathering = false;
      this.#next();
    });
  }

  #next(): void {
    while (this.#running < this.target.concurrency && this.#waiting.length > 0) {
      const group = this.#take();
      this.#running++;
      this.#send(group).then(
        () => {
          this.#running--;
          for (const { resolve } of group) resolve();
          this.#next();
        },
        (error: unknown) => {
          this.#running--;
          const failure = failureOf(error, this.target);
          for (const { reject } of group) reject(failure);
          this.#next();
        },
      );
    }
  }

  /** One name for PURGE; for a webhook those at the front that have the same reason. */
  #take(): Waiting[] {
    const { kind, batch } = this.target;
    if (kind === 'purge') return this.#waiting.splice(0, 1);
    const { reason } = this.#waiting[0]!;
    const other = this.#waiting.findIndex((one) => one.reason !== reason);
    return this.#waiting.splice(0, Math.min(batch, other < 0 ? this.#waiting.length : other));
  }

  async #send(group: readonly Waiting[]): Promise<void> {
    const { kind, timeoutMs } = this.target;
    const request = kind === 'purge' ? this.#purgeOf(group[0]!.name) : this.#webhookOf(group);
    const signal = AbortSignal.timeout(timeoutMs);
    const { statusCode, body } = await this.#pool.request({ ...request, signal });
    // The status is the answer; the rest is read so that the connection can be used again.
    await body.dump({ limit: ANSWER_BYTES_MAX }).catch(() => undefined);
    if (statusCode >= 200 && statusCode < 300) return;
    if (statusCode === 404 && kind === 'purge') return;
    throw new TfsError('UNAVAILABLE', `it answered ${statusCode}`);
  }

  #purgeOf(name: string): Dispatcher.RequestOptions {
    return {
      path: `${this.#path}/images/${name}`,
      // Not among the methods that the types know.
      method: 'PURGE' as Dispatcher.HttpMethod,
      headers: { ...this.#headers(), 'surrogate-key': name, 'cache-tag': name },
    };
  }

  #webhookOf(group: readonly Waiting[]): Dispatcher.RequestOptions {
    const names = [...new Set(group.map(({ name }) => name))];
    const nowMs = this.#clock.now();
    const body = Buffer.from(
      JSON.stringify({ names, tags: names, reason: group[0]!.reason, at: new Date(nowMs).toISOString() }),
    );
    return {
      path: this.#path,
      method: 'POST',
      headers: {
        ...this.#headers(),
        'content-type': 'application/json',
        [SIGNATURE_HEADER]: signatureOf(body, this.target.keys, nowMs),
      },
      body,
    };
  }

  #headers(): Record<string, string> {
    const { headers, host } = this.target;
    return { 'user-agent': 'tfs-images', ...headers, ...(host === undefined ? {} : { host }) };
  }
}

/** Nothing of the request is in it: it has secrets in its headers. */
function failureOf(error: unknown, { id, timeoutMs }: PurgeTarget): TfsError {
  const { name, code, message } = error as NodeJS.ErrnoException;
  const isLate =
    name === 'TimeoutError' || code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT';
  const why = isLate ? `no answer within ${timeoutMs} ms` : message || code || 'it failed';
  return new TfsError('UNAVAILABLE', `cache ${id}: ${why}`, { cause: error });
}
