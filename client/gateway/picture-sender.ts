import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import type { Picture } from '../picture.ts';
import type { CacheRules } from './cache-rules.ts';
import { dispositionOf, isConditional } from './conditions.ts';
import { sendError } from './error-reply.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { notModifiedHeaders, type PictureHead, partHeaders, wholeHeaders } from './picture-head.ts';

export interface PictureSenderParts {
  readonly rules: CacheRules;
  readonly metrics: GatewayMetrics;
  /** Told every error that was answered. */
  readonly onError: (error: unknown, requestId: string) => void;
}

/** What an answer is about, as far as it is known when it turns out to be an error. */
export interface About {
  /** 18 characters; undefined where what was asked for is none. */
  readonly name: string | undefined;
  /** The header Accept decides about the format. */
  readonly varies: boolean;
}

/** Writes answers for pictures, whole, in part, or not at all because the client has them: conditions, ranges, errors. */
export class PictureSender {
  readonly #parts: PictureSenderParts;

  constructor(parts: PictureSenderParts) {
    this.#parts = parts;
  }

  /** All of a picture is at hand. @throws TfsError RANGE_NOT_SATISFIABLE */
  send(
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
        this.notModified(request, response, head, requestId);
        return;
      }
      if (disposition.kind === 'unsatisfiable') throw unsatisfiable(head.size);
      if (disposition.kind === 'part') {
        const { start, end } = disposition;
        response.writeHead(206, this.#for(request, partHeaders(head, start, end, requestId)));
        response.end(payload.subarray(start, end + 1));
        metrics.served(206, end + 1 - start);
        return;
      }
    }
    response.writeHead(200, this.#for(request, wholeHeaders(head, requestId)));
    if (method === 'HEAD') {
      response.end();
      metrics.served(200, 0);
    } else {
      response.end(payload);
      metrics.served(200, payload.length);
    }
  }

  /** 200 without a body, for HEAD. */
  headOnly(request: IncomingMessage, response: ServerResponse, head: PictureHead, requestId: string): void {
    response.writeHead(200, this.#for(request, wholeHeaders(head, requestId)));
    response.end();
    this.#parts.metrics.served(200, 0);
  }

  notModified(
    request: IncomingMessage,
    response: ServerResponse,
    head: Omit<PictureHead, 'headers' | 'size'>,
    requestId: string,
  ): void {
    response.writeHead(304, this.#for(request, notModifiedHeaders(head, requestId)));
    response.end();
    this.#parts.metrics.served(304, 0);
  }

  /**
   * @param part inclusive bounds of a 206; a 200 when undefined
   * @throws TfsError when no replica can go on: the caller then cuts the connection, never a short body that looks whole
   */
  async stream(
    request: IncomingMessage,
    response: ServerResponse,
    head: PictureHead,
    picture: Picture,
    requestId: string,
    part?: { readonly start: number; readonly end: number },
  ): Promise<void> {
    if (part === undefined) response.writeHead(200, this.#for(request, wholeHeaders(head, requestId)));
    else response.writeHead(206, this.#for(request, partHeaders(head, part.start, part.end, requestId)));
    for await (const piece of picture.pieces()) {
      if (response.destroyed) return;
      if (!response.write(piece) && !(await drained(response))) return;
    }
    response.end();
    this.#parts.metrics.served(part === undefined ? 200 : 206, picture.length);
  }

  fail(
    request: IncomingMessage,
    response: ServerResponse,
    thrown: unknown,
    requestId: string,
    { name, varies }: About,
  ): void {
    const { rules, metrics } = this.#parts;
    this.#parts.onError(thrown, requestId);
    const error = sendError(request, response, thrown, requestId, (error) => [
      ...['Cache-Control', rules.ofError(error)],
      ...(name === undefined ? [] : this.#for(request, rules.always(name, varies))),
    ]);
    metrics.served(error.httpStatus, 0);
    if (error.code === 'CORRUPT') metrics.damaged();
  }

  /** With what depends on who asks. */
  #for(request: IncomingMessage, headers: readonly string[]): string[] {
    const more = this.#parts.rules.forOrigin(request.headers.origin);
    return more.length === 0 ? (headers as string[]) : [...headers, ...more];
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

export const unsatisfiable = (size: number): TfsError =>
  new TfsError('RANGE_NOT_SATISFIABLE', `the picture has ${size} bytes`, { details: { size } });
