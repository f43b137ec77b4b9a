import { z } from 'zod';
import {
  PURGE_BATCH_DEFAULT,
  PURGE_BATCH_MAX,
  PURGE_CACHES_MAX,
  PURGE_CONCURRENCY_DEFAULT,
  PURGE_CONCURRENCY_MAX,
  PURGE_HEADERS_MAX,
  PURGE_SCAN_MS_DEFAULT,
  PURGE_SCAN_MS_MIN,
  PURGE_TIERS_MAX,
  PURGE_TIMEOUT_MS_DEFAULT,
  PURGE_TIMEOUT_MS_MAX,
} from './limits.ts';

/** Section `purge` of the configuration: the caches in front of the gateways, which are told when a picture's state changes. */

/** RFC 9110 §5.6.2 */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/;
const HEADER_VALUE = /^[\x20-\x7e]{0,1024}$/;
/** What a purge says itself, or what says where a message ends. */
const OWN_HEADERS = new Set([
  'host',
  'connection',
  'content-length',
  'content-type',
  'transfer-encoding',
  'upgrade',
  'expect',
  'te',
  'trailer',
  'keep-alive',
  'surrogate-key',
  'cache-tag',
  'tfs-signature',
]);

/** More headers of each request. Their names are not those that a purge gives itself. */
export const zPurgeHeaders = z
  .record(z.string(), z.string().regex(HEADER_VALUE, 'a header value is one line of printable ASCII'))
  .superRefine((headers, ctx) => {
    const names = Object.keys(headers);
    if (names.length > PURGE_HEADERS_MAX)
      ctx.addIssue({ code: 'custom', message: `at most ${PURGE_HEADERS_MAX} headers` });
    for (const name of names) {
      if (!HEADER_NAME.test(name))
        ctx.addIssue({ code: 'custom', path: [name], message: 'is not the name of a header' });
      else if (OWN_HEADERS.has(name.toLowerCase()))
        ctx.addIssue({
          code: 'custom',
          path: [name],
          message: `a purge sets this header itself${name.toLowerCase() === 'host' ? ': give "host"' : ''}`,
        });
    }
  });

const zCache = z.strictObject({
  /** In jobs, metrics, messages and `secrets/purge.json`. */
  id: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'lower-case letters, digits and dashes, at most 32'),
  /** `purge`: PURGE {url}/images/NAME. `webhook`: POST of JSON to url, signed with a key of `secrets/purge.json`. */
  kind: z.enum(['purge', 'webhook']),
  url: z.url({ protocol: /^https?$/ }).max(2048),
  /** `Host` of the request, where it is not the one of `url`: the name under which clients know the cache. */
  host: z
    .string()
    .regex(/^[A-Za-z0-9.:[\]-]{1,255}$/, 'a host name, perhaps with :port')
    .optional(),
  headers: zPurgeHeaders.default({}),
  /** 1: asks the gateways. 2: asks caches of tier 1, and is purged after them: before, it would fetch the old answer again. */
  tier: z.number().int().min(1).max(PURGE_TIERS_MAX).default(1),
  /** A request that has not been answered after this has failed. */
  timeoutMs: z.number().int().min(100).max(PURGE_TIMEOUT_MS_MAX).default(PURGE_TIMEOUT_MS_DEFAULT),
  /** Requests at a time, of each gateway worker. */
  concurrency: z.number().int().min(1).max(PURGE_CONCURRENCY_MAX).default(PURGE_CONCURRENCY_DEFAULT),
  /** Names in one POST of a webhook. */
  batch: z.number().int().min(1).max(PURGE_BATCH_MAX).default(PURGE_BATCH_DEFAULT),
});

export const zPurgeSection = z
  .strictObject({
    caches: z.array(zCache).max(PURGE_CACHES_MAX).default([]),
    /** How often the DataServers are asked what changed that no gateway has told the caches. */
    scanMs: z.number().int().min(PURGE_SCAN_MS_MIN).max(3600_000).default(PURGE_SCAN_MS_DEFAULT),
  })
  .superRefine(({ caches }, ctx) => {
    caches.forEach(({ id, url }, i) => {
      const complain = (key: string, message: string) =>
        ctx.addIssue({ code: 'custom', path: ['caches', i, key], message });
      if (caches.findIndex((other) => other.id === id) < i) complain('id', `${id} is there twice`);
      const { username, password, search, hash } = new URL(url);
      if (username !== '' || password !== '')
        complain('url', 'has a password in it: put an Authorization header into secrets/purge.json');
      if (hash !== '' || (search !== '' && caches[i]!.kind === 'purge'))
        complain('url', 'may have a path, and nothing behind it');
    });
  });

export type PurgeConfig = z.output<typeof zPurgeSection>;
export type PurgeCacheConfig = PurgeConfig['caches'][number];
