import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, type Dispatcher } from 'undici';

export interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** An answer, or why there was none: the connection broke, or nobody answered in time. */
export type Attempt = HttpAnswer | 'broken' | 'silent';

export interface Result {
  readonly last: Attempt;
  readonly retried: boolean;
}

export interface PictureRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly body?: Buffer;
  /** Makes the repetition of a write the same write. */
  readonly key?: string;
}

const ANSWER_MS_MAX = 15_000;
const CONNECT_MS_MAX = 2_000;
const CONNECTIONS_MAX = 512;
/** What a polite client waits after "not now". */
const RETRY_AFTER_MS = 250;

/**
 * An HTTP client of the gateways with the rule of an application behind a load balancer: a broken connection or a 503 is
 * tried once more, on the next gateway; an answer that does not come is not.
 */
export class PictureClient {
  readonly #urls: readonly string[];
  readonly #authorization: string;
  readonly #agent = new Agent({
    connections: CONNECTIONS_MAX,
    pipelining: 1,
    connect: { timeout: CONNECT_MS_MAX },
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  #next = 0;

  constructor({ urls, token }: { readonly urls: readonly string[]; readonly token: string }) {
    this.#urls = urls;
    this.#authorization = `Bearer ${token}`;
  }

  async send(request: PictureRequest): Promise<Result> {
    const at = this.#next++;
    const first = await this.#attempt(this.#urls[at % this.#urls.length]!, request);
    const isBusy = typeof first === 'object' && first.status === 503;
    if (first !== 'broken' && !isBusy) return { last: first, retried: false };
    if (isBusy) await sleep(RETRY_AFTER_MS);
    const last = await this.#attempt(this.#urls[(at + 1) % this.#urls.length]!, request);
    return { last, retried: true };
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #attempt(origin: string, { method, path, body, key }: PictureRequest): Promise<Attempt> {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const options: Dispatcher.RequestOptions = {
      origin,
      path,
      method,
      signal,
      headers: {
        ...(method === 'GET' ? {} : { authorization: this.#authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/octet-stream' }),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      ...(body === undefined ? {} : { body }),
    };
    try {
      const reply = await this.#agent.request(options);
      const bytes = Buffer.from(await reply.body.arrayBuffer());
      return { status: reply.statusCode, body: bytes, headers: reply.headers };
    } catch {
      return signal.aborted ? 'silent' : 'broken';
    }
  }
}

export const sha1Of = (bytes: Buffer): string => createHash('sha1').update(bytes).digest('hex');
