import Router, { type RouterContext } from '@koa/router';
import { type ErrorCode, TfsError, toTfsError } from '../../common/errors.ts';
import { WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import { type DecodedName, NAME_LENGTH } from '../../common/name.ts';
import { Mutation, NameFlag } from '../../common/wire/messages.ts';
import type { TfsClient } from '../client.ts';
import type { Picture } from '../picture.ts';
import { sendJson } from './application.ts';
import { requireAction, type Tokens } from './auth.ts';
import type { CacheRules } from './cache-rules.ts';
import type { ChangedPictures } from './changed-pictures.ts';
import { dimensionsOf } from './dimensions.ts';
import { errorBody } from './error-reply.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { isPrivate, kindOf, mimeOf } from './media.ts';
import { idempotencyKeyOf, mutationOpId } from './op-id.ts';
import { tailMatches } from './picture-head.ts';
import type { PartResult, StoredPicture, Uploads } from './upload.ts';

export interface RoutesParts {
  readonly client: TfsClient;
  readonly tokens: Tokens;
  readonly uploads: Uploads;
  readonly changes: ChangedPictures;
  readonly rules: CacheRules;
  /** Originals are for those alone who have a signature, or a token. */
  readonly isPrivate: boolean;
  readonly metrics: GatewayMetrics;
  /** Where clients reach the gateway, without a slash at the end; from the request when absent. */
  readonly publicUrl: string | undefined;
  /** {ok, ...Status}, HTTP 503 when not ok. */
  readonly health: () => { readonly ok: boolean };
}

/** Everything but GET of a picture: decode, call, encode. Errors go up to the one catch of the application. */
export function routes(parts: RoutesParts): Router {
  const { client, tokens, uploads, metrics } = parts;
  const router = new Router();

  router.post('/images', async (ctx) => {
    const { req, res } = ctx;
    try {
      const token = tokens.require(req.headers);
      requireAction(token, 'upload');
      const isPrivate = flag('private', ctx.query['private']);
      const results = await uploads.receive(req, res, { token, suffix: one(ctx.query['suffix']), isPrivate });
      metrics.uploaded('OK');
      if (results.length === 1 && !(results[0] instanceof TfsError)) {
        const picture = results[0]!;
        sendJson(ctx, 201, encodeStored(parts, ctx, picture), ['Location', pathOf(parts, picture)]);
      } else {
        const status = results.some((result) => result instanceof TfsError) ? 207 : 201;
        sendJson(
          ctx,
          status,
          results.map((result) => encodePart(parts, ctx, result)),
        );
      }
    } catch (error) {
      metrics.uploaded(toTfsError(error).code);
      throw error;
    }
  });

  // What a browser asks before a script of another origin reads a part of a picture.
  router.options('/images/:name', (ctx) => {
    ctx.status = 204;
    ctx.set(parts.rules.preflight(ctx.req.headers.origin));
  });

  router.get('/images/:name/metadata', async (ctx) => {
    const force = tokens.optional(ctx.req.headers) !== undefined;
    const name = client.parse(ctx.params['name']!);
    const picture = await client.get(name, { length: WHOLE_READ_BYTES_MAX, force });
    if (!tailMatches(name.tail, picture.facts)) throw notFound();
    if ((parts.isPrivate || isPrivate(picture.facts.mediaType)) && !force)
      throw new TfsError('FORBIDDEN', 'the metadata of a private picture is for those who have a token');
    sendJson(ctx, 200, encodeMetadata(parts, ctx, name, picture, force));
  });

  const mutation = (kind: Mutation, label: string, act: 'remove' | 'undelete' | 'hide' | 'reveal') => {
    return async (ctx: RouterContext) => {
      let code: ErrorCode | 'OK' = 'OK';
      try {
        const token = tokens.require(ctx.req.headers);
        requireAction(token, act === 'hide' || act === 'reveal' ? 'hide' : 'delete');
        const name = client.parse(ctx.params['name']!);
        const key = idempotencyKeyOf(ctx.req.headers);
        await checkTail(client, name);
        try {
          await client[act](name, key === undefined ? undefined : mutationOpId(token, key, kind, name));
        } finally {
          // Also when it failed: it may have happened all the same.
          parts.changes.changed(client.nameOf(name));
        }
        ctx.status = 204;
      } catch (error) {
        code = toTfsError(error).code;
        throw error;
      } finally {
        metrics.mutated(label, code);
      }
    };
  };
  router.delete('/images/:name', mutation(Mutation.DELETE, 'delete', 'remove'));
  router.post('/images/:name/undelete', mutation(Mutation.UNDELETE, 'undelete', 'undelete'));
  router.post('/images/:name/hide', mutation(Mutation.HIDE, 'hide', 'hide'));
  router.post('/images/:name/reveal', mutation(Mutation.REVEAL, 'reveal', 'reveal'));

  router.get('/healthz', (ctx) => {
    const health = parts.health();
    ctx.status = health.ok ? 200 : 503;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = health;
  });
  router.get('/metrics', async (ctx) => {
    ctx.type = metrics.contentType;
    ctx.body = await metrics.text();
  });
  return router;
}

/** What was appended to a name in a command must belong to the picture, as in a read. */
async function checkTail(client: TfsClient, name: DecodedName): Promise<void> {
  if (name.tail === '') return;
  if (!tailMatches(name.tail, await client.stat(name, { force: true }))) throw notFound();
}

function encodeStored(parts: RoutesParts, ctx: RouterContext, picture: StoredPicture): object {
  const { stored, mediaType, width, height, changed } = picture;
  return {
    name: stored.name,
    url: urlOf(parts, ctx, pathOf(parts, picture)),
    size: stored.size,
    sha1: stored.sha1.toString('hex'),
    mediaType,
    width,
    height,
    deduplicated: stored.deduplicated,
    ...(stored.isPrivate ? { private: true } : {}),
    ...(changed.length > 0 ? { changed } : {}),
    replicas: stored.members.length,
    // The answer is sent after every member of the write set has synced the picture to its disk, never before.
    durable: true,
  };
}

function encodePart(parts: RoutesParts, ctx: RouterContext, result: PartResult): object {
  if (!(result instanceof TfsError)) return encodeStored(parts, ctx, result);
  return errorBody(result, ctx.state['requestId'] as string);
}

function encodeMetadata(
  parts: RoutesParts,
  ctx: RouterContext,
  name: DecodedName,
  { facts, first }: Picture,
  withState: boolean,
): object {
  const text = client18(parts.client, name);
  const mediaType = kindOf(facts.mediaType);
  return {
    name: text,
    url: urlOf(parts, ctx, `${basePath(parts)}/images/${text}${encodeURI(name.tail)}`),
    size: facts.size,
    sha1: facts.sha1.toString('hex'),
    crc32: facts.dataCrc.toString(16).padStart(8, '0'),
    mediaType: mimeOf(mediaType),
    ...dimensionsOf(first, mediaType),
    storedAt: new Date(facts.mtimeMs).toISOString(),
    deduplicated: facts.alias,
    ...(isPrivate(facts.mediaType) ? { private: true } : {}),
    ...(withState
      ? {
          state: stateOf(facts.nameFlags),
          deleted: (facts.nameFlags & NameFlag.DELETED) !== 0,
          hidden: (facts.nameFlags & NameFlag.HIDDEN) !== 0,
        }
      : {}),
  };
}

function stateOf(nameFlags: number): 'live' | 'deleted' | 'hidden' | 'purged' {
  if ((nameFlags & NameFlag.PURGED) !== 0) return 'purged';
  if ((nameFlags & NameFlag.DELETED) !== 0) return 'deleted';
  return (nameFlags & NameFlag.HIDDEN) !== 0 ? 'hidden' : 'live';
}

const client18 = (client: TfsClient, name: DecodedName): string => client.nameOf(name).slice(0, NAME_LENGTH);

/** The path below which a reverse proxy publishes the gateway; usually none. */
const basePath = ({ publicUrl }: RoutesParts): string =>
  publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '');

const pathOf = (parts: RoutesParts, { stored, suffix }: StoredPicture): string =>
  `${basePath(parts)}/images/${stored.name}${suffix}`;

/** Name or address and port, as a browser sends it; anything else is not put into an answer. */
const HOST = /^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;

/** Absolute where it is known under which address the client reached the gateway. */
function urlOf({ publicUrl }: RoutesParts, ctx: RouterContext, path: string): string {
  if (publicUrl !== undefined) return new URL(path, publicUrl).href;
  const host = ctx.req.headers.host;
  return host !== undefined && HOST.test(host) ? `http://${host}${path}` : path;
}

const one = (value: string | string[] | undefined): string => (Array.isArray(value) ? value[0] : value) ?? '';

/** @throws TfsError BAD_REQUEST for anything but 1 or true, 0 or false, or nothing */
function flag(name: string, value: string | string[] | undefined): boolean {
  if (value === undefined || value === '0' || value === 'false') return false;
  if (value === '1' || value === 'true') return true;
  throw new TfsError('BAD_REQUEST', `${name} is 1 or 0, given once`);
}

const notFound = (): TfsError => new TfsError('NOT_FOUND', 'there is no such picture');
