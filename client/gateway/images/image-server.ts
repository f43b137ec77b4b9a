import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError } from '../../../common/errors.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import { type CacheRules, NOT_TO_BE_KEPT } from '../cache-rules.ts';
import { isPrivate } from '../media.ts';
import { type PictureHead, tailMatches, withCacheControl } from '../picture-head.ts';
import type { PictureSender } from '../picture-sender.ts';
import type { Asked } from './asked.ts';
import type { ReadyRendition } from './memory-cache.ts';
import type { Original, Originals } from './originals.ts';
import type { Format } from './rendition.ts';
import type { Renditions } from './renditions.ts';
import { type Settled, settle } from './settled.ts';

export interface ImageServerParts {
  readonly originals: Originals;
  readonly renditions: Renditions;
  readonly sender: PictureSender;
  readonly rules: CacheRules;
  readonly clock: Clock;
  /** Formats of `fm=auto`, best first. */
  readonly modern: readonly Format[];
  readonly flavour: string;
  /** Originals, and so all that is made of them, are for those alone who have a signature. */
  readonly isPrivate: boolean;
}

/** Answers of different headers Accept that are remembered for one URL; others are worked out anew. */
const SETTLED_MAX = 8;
/** Of a header that is remembered. Browsers send less; much more, for many URLs, would fill the memory. */
const ACCEPT_CHARS_MAX = 256;

/** GET and HEAD of renditions. One in memory is answered in the same turn of the event loop. */
export class ImageServer {
  readonly #parts: ImageServerParts;

  constructor(parts: ImageServerParts) {
    this.#parts = parts;
  }

  /**
   * @returns undefined where it is answered already; else it is on its way
   * @throws TfsError what there is to answer instead, also by the promise
   */
  serve(
    request: IncomingMessage,
    response: ServerResponse,
    asked: Asked,
    requestId: string,
  ): Promise<void> | undefined {
    const { originals, renditions } = this.#parts;
    const original = originals.fresh(asked.name);
    if (original !== undefined) {
      const settled = this.#settle(request, asked, original);
      const ready = renditions.ready(settled.id);
      if (ready !== undefined) {
        this.#send(request, response, { asked, settled, original, ready, isConfirmed: true }, requestId);
        return undefined;
      }
    }
    return this.#find(request, response, asked, requestId);
  }

  async #find(request: IncomingMessage, response: ServerResponse, asked: Asked, requestId: string) {
    const { originals, renditions, sender, rules } = this.#parts;
    const found = await originals.find(asked.name, asked.key);
    const { original } = found;
    const settled = this.#settle(request, asked, original);
    const ifNoneMatch = request.headers['if-none-match'];
    if (found.isConfirmed && ifNoneMatch !== undefined && has(ifNoneMatch, settled.etag)) {
      // Nothing has to be made for somebody who has it.
      const always = rules.always(asked.name, asked.varies);
      const cacheControl = this.#cacheControl(asked, original);
      sender.notModified(
        request,
        response,
        { etag: settled.etag, lastModified: '', cacheControl, always },
        requestId,
      );
      return;
    }
    const ready = renditions.ready(settled.id) ?? (await renditions.get(original, settled));
    // It may have taken long.
    const { isConfirmed } = await originals.still(original);
    this.#send(request, response, { asked, settled, original, ready, isConfirmed }, requestId);
  }

  #send(
    request: IncomingMessage,
    response: ServerResponse,
    { asked, original, ready, isConfirmed }: Answer,
    requestId: string,
  ): void {
    const { sender } = this.#parts;
    let head: PictureHead = ready.head(asked.varies);
    if (!isConfirmed) head = withCacheControl(head, NOT_TO_BE_KEPT);
    else if (asked.request.signing.size > 0)
      head = withCacheControl(head, this.#cacheControl(asked, original));
    sender.send(request, response, head, ready.rendition.bytes, requestId);
  }

  #cacheControl({ request }: Asked, original: Original): string {
    const { rules, clock, isPrivate: isAll } = this.#parts;
    if (request.signing.size === 0) return rules.rendition;
    const seconds = Number(request.signing.get('exp')) - clock.now() / 1000;
    return rules.signed(rules.rendition, seconds, isAll || isPrivate(original.mediaType));
  }

  /** @throws TfsError NOT_FOUND where the tail is another's, FORBIDDEN, NOT_ACCEPTABLE */
  #settle(request: IncomingMessage, asked: Asked, original: Original): Settled {
    const accept = asked.varies ? request.headers.accept : undefined;
    const spelling = accept ?? '';
    const known = asked.settled.get(spelling);
    if (known !== undefined) return known;
    const { modern, flavour } = this.#parts;
    const { tail, rendition, signing } = asked.request;
    if (!tailMatches(tail, original)) throw new TfsError('NOT_FOUND', 'there is no such picture');
    if (isPrivate(original.mediaType) && signing.size === 0) throw isForFew();
    const settled = settle(rendition!, original, { accept, modern, flavour });
    if (asked.settled.size < SETTLED_MAX && spelling.length <= ACCEPT_CHARS_MAX)
      asked.settled.set(spelling, settled);
    return settled;
  }
}

interface Answer {
  readonly asked: Asked;
  readonly settled: Settled;
  readonly original: Original;
  readonly ready: ReadyRendition;
  readonly isConfirmed: boolean;
}

export const isForFew = (): TfsError =>
  new TfsError('FORBIDDEN', 'this picture is private: it needs a signature, exp, kid and sig');

/** RFC 9110 §13.1.2, by weak comparison; whether there is any, as `*` asks, is not known before it is made. */
const has = (ifNoneMatch: string, etag: string): boolean =>
  ifNoneMatch.split(',').some((one) => one.trim().replace(/^W\//, '') === etag);
