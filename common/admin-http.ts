import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import Router from '@koa/router';
import Koa from 'koa';
import { TfsError, toTfsError } from './errors.ts';
import type { HostPort } from './ids.ts';
import { formatHostPort } from './ids.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Status } from './wire/control.ts';

/** What a server says about itself; not ok is HTTP 503, for load balancers and probes. */
export interface Health {
  readonly ok: boolean;
  readonly status: Status;
}

export interface AdminHttpOptions {
  readonly address: HostPort;
  /** The setting in the configuration that the port comes from, for the error when it is taken. */
  readonly setting: string;
  readonly health: () => Health | Promise<Health>;
  readonly metrics: Metrics;
  readonly log: Log;
  /** More routes of this server; an error thrown there becomes the JSON body of its code. */
  readonly routes?: (router: Router) => void;
  /** What is asked before the routes, in order. */
  readonly middleware?: readonly Koa.Middleware[];
}

/**
 * The HTTP side of a server, for people, probes and Prometheus: `GET /healthz` (200 or 503, {ok, ...Status}),
 * `GET /metrics`, and what the server adds. Not on the path of any picture. Errors are {code, message, requestId}.
 */
export class AdminHttp {
  readonly address: HostPort;
  readonly #server: Server;

  /** @throws TfsError CONFLICT when the port is taken, naming the setting */
  static async listen(options: AdminHttpOptions): Promise<AdminHttp> {
    const server = createServer(app(options).callback());
    await listening(server, options.address, options.setting);
    return new AdminHttp(server, options.address.host);
  }

  private constructor(server: Server, host: string) {
    this.#server = server;
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('assertion failed: listening on TCP');
    this.address = { host, port: bound.port };
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

function app({ health, metrics, log, routes, middleware = [] }: AdminHttpOptions): Koa {
  const koa = new Koa();
  koa.use(async (ctx, next) => {
    const requestId = randomUUID();
    ctx.set('X-Request-Id', requestId);
    try {
      await next();
      if (ctx.status === 404 && ctx.body === undefined)
        throw new TfsError('NOT_FOUND', `no ${ctx.method} ${ctx.path} here; try /healthz or /metrics`);
    } catch (thrown) {
      const error = toTfsError(thrown);
      if (error.code === 'INTERNAL') log.error({ err: thrown, path: ctx.path }, 'an admin request failed');
      ctx.status = error.httpStatus;
      ctx.body = { code: error.code, message: error.message, requestId };
    }
  });
  for (const asked of middleware) koa.use(asked);
  const router = new Router();
  router.get('/healthz', async (ctx) => {
    const { ok, status } = await health();
    ctx.status = ok ? 200 : 503;
    ctx.body = { ok, ...status };
  });
  router.get('/metrics', async (ctx) => {
    ctx.type = metrics.contentType;
    ctx.body = await metrics.text();
  });
  routes?.(router);
  koa.use(router.routes());
  // The middleware above answers every error; what reaches koa itself is a client that went away.
  koa.on('error', (error: Error) => log.debug({ err: error }, 'an admin connection broke'));
  return koa;
}

function listening(server: Server, address: HostPort, setting: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const where = formatHostPort(address);
      const message =
        cause.code === 'EADDRINUSE'
          ? `${where} is taken by another process (see "ss -ltnp sport = :${address.port}"): stop it, or change ${setting} in config.json`
          : `cannot listen on ${where} (${setting} in config.json): ${cause.message}`;
      reject(new TfsError('CONFLICT', message, { cause }));
    });
    // In a cluster the workers would share the port, and each must answer for itself.
    server.listen({ host: address.host, port: address.port, exclusive: true }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}
