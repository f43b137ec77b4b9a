import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import { WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import { NAME_LENGTH } from '../../common/name.ts';
import type { TfsClient } from '../client.ts';
import type { Picture } from '../picture.ts';
import { dispositionOf, isConditional } from './conditions.ts';
import { sendError } from './error-reply.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import type { HotPicture, HotPictures } from './hot-pictures.ts';
import { decoded } from './percent.ts';
import {
  notModifiedHeaders,
  type PictureHead,
  partHeaders,
  pictureHead,
  tailMatches,
  unconfirmed,
  wholeHeaders,
} from './picture-head.ts';
import { requestIdOf } from './request-id.ts';

const PREFIX = '/images/';

export interface PictureServerParts {
  readonly client: TfsClient;
  readonly hot: HotPictures;
  readonly metrics: GatewayMetrics;
  /** Told every error that was answered. */
  readonly onError: (error: unknown, requestId: string) => void;
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
    const name = target.slice(0, NAME_LENGTH);
    const hot = this.#parts.hot.get(name);
    if (hot !== undefined && this.#parts.hot.isFresh(hot)) {
      try {
        this.#sendHot(request, response, hot, target.slice(NAME_LENGTH), requestId);
      } catch (error) {
        this.#fail(request, response, error, requestId);
      }
      return true;
    }
    this.#serve(request, response, target, requestId).catch((error: unknown) =>
      this.#fail(request, response, error, requestId),
    );
    return true;
  }

  async #serve(request: IncomingMessage, response: ServerResponse, target: string, requestId: string) {
    const { client, hot } = this.#parts;
    const text = decoded(target);
    const key = client.parse(text);
    const name = text.slice(0, NAME_LENGTH);
    const kept = hot.get(name);
    if (kept !== undefined) {
      const isConfirmed = await hot.recheck(name, kept);
      this.#sendHot(
        request,
        response,
        isConfirmed ? kept : { ...kept, ...unconfirmed(kept) },
        key.tail,
        requestId,
      );
      return;
    }
    this.#parts.metrics.misses++;
    if (request.method === 'HEAD' || isConditional(request.headers)) {
      // The facts may be all that is wanted.
      const facts = await client.stat(key);
      if (!tailMatches(key.tail, facts)) throw notFound();
      const head = pictureHead(facts);
      const disposition = dispositionOf(request.method, request.headers, head);
      if (request.method === 'HEAD' || disposition.kind === 'not-modified')
        return this.#sendHead(response, head, disposition.kind === 'not-modified', requestId);
      if (disposition.kind === 'unsatisfiable') throw unsatisfiable(head.size);
      if (disposition.kind === 'part' && head.size > WHOLE_READ_BYTES_MAX) {
        const { start, end } = disposition;
        const part = await client.get(key, { offset: start, length: end - start + 1 });
        return this.#stream(response, 206, partHeaders(head, start, end, requestId), part);
      }
    }
    const picture = await hot.load(name, key);
    if (!tailMatches(key.tail, picture.facts)) throw notFound();
    const head = pictureHead(picture.facts);
    if (picture.isWhole) this.#send(request, response, head, picture.first, requestId);
    else await this.#stream(response, 200, wholeHeaders(head, requestId), picture);
  }

  #sendHot(
    request: IncomingMessage,
    response: ServerResponse,
    hot: HotPicture,
    tail: string,
    requestId: string,
  ): void {
    if (tail !== '' && !tailMatches(decoded(tail), hot)) throw notFound();
    this.#parts.metrics.hits++;
    this.#send(request, response, hot, hot.payload, requestId);
  }

  /** All of a picture is at hand. */
  #send(
    request: IncomingMessage,
    response: ServerResponse,
    head: PictureHead,
    payload: Buffer,
    requestId: string,
  ): void {
    const { metrics } = this.#parts;
    const { method, headers } = request;
    if (isConditional(headers)) {
      const disposition = dispositionOf(method, headers, head);
      if (disposition.kind === 'not-modified') {
        this.#sendHead(response, head, true, requestId);
        return;
      }
      if (disposition.kind === 'unsatisfiable') throw unsatisfiable(head.size);
      if (disposition.kind === 'part') {
        const { start, end } = disposition;
        response.writeHead(206, partHeaders(head, start, end, requestId));
        response.end(payload.subarray(start, end + 1));
        metrics.served(206, end + 1 - start);
        return;
      }
    }
    response.writeHead(200, wholeHeaders(head, requestId));
    if (method === 'HEAD') {
      response.end();
      metrics.served(200, 0);
    } else {
      response.end(payload);
      metrics.served(200, payload.length);
    }
  }

  #sendHead(response: ServerResponse, head: PictureHead, notModified: boolean, requestId: string): void {
    if (notModified) response.writeHead(304, notModifiedHeaders(head, requestId));
    else response.writeHead(200, wholeHeaders(head, requestId));
    response.end();
    this.#parts.metrics.served(notModified ? 304 : 200, 0);
  }

  /** @throws TfsError when no replica can go on: the caller then cuts the connection, never a short body that looks whole */
  async #stream(response: ServerResponse, status: number, headers: string[], picture: Picture) {
    response.writeHead(status, headers);
    for await (const piece of picture.pieces()) {
      if (response.destroyed) return;
      if (!response.write(piece) && !(await drained(response))) return;
    }
    response.end();
    this.#parts.metrics.served(status, picture.length);
  }

  #fail(request: IncomingMessage, response: ServerResponse, thrown: unknown, requestId: string): void {
    this.#parts.onError(thrown, requestId);
    const error = sendError(request, response, thrown, requestId);
    this.#parts.metrics.served(error.httpStatus, 0);
    if (error.code === 'CORRUPT') this.#parts.metrics.damaged();
  }
}

/** @returns false when the client went away */
function drained(response: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    const onDrain = () => settle(true);
    const onClose = () => settle(false);
    const settle = (good: boolean) => {
      response.off('drain', onDrain).off('close', onClose);
      resolve(good);
    };
    response.on('drain', onDrain).on('close', onClose);
    if (response.destroyed) settle(false);
  });
}

const notFound = (): TfsError => new TfsError('NOT_FOUND', 'there is no such picture');

const unsatisfiable = (size: number): TfsError =>
  new TfsError('RANGE_NOT_SATISFIABLE', `the picture has ${size} bytes`, { details: { size } });
