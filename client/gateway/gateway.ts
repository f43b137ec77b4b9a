import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Server as NetServer } from 'node:net';
import { TfsError } from '../../common/errors.ts';
import { formatHostPort, type HostPort } from '../../common/ids.ts';
import {
  HOT_PICTURE_CHECK_MS,
  HOT_PICTURE_SWEEP_MS,
  HTTP_HEADER_BYTES_MAX,
  HTTP_HEADERS_MS_MAX,
  HTTP_IDLE_MS_MAX,
  HTTP_KEEP_ALIVE_MS,
  STOP_MS_MAX,
  URL_BYTES_MAX,
} from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import type { Token } from '../../common/secrets.ts';
import type { Status } from '../../common/wire/control.ts';
import type { TfsClient } from '../client.ts';
import { application } from './application.ts';
import { Tokens } from './auth.ts';
import { CacheRules } from './cache-rules.ts';
import { ChangedPictures } from './changed-pictures.ts';
import { answerClientError } from './client-error.ts';
import { ErrorLog } from './error-log.ts';
import { mustClose, sendError } from './error-reply.ts';
import { ForgetChanged } from './forget-changed.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { HotPictures } from './hot-pictures.ts';
import { Images, type ImagesOptions } from './images/open-images.ts';
import { linger } from './linger.ts';
import { PictureSender } from './picture-sender.ts';
import type { Purger } from './purge/purger.ts';
import { noteExpectContinue } from './receive-body.ts';
import { requestIdOf } from './request-id.ts';
import { routes } from './routes.ts';
import { PictureServer } from './serve-pictures.ts';
import { TfsRest } from './tfs-rest/tfs-rest.ts';
import { Uploads } from './upload.ts';
import { UploadGate, type UploadGateOptions } from './upload-gate.ts';
import { UploadLimits } from './upload-limits.ts';

export interface GatewayOptions {
  /** Port 0 takes a free one. */
  readonly address: HostPort;
  readonly version: string;
  /** Which worker this is. */
  readonly id: string;
  readonly client: TfsClient;
  readonly tokens: readonly Token[];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: GatewayMetrics;
  readonly pictureBytesMax: number;
  readonly anyType: boolean;
  /** Pictures kept in memory. */
  readonly hotBytesMax: number;
  readonly publicUrl?: string;
  /** The REST interface of TFS, which is there where a token is an appkey. */
  readonly tfsRest?: { readonly list: readonly string[]; readonly requestsPerRefresh: number };
  readonly images: ImagesOptions;
  /** Tells caches in front. */
  readonly purger?: Pick<Purger, 'changed' | 'status'>;
  /** A request whose headers have not arrived after this is 408. */
  readonly headersMsMax?: number;
  /** Bounds on uploads, where they are not the usual ones. */
  readonly uploads?: Omit<UploadGateOptions, 'clock'>;
  /** Counts what is uploaded with each token; by itself when absent. */
  readonly limits?: UploadLimits;
}

/** What pictures are read and renditions are made with. */
interface Reading {
  readonly errors: ErrorLog;
  readonly rules: CacheRules;
  readonly hot: HotPictures;
  readonly sender: PictureSender;
  readonly images: Images;
}

const CONNECTIONS_CHECK_MS = 2_000;
const CHANGES_EVERY_MS = 30_000;
const PURGE_AGAIN_MS = HOT_PICTURE_CHECK_MS + 100;
/** While draining, idle connections get this long to be told "Connection: close" with an answer. */
const DRAIN_IDLE_MS = 1_000;
const DRAIN_FORCE_MS = STOP_MS_MAX - 3_000;

