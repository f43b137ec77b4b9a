import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import Router, { type RouterContext } from '@koa/router';
import { type ErrorCode, TfsError, toTfsError } from '../../../common/errors.ts';
import { BLOCK_BYTES_MAX, URL_BYTES_MAX } from '../../../common/limits.ts';
import type { Token } from '../../../common/secrets.ts';
import type { TfsClient } from '../../client.ts';
import type { Picture } from '../../picture.ts';
import { requireAction } from '../auth.ts';
import type { ChangedPictures } from '../changed-pictures.ts';
import type { GatewayMetrics } from '../gateway-metrics.ts';
import type { Uploads } from '../upload.ts';
import { fileFields, send, sendDone, sendFields } from './answers.ts';
import { AS_STATUS, statusOf } from './error-page.ts';
import { type FileName, fileNameOf, requireSuffix } from './file-name.ts';
import { Query } from './query.ts';
import { serverList } from './server-list.ts';

export interface TfsRoutesParts {
  readonly client: TfsClient;
  readonly uploads: Uploads;
  readonly changes: ChangedPictures;
  readonly metrics: GatewayMetrics;
  /** @returns undefined for an appkey that is not known here */
  readonly ofAppkey: (appkey: string) => Token | undefined;
  /** `IPv4:port` of the gateways that clients are sent to; the address that was asked when empty. */
  readonly list: readonly string[];
  readonly requestsPerRefresh: number;
}

const NO_YES = [0, 1] as const;

/** What DELETE does, by the numbers of TFS. */
const UNLINK = {
  0: { act: 'remove', label: 'delete', action: 'delete' },
  2: { act: 'undelete', label: 'undelete', action: 'delete' },
  4: { act: 'hide', label: 'hide', action: 'hide' },
  6: { act: 'reveal', label: 'reveal', action: 'hide' },
} as const;
type UnlinkType = keyof typeof UNLINK;
const UNLINK_TYPES: readonly UnlinkType[] = [0, 2, 4, 6];

/** The requests that nginx-tfs answers. Errors go up to the one catch of the application, which makes pages of them. */
export function tfsRoutes(parts: TfsRoutesParts): Router {
  const router = new Router({ strict: true });
  router.use(async (ctx, next) => {
    const { method, url } = ctx.req;
    if (url!.length > URL_BYTES_MAX)
      throw new TfsError('URL_TOO_LONG', `a URL may have at most ${URL_BYTES_MAX} bytes`);
    // The router takes it for a GET.
    if (method === 'HEAD' && ctx.path !== LIST_PATH) throw bad('HEAD is not possible here; GET is');
    await next();
  });
  router.get(LIST_PATH, (ctx) => serverListOf(parts, ctx));
  router.get('/v2/:appkey/appid', (ctx) => appId(parts, ctx));
  router.get('/v1/:appkey/metadata/:name', (ctx) => metadata(parts, ctx));
  router.get('/v1/:appkey/:name', (ctx) => read(parts, ctx));
  router.post('/v1/:appkey', (ctx) => upload(parts, ctx));
  router.delete('/v1/:appkey/:name', (ctx) => unlink(parts, ctx));
  router.put('/v1/:appkey/:name', (ctx) => {
    appkeyOf(parts, ctx);
    throw bad('what is stored under a name never changes: store the new content, and use its name');
  });
  router.all(/^\/v2(?:\/|$)/, () => {
    throw bad('custom file names are not possible here: only /v2/APPKEY/appid is');
  });
  router.all(/^/, () => {
    throw bad('there is no such request; see docs/tfs-rest.md for those there are');
  });
  return router;
}

const LIST_PATH = '/tfs.list';

function serverListOf({ list, requestsPerRefresh }: TfsRoutesParts, ctx: RouterContext): void {
  const text = serverList(ctx.req, { servers: list, requestsPerRefresh });
  if (text === undefined)
    throw new TfsError(
      'NOT_FOUND',
      'no IPv4 address of a gateway is known: set tfsRest.list in config.json',
      {
        details: { unrouted: true },
      },
    );
  ctx.type = 'text/plain';
  ctx.set('Cache-Control', 'no-store');
  ctx.body = text;
}

function appId({ ofAppkey }: TfsRoutesParts, ctx: RouterContext): void {
  const appkey = ctx.params['appkey']!;
  // nginx-tfs says so when its resource server knows no such application; clients give up on it.
  if (ofAppkey(appkey) === undefined)
    throw new TfsError('UNAUTHORIZED', NO_SUCH_APPKEY, { details: { [AS_STATUS]: 500 } });
  sendFields(ctx, { APP_ID: String(appIdOf(appkey)) });
}

/** Clients put it into paths of custom file names, where nothing is: it only has to be there, and to stay the same. */
const appIdOf = (appkey: string): number =>
  (createHash('sha256').update(`appid ${appkey}`).digest().readUInt32LE(0) >>> 1) + 1;

