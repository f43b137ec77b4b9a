import type { Readable } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import { z } from 'zod';
import { ERROR_TABLE, type ErrorCode, TfsError } from '../../common/errors.ts';

/** What the gateway answers to an upload. */
const zStored = z.looseObject({
  name: z.string(),
  url: z.string(),
  size: z.number(),
  sha1: z.string(),
  mediaType: z.string(),
  width: z.number().nullish(),
  height: z.number().nullish(),
  deduplicated: z.boolean(),
  replicas: z.number(),
  durable: z.boolean(),
});
export type StoredAnswer = z.infer<typeof zStored>;

const zError = z.looseObject({ code: z.string(), message: z.string(), requestId: z.string().optional() });
const zMetadata = z.looseObject({ name: z.string().optional() });

export interface GatewayApiOptions {
  readonly url: string;
  readonly token?: string;
  readonly connections: number;
}

export interface Upload {
  /** Called for each attempt. */
  readonly body: () => Buffer | Readable;
  readonly size: number;
  readonly suffix?: string;
  readonly isPrivate?: boolean;
  /** Makes a repeat of the same upload harmless. */
  readonly key: string;
  readonly signal?: AbortSignal;
}

export interface Download {
  readonly mediaType: string;
  readonly size: number;
  /** SHA-1 of the whole picture in hex, from its ETag. */
  readonly sha1: string;
  readonly body: AsyncIterable<Buffer>;
}

/** How long a command goes on trying where trying again can help. */
const ATTEMPTS_MAX = 6;
const BACKOFF_MS_MIN = 200;
const BACKOFF_MS_MAX = 5_000;
const HEADERS_MS_MAX = 30_000;

/**
 * The HTTP interface of a gateway, as the tools use it. Answers that may be better in a moment (503, a lost
 * connection) are asked for again a few times, uploads under their key, so that a repeat does not store twice.
 */
export class GatewayApi {
  readonly url: string;
  readonly #pool: Pool;
  readonly #prefix: string;
  readonly #token: string | undefined;

  /** @throws TfsError CONFIG when it is not an http(s) URL */
  static open(options: GatewayApiOptions): GatewayApi {
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol))
      throw new TfsError(
        'CONFIG',
        `${options.url} is not the URL of a gateway, such as http://127.0.0.1:7500`,
      );
    return new GatewayApi(url, options);
  }

  private constructor(url: URL, options: GatewayApiOptions) {
    this.url = url.href.replace(/\/$/, '');
    this.#prefix = url.pathname.replace(/\/$/, '');
    this.#token = options.token;
    this.#pool = new Pool(url.origin, { connections: options.connections, headersTimeout: HEADERS_MS_MAX });
  }

  async put(upload: Upload): Promise<StoredAnswer> {
    const query = new URLSearchParams({
      ...(upload.suffix === undefined ? {} : { suffix: upload.suffix }),
      ...(upload.isPrivate === true ? { private: '1' } : {}),
    });
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': String(upload.size),
      'idempotency-key': upload.key,
    };
    const reply = await this.#send('POST', `/images${query.size > 0 ? `?${query}` : ''}`, {
      headers,
      ...upload,
    });
    return parse(zStored, await reply.body.text());
  }

  async get(name: string, signal?: AbortSignal): Promise<Download> {
    const reply = await this.#send('GET', `/images/${encodeURIComponent(name)}`, signal ? { signal } : {});
    return {
      mediaType: String(reply.headers['content-type'] ?? ''),
      size: Number(reply.headers['content-length']),
      sha1: String(reply.headers['etag'] ?? '').replace(/^"|"$/g, ''),
      body: reply.body,
    };
  }

  async metadata(name: string): Promise<z.infer<typeof zMetadata>> {
    const reply = await this.#send('GET', `/images/${encodeURIComponent(name)}/metadata`, {});
    return parse(zMetadata, await reply.body.text());
  }

  async mutate(name: string, kind: 'remove' | 'undelete' | 'hide' | 'reveal', key: string): Promise<void> {
    const path = `/images/${encodeURIComponent(name)}${kind === 'remove' ? '' : `/${kind}`}`;
    const headers = { 'idempotency-key': key };
    const reply = await this.#send(kind === 'remove' ? 'DELETE' : 'POST', path, { headers });
    await reply.body.dump();
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }

  async #send(
    method: Dispatcher.HttpMethod,
    path: string,
    request: Partial<Pick<Upload, 'body' | 'signal'>> & { readonly headers?: Record<string, string> },
  ): Promise<Dispatcher.ResponseData> {
    const headers = {
      ...request.headers,
      ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}),
    };
    for (let attempt = 1; ; attempt++) {
      try {
        const reply = await this.#pool.request({
          method,
          path: `${this.#prefix}${path}`,
          headers,
          ...(request.body === undefined ? {} : { body: request.body() }),
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        });
        if (reply.statusCode < 300) return reply;
        throw await errorOf(reply);
      } catch (thrown) {
        request.signal?.throwIfAborted();
        const error = thrown instanceof TfsError ? thrown : unreachable(this.url, thrown);
        if (!error.retryable || attempt >= ATTEMPTS_MAX) throw error;
        await pause(error.retryAfterMs ?? backoffMs(attempt), request.signal);
      }
    }
  }
}

function parse<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TfsError(
      'PROTOCOL',
      `an answer that is not from a gateway of this version: ${text.slice(0, 200)}`,
      {
        cause,
      },
    );
  }
}

async function errorOf(reply: Dispatcher.ResponseData): Promise<TfsError> {
  const text = await reply.body.text();
  const after = Number(reply.headers['retry-after']);
  const options = Number.isFinite(after) && after > 0 ? { retryAfterMs: after * 1000 } : {};
  let body: z.infer<typeof zError> | undefined;
  try {
    body = zError.parse(JSON.parse(text));
  } catch {
    // Something between us and the gateway answered.
    return new TfsError(
      reply.statusCode >= 500 ? 'UNAVAILABLE' : 'BAD_REQUEST',
      `HTTP ${reply.statusCode} that is not from a gateway: ${text.slice(0, 200)}`,
      options,
    );
  }
  const code = body.code in ERROR_TABLE ? (body.code as ErrorCode) : 'INTERNAL';
  const hint = code === 'UNAUTHORIZED' ? ' (give --token-file FILE or TFS_TOKEN)' : '';
  const id =
    body.requestId !== undefined && ERROR_TABLE[code].http >= 500 ? ` (request ${body.requestId})` : '';
  return new TfsError(code, `${body.message}${hint}${id}`, options);
}

function unreachable(url: string, cause: unknown): TfsError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new TfsError(
    'UNAVAILABLE',
    `no gateway answers at ${url} (${why}): is the cluster running ("npm run status", "npm start")?`,
    { cause },
  );
}

const backoffMs = (attempt: number): number =>
  Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (attempt - 1)) * (0.5 + Math.random());

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', aborted);
      resolve();
    }, ms);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