/**
 * The public face of the store: pictures over HTTP. Holds nothing that it could not lose.
 *
 * The life of a request: a GET or HEAD of a picture is answered by {@link PictureServer} on node:http alone; all others
 * go through koa, whose one catch turns every error into {code, message, requestId}.
 */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #server: Server;
  readonly #gate: UploadGate;
  readonly #startedAtMs: number;
  #address: HostPort | undefined;
  #draining = false;
  readonly #sweep: Timer;
  readonly #images: Images;
  readonly #forgetting: ForgetChanged;

  /** @throws TfsError CONFLICT when the port is taken */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const { client, clock, log, metrics, hotBytesMax, images: imagesOptions } = options;
    const errors = new ErrorLog(log, clock);
    const rules = new CacheRules(imagesOptions.config);
    const hot = new HotPictures(client, clock, rules, hotBytesMax);
    const sender = new PictureSender({
      rules,
      metrics,
      onError: (error, requestId) => errors.note(error, requestId),
    });
    const onTold = (name: string) => hot.forget(name);
    const images = await Images.open(imagesOptions, {
      client,
      clock,
      hot,
      log,
      metrics,
      rules,
      sender,
      onTold,
    });
    const gateway = new Gateway(options, { errors, rules, hot, sender, images });
    try {
      await gateway.#listen();
    } catch (error) {
      await gateway.#forgetting.close();
      await images.close();
      throw error;
    }
    return gateway;
  }

  private constructor(options: GatewayOptions, { errors, rules, hot, sender, images }: Reading) {
    this.#options = options;
    this.#images = images;
    const { client, clock, metrics, tokens, pictureBytesMax, anyType, publicUrl } = options;
    this.#startedAtMs = clock.now();
    this.#gate = UploadGate.open({ clock, ...options.uploads });
    const changes = new ChangedPictures();
    changes.onChange((name) => {
      hot.forget(name);
      // A cache in front that is told before the other workers know would be given the picture once more by them.
      void images.changed(name).then(() => {
        options.purger?.changed(name);
        // A gateway on another machine may have answered for a second more, and a cache kept that.
        if (options.purger !== undefined) clock.after(PURGE_AGAIN_MS, () => options.purger?.changed(name));
      });
    });
    this.#forgetting = ForgetChanged.open({
      ...{ client, clock, log: options.log, everyMs: CHANGES_EVERY_MS },
      forget: (name) => {
        hot.forget(name);
        images.forget(name);
      },
    });
    this.#sweep = clock.every(HOT_PICTURE_SWEEP_MS, () => {
      hot.sweep();
      images.sweep();
    });
    metrics.observed('tfs_gateway_cache_bytes', 'Pictures held in memory', () => hot.bytes);
    metrics.observed(
      'tfs_gateway_uploads_in_flight_bytes',
      'Uploads held in memory',
      () => this.#gate.bytesInFlight,
    );
    metrics.observed('tfs_gateway_ready', '1 while it knows the cluster and takes requests', () =>
      client.clusterMap !== undefined && !this.#draining ? 1 : 0,
    );
    metrics.observed('tfs_gateway_writable', '1 while the cluster looks as if it takes uploads', () =>
      client.isWritable ? 1 : 0,
    );
    const { urls, server } = images;
    const pictures = new PictureServer({
      ...{ client, clock, hot, metrics, sender, rules, urls, images: server },
      isPrivate: options.images.config.signedOriginals,
    });
    const limits = options.limits ?? new UploadLimits({ clock });
    metrics.observed(
      'tfs_gateway_limits_alone',
      'Uploads counted without Redis, since the start',
      () => limits.countedAlone,
    );
    const gate = this.#gate;
    const { decoders } = images;
    const uploads = new Uploads({
      ...{ client, gate, limits, decoders, metrics, clock, pictureBytesMax, anyType },
    });
    const known = new Tokens(tokens);
    const router = routes({
      client,
      changes,
      rules,
      isPrivate: options.images.config.signedOriginals,
      metrics,
      uploads,
      tokens: known,
      publicUrl: publicUrl?.replace(/\/$/, ''),
      health: () => this.health(),
    });
    const { log } = options;
    const others = application({ router, errors, clock, log });
    const tfsRest =
      options.tfsRest !== undefined && known.hasAppkeys
        ? new TfsRest({
            ...{ client, changes, metrics, uploads, errors, clock, log },
            ...options.tfsRest,
            ofAppkey: (appkey) => known.ofAppkey(appkey),
            server: `gateway-${options.id}`,
          })
        : undefined;
    const onRequest = (request: IncomingMessage, response: ServerResponse) => {
      if (this.#draining) response.shouldKeepAlive = false;
      if (request.url!.charCodeAt(0) !== SLASH) request.url = originForm(request.url!);
      if (tfsRest?.handle(request, response)) return;
      if (request.url!.length > URL_BYTES_MAX) this.#refuse(request, response, tooLong());
      else if (!pictures.handle(request, response)) others(request, response);
    };
    const headersMsMax = options.headersMsMax ?? HTTP_HEADERS_MS_MAX;
    this.#server = createServer({
      maxHeaderSize: HTTP_HEADER_BYTES_MAX,
      headersTimeout: headersMsMax,
      // It would bound the whole upload; the upload gate watches how fast that one is instead.
      requestTimeout: 0,
      keepAliveTimeout: HTTP_KEEP_ALIVE_MS,
      connectionsCheckingInterval: Math.min(CONNECTIONS_CHECK_MS, headersMsMax),
      noDelay: true,
    });
    this.#server.timeout = HTTP_IDLE_MS_MAX;
    this.#server.on('request', onRequest);
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      noteExpectContinue(request);
      onRequest(request, response);
    });
    this.#server.on('clientError', (error, socket) => {
      answerClientError(error, socket as Parameters<typeof answerClientError>[1]);
    });
  }

  /** Has decoders ready before somebody waits for them. */
  warm(): void {
    this.#images.warm();
  }

  get address(): HostPort {
    return this.#address!;
  }

  health(): { readonly ok: boolean } & Status {
    const map = this.#options.client.clusterMap;
    const writable = this.#options.client.isWritable;
    const state = this.#draining ? 'draining' : map === undefined ? 'waiting' : 'ready';
    return {
      ok: !this.#draining,
      kind: 'gateway',
      id: this.#options.id,
      pid: process.pid,
      address: formatHostPort(this.address),
      state,
      startedAtMs: this.#startedAtMs,
      version: this.#options.version,
      details: {
        ready: map !== undefined && !this.#draining,
        writable,
        servers: map?.servers.length ?? 0,
        ...this.#options.purger?.status,
      },
    };
  }

  /** Takes no new connections, lets those that are open finish their requests, then ends the rest. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#sweep.cancel();
    const { clock } = this.#options;
    const closed = new Promise<void>((resolve) => {
      // Not http's own close: that cuts idle connections at once, and with them requests that are on their way.
      NetServer.prototype.close.call(this.#server, () => resolve());
    });
    const idle = clock.after(DRAIN_IDLE_MS, () => this.#server.closeIdleConnections());
    const force = clock.after(DRAIN_FORCE_MS, () => this.#server.closeAllConnections());
    await closed;
    idle.cancel();
    force.cancel();
    this.#gate.close();
    await this.#forgetting.close();
    await this.#images.close();
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: TfsError): void {
    if (mustClose(request)) linger(request, this.#options.clock);
    sendError(request, response, error, requestIdOf(request));
  }

  #listen(): Promise<void> {
    const { address } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        this.#gate.close();
        this.#sweep.cancel();
        reject(listenError(address, cause));
      });
      this.#server.listen({ host: address.host, port: address.port, backlog: 1024 }, () => {
        this.#server.removeAllListeners('error');
        // An error after this (out of descriptors on accept) costs one connection, not the server.
        this.#server.on('error', (err) => this.#options.log.warn({ err }, 'a connection was not accepted'));
        const bound = this.#server.address();
        this.#address =
          typeof bound === 'object' && bound !== null ? { ...address, port: bound.port } : address;
        resolve();
      });
    });
  }
}

const SLASH = 0x2f;

/** A request target in absolute form (RFC 9112 §3.2.2) without its scheme and host; others as they are. */
const originForm = (target: string): string => {
  const match = /^https?:\/\/[^/?#]*(.*)$/i.exec(target);
  if (match === null) return target;
  return match[1]!.startsWith('/') ? match[1]! : `/${match[1]!}`;
};

const tooLong = (): TfsError => new TfsError('URL_TOO_LONG', `a URL may have at most ${URL_BYTES_MAX} bytes`);

function listenError(address: HostPort, cause: NodeJS.ErrnoException): TfsError {
  const where = formatHostPort(address);
  const why =
    cause.code === 'EADDRINUSE'
      ? `${where} is taken by another process (see "ss -ltnp sport = :${address.port}"): stop it, or change gateway.port in config.json`
      : `cannot listen on ${where} (gateway.port in config.json): ${cause.message}`;
  return new TfsError('CONFLICT', why, { cause });
}