async function upload(parts: TfsRoutesParts, ctx: RouterContext): Promise<void> {
  const { metrics, uploads } = parts;
  try {
    const token = appkeyOf(parts, ctx);
    requireAction(token, 'upload');
    const query = Query.of(ctx.querystring);
    // Both are ways of TFS to name and to cut a file; one name, in one piece, is what there is here.
    query.oneOf('simple_name', NO_YES);
    query.oneOf('large_file', NO_YES);
    if (query.oneOf('meta_segment', NO_YES) === 1)
      throw bad('meta_segment=1 is not possible: no file is kept in segments here');
    const suffix = query.text('suffix');
    const noDedup = query.oneOf('no_dedup', NO_YES) === 1;
    const { stored } = await uploads.receiveRaw(ctx.req, ctx.res, { token, suffix, noDedup });
    metrics.uploaded('OK');
    sendFields(ctx, { TFS_FILE_NAME: `${stored.name}${suffix}` });
  } catch (error) {
    metrics.uploaded(toTfsError(error).code);
    throw error;
  }
}

async function read(parts: TfsRoutesParts, ctx: RouterContext): Promise<void> {
  const { client, metrics } = parts;
  try {
    appkeyOf(parts, ctx);
    const query = Query.of(ctx.querystring);
    const file = fileOf(parts, ctx, query);
    const force = query.oneOf('type', NO_YES) === 1;
    const offset = query.count('offset', 0) ?? 0;
    const length = query.count('size', 1) ?? Number.POSITIVE_INFINITY;
    if (offset > BLOCK_BYTES_MAX) throw beyondEnd();
    const picture = await client.get(file.key, { offset, length, force });
    requireSuffix(file, picture.facts);
    if (offset > picture.facts.size) throw beyondEnd();
    await sendPicture(ctx, picture);
    metrics.served(200, picture.length);
  } catch (thrown) {
    const error = toTfsError(thrown);
    metrics.served(statusOf(error), 0);
    if (error.code === 'CORRUPT') metrics.damaged();
    throw error;
  }
}

/** In verified pieces, no faster than the client takes them. @throws TfsError when the rest cannot be read: the answer is cut */
async function sendPicture(ctx: RouterContext, picture: Picture): Promise<void> {
  send(ctx, ['Content-Length', String(picture.length)]);
  if (picture.isWhole) {
    ctx.res.end(picture.first);
    return;
  }
  try {
    await pipeline(picture.pieces(), ctx.res);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The client went away.
    if (code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

async function metadata(parts: TfsRoutesParts, ctx: RouterContext): Promise<void> {
  appkeyOf(parts, ctx);
  const query = Query.of(ctx.querystring);
  const file = fileOf(parts, ctx, query);
  const force = query.oneOf('type', NO_YES) === 1;
  const facts = await parts.client.stat(file.key, { force });
  requireSuffix(file, facts);
  sendFields(ctx, fileFields(file, facts));
}

async function unlink(parts: TfsRoutesParts, ctx: RouterContext): Promise<void> {
  const { client, metrics, changes } = parts;
  const token = appkeyOf(parts, ctx);
  const query = Query.of(ctx.querystring);
  const { act, label, action } = UNLINK[unlinkTypeOf(query)];
  let code: ErrorCode | 'OK' = 'OK';
  try {
    requireAction(token, action);
    const file = fileOf(parts, ctx, query);
    if (file.suffix !== '') requireSuffix(file, await client.stat(file.key, { force: true }));
    try {
      await client[act](file.key);
    } finally {
      // Also when it failed: it may have happened all the same.
      changes.changed(file.name);
    }
    sendDone(ctx);
  } catch (error) {
    code = toTfsError(error).code;
    throw error;
  } finally {
    metrics.mutated(label, code);
  }
}

/** @throws TfsError BAD_REQUEST also when `hide` and `type` want different things */
function unlinkTypeOf(query: Query): UnlinkType {
  const type = query.optional('type', UNLINK_TYPES);
  const hide = query.optional('hide', NO_YES);
  if (hide === undefined) return type ?? 0;
  const hides: UnlinkType = hide === 1 ? 4 : 6;
  if (type !== undefined && type !== hides) throw bad(`hide=${hide} and type=${type} are not the same`);
  return hides;
}

/** @throws TfsError UNAUTHORIZED, which is a 400 here */
function appkeyOf({ ofAppkey }: TfsRoutesParts, ctx: RouterContext): Token {
  const token = ofAppkey(ctx.params['appkey']!);
  if (token === undefined) throw new TfsError('UNAUTHORIZED', NO_SUCH_APPKEY);
  return token;
}

const NO_SUCH_APPKEY = 'this appkey is not known here';

const fileOf = ({ client }: TfsRoutesParts, ctx: RouterContext, query: Query): FileName =>
  fileNameOf(client, ctx.params['name']!, query.text('suffix'));

const bad = (message: string): TfsError => new TfsError('BAD_REQUEST', message);

const beyondEnd = (): TfsError => bad('offset is beyond the end of the file');
