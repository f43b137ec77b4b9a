import type Router from '@koa/router';
import Koa from 'koa';
import { TfsError, toTfsError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { ErrorLog } from './error-log.ts';
import { type ErrorReply, errorReply, mustClose } from './error-reply.ts';
import { linger } from './linger.ts';
import { requestIdOf } from './request-id.ts';

export interface ApplicationParts {
  readonly router: Router;
  readonly errors: ErrorLog;
  readonly clock: Clock;
  readonly log: Log;
  /** What an error is answered with; JSON when absent. */
  readonly reply?: (error: TfsError, requestId: string, closing: boolean) => ErrorReply;
}

/** The koa application around the routes: a request id for each request, and the one catch. */
export function application(parts: ApplicationParts): ReturnType<Koa['callback']> {
  const { router, errors, clock, log, reply: replyTo = errorReply } = parts;
  const koa = new Koa();
  koa.use(async (ctx, next) => {
    const requestId = requestIdOf(ctx.req);
    ctx.state['requestId'] = requestId;
    try {
      await next();
      if (ctx['_matchedRoute'] === undefined) throw unrouted(ctx);
      if (ctx.respond !== false) ctx.set({ 'X-Request-Id': requestId, 'X-Content-Type-Options': 'nosniff' });
    } catch (thrown) {
      errors.note(thrown, requestId);
      const closing = mustClose(ctx.req);
      if (closing) linger(ctx.req, clock);
      const reply = replyTo(toTfsError(thrown), requestId, closing);
      ctx.status = reply.status;
      ctx.set(reply.headers);
      ctx.body = reply.body;
    }
  });
  koa.use(router.routes());
  // Every error was answered above; what reaches koa itself is a client that went away.
  koa.on('error', (err: Error) => log.debug({ err }, 'a connection broke'));
  return koa.callback();
}

/** Answers at once with a prepared list of headers; koa, which would build and check them one by one, is not asked. */
export function sendJson(
  ctx: Koa.Context,
  status: number,
  value: object,
  headers: readonly string[] = [],
): void {
  // As a string it goes out in one piece with the headers.
  const body = `${JSON.stringify(value)}\n`;
  ctx.respond = false;
  ctx.res.writeHead(status, [
    ...['Content-Type', 'application/json; charset=utf-8'],
    ...['Content-Length', String(Buffer.byteLength(body))],
    ...['Cache-Control', 'no-store'],
    ...['X-Content-Type-Options', 'nosniff'],
    ...['X-Request-Id', ctx.state['requestId'] as string],
    ...headers,
  ]);
  ctx.res.end(body);
}

/** GET and HEAD of a picture are answered before koa, so no route tells of them. */
const PICTURE_ROUTE = '/images/:name';

function unrouted(ctx: Koa.Context): TfsError {
  const layers = (ctx['matched'] ?? []) as readonly {
    readonly path: unknown;
    readonly methods: readonly string[];
  }[];
  if (layers.length === 0)
    return new TfsError('NOT_FOUND', `there is nothing at ${ctx.path}`, { details: { unrouted: true } });
  const methods = new Set(layers.flatMap((layer) => layer.methods));
  if (layers.some((layer) => layer.path === PICTURE_ROUTE)) methods.add('GET').add('HEAD');
  const allow = [...methods].sort().join(', ');
  return new TfsError('METHOD_NOT_ALLOWED', `${ctx.method} is not possible here; ${allow} is`, {
    details: { allow },
  });
}
