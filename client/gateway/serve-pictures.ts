import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import { WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import { NAME_LENGTH } from '../../common/name.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { TfsClient } from '../client.ts';
import type { CacheRules } from './cache-rules.ts';
import { dispositionOf, isConditional } from './conditions.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import type { HotPicture, HotPictures } from './hot-pictures.ts';
import type { Asked, AskedUrls } from './images/asked.ts';
import { type ImageServer, isForFew } from './images/image-server.ts';
import { isPrivate } from './media.ts';
import { decoded } from './percent.ts';
import {
  type OriginalHead,
  pictureHead,
  tailMatches,
  unconfirmed,
  withCacheControl,
} from './picture-head.ts';
import { type PictureSender, unsatisfiable } from './picture-sender.ts';
import { requestIdOf } from './request-id.ts';

const PREFIX = '/images/';

export interface PictureServerParts {
  readonly client: TfsClient;
  readonly clock: Clock;
  readonly hot: HotPictures;
  readonly metrics: GatewayMetrics;
  readonly sender: PictureSender;
  readonly rules: CacheRules;
  readonly urls: AskedUrls;
  readonly images: ImageServer;
  /** Originals are for those alone who have a signature. */
  readonly isPrivate: boolean;
}

/** An original that is asked for. */
interface Wanted {
  /** 18 characters. */
  readonly name: string;
  /** What is behind them, as it came. */
  readonly tail: string;
  /** Undefined: asked for without options, as nearly all are. */
  readonly asked: Asked | undefined;
}

/**
 * GET and HEAD of a picture: the one thing a gateway does a thousand times more often than all others together. So it
 * works on node:http directly, and a picture in memory is answered in the same turn of the event loop.
 */
export class PictureServer {
  readonly #parts: PictureServerParts;

  constructor(parts: PictureServerParts) {
    this.#parts = parts;
  }

  /** @returns false when the request is for something else */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = request.url!;
    if (request.method !== 'GET' && request.method !== 'HEAD') return false;
    if (!url.startsWith(PREFIX)) return false;
    const query = url.indexOf('?', PREFIX.length);
    const target = query < 0 ? url.slice(PREFIX.length) : url.slice(PREFIX.length, query);
    if (target === '' || target.includes('/')) return false;

    const requestId = requestIdOf(request);
    let asked: Asked | undefined;
    const fail = (error: unknown) => {
      const name = asked?.name ?? nameIn(target);
      const varies = asked?.varies ?? (query >= 0 && mayVary(url));
      this.#parts.sender.fail(request, response, error, requestId, { name, varies });
    };
    try {
      // An underscore may begin the suffix of a rendition. Without one, and without a query, it is an original.
      if (query >= 0 || this.#parts.isPrivate || target.indexOf('_', NAME_LENGTH) >= 0)
        asked = this.#parts.urls.understand(url.slice(PREFIX.length), this.#parts.clock.now());
      const pending =
        asked?.request.rendition === undefined
          ? this.#original(request, response, target, asked, requestId)
          : this.#parts.images.serve(request, response, asked, requestId);
      pending?.catch(fail);
    } catch (error) {
      fail(error);
    }
    return true;
  }

  #original(
    request: IncomingMessage,
    response: ServerResponse,
    target: string,
    asked: Asked | undefined,
    requestId: string,
  ): Promise<void> | undefined {
    const name = target.slice(0, NAME_LENGTH);
    const hot = this.#parts.hot.get(name);
    if (hot === undefined || !this.#parts.hot.isFresh(hot))
      return this.#serve(request, response, target, asked, requestId);
    this.#sendHot(
      request,
      response,
      hot,
      { name, tail: decoded(target.slice(NAME_LENGTH)), asked },
      requestId,
    );
    return undefined;
  }

  async #serve(
    request: IncomingMessage,
    response: ServerResponse,
    target: string,
    asked: Asked | undefined,
    requestId: string,
  ): Promise<void> {
    const { client, hot, metrics, sender } = this.#parts;
    const text = decoded(target);
    const key = client.parse(text);
    const name = text.slice(0, NAME_LENGTH);
    const wanted = { name, tail: key.tail, asked };
    const kept = hot.get(name);
    if (kept !== undefined) {
      const isConfirmed = await hot.recheck(name, kept);
      this.#sendHot(request, response, isConfirmed ? kept : unconfirmed(kept), wanted, requestId);
      return;
    }
    metrics.misses++;
    if (request.method === 'HEAD' || isConditional(request.headers)) {
      // The facts may be all that is wanted.
      const head = this.#headFor(pictureHead(await client.stat(key), name, this.#parts.rules), wanted);
      const disposition = dispositionOf(request.method, request.headers, head);
      if (disposition.kind === 'not-modified') return sender.notModified(request, response, head, requestId);
      if (request.method === 'HEAD') return sender.headOnly(request, response, head, requestId);
      if (disposition.kind === 'unsatisfiable') throw unsatisfiable(head.size);
      if (disposition.kind === 'part' && head.size > WHOLE_READ_BYTES_MAX) {
        const { start, end } = disposition;
        const part = await client.get(key, { offset: start, length: end - start + 1 });
        return sender.stream(request, response, head, part, requestId, { start, end });
      }
    }
    const picture = await hot.load(name, key);
    const head = this.#headFor(pictureHead(picture.facts, name, this.#parts.rules), wanted);
    if (picture.isWhole) sender.send(request, response, head, picture.first, requestId);
    else await sender.stream(request, response, head, picture, requestId);
  }

  #sendHot(
    request: IncomingMessage,
    response: ServerResponse,
    hot: HotPicture,
    wanted: Wanted,
    requestId: string,
  ): void {
    const head = this.#headFor(hot, wanted);
    this.#parts.metrics.hits++;
    this.#parts.sender.send(request, response, head, hot.payload, requestId);
  }

  /** @throws TfsError NOT_FOUND where the tail is another's, FORBIDDEN where a signature is missing */
  #headFor(head: OriginalHead, { tail, asked }: Wanted): OriginalHead {
    const own = asked === undefined ? tail : asked.request.tail;
    if (own !== '' && !tailMatches(own, head)) throw new TfsError('NOT_FOUND', 'there is no such picture');
    const isForSigned = this.#parts.isPrivate || isPrivate(head.mediaType);
    const signing = asked?.request.signing;
    if (signing === undefined || signing.size === 0) {
      if (isForSigned) throw isForFew();
      return head;
    }
    const { rules, clock } = this.#parts;
    const seconds = Number(signing.get('exp')) - clock.now() / 1000;
    return head.cacheControl === rules.original
      ? withCacheControl(head, rules.signed(rules.original, seconds, isForSigned))
      : head;
  }
}

const NAME = /^T[1-9][0-9A-Za-z._]{16}/;

/** What an error is tagged with: only what looks like a name. */
const nameIn = (target: string): string | undefined => NAME.exec(target)?.[0].slice(0, NAME_LENGTH);

/** Of a request that was not understood: whether it could be one whose answer depends on Accept. */
const mayVary = (url: string): boolean => /[?&](?:fm=auto|p=)/.test(url);
