import type { ImagesConfig } from '../../common/config-images.ts';
import type { TfsError } from '../../common/errors.ts';

/** What an answer says to caches and browsers, besides what it is: flat lists of headers, as node:http writes them fastest. */
export interface Said {
  readonly cacheControl: string;
  /** Headers of every answer for this picture, a 304 and an error too. */
  readonly always: readonly string[];
}

export type CacheRulesOptions = Pick<ImagesConfig, 'cacheControl' | 'allowOrigins'>;

/** No replica could confirm that the picture is not deleted: good enough to show once, not to keep. */
export const NOT_TO_BE_KEPT = 'no-store';

/**
 * How long what may be kept, under which tags, and who may read it by script.
 *
 * Tags are the name, once as Fastly and Varnish call them and once as Cloudflare and Akamai do: one purge by it drops the
 * original, all its renditions, and the answer that there is none.
 */
export class CacheRules {
  readonly original: string;
  readonly rendition: string;
  readonly #options: CacheRulesOptions;
  readonly #origins: ReadonlySet<string> | undefined;

  constructor(options: CacheRulesOptions) {
    const { originalSeconds, renditionSeconds, staleIfErrorSeconds, staleWhileRevalidateSeconds } =
      options.cacheControl;
    this.#options = options;
    const stale = `stale-while-revalidate=${staleWhileRevalidateSeconds}, stale-if-error=${staleIfErrorSeconds}`;
    this.original = `public, max-age=${originalSeconds}, immutable`;
    this.rendition = `public, max-age=${renditionSeconds}, ${stale}`;
    const { allowOrigins } = options;
    this.#origins =
      allowOrigins === '*' ? undefined : new Set(allowOrigins.map((url) => new URL(url).origin));
  }

  /** @param name 18 characters @param varies whether the header Accept decides about the format */
  always(name: string, varies: boolean): readonly string[] {
    const vary = [...(varies ? ['Accept'] : []), ...(this.#origins === undefined ? [] : ['Origin'])];
    return [
      ...(vary.length === 0 ? [] : ['Vary', vary.join(', ')]),
      ...['Surrogate-Key', name],
      ...['Cache-Tag', name],
      ...(this.#origins === undefined ? ANYBODY : []),
    ];
  }

  /** What depends on who asks: nothing where anybody may. */
  forOrigin(origin: string | undefined): readonly string[] {
    if (this.#origins === undefined || origin === undefined || !this.#origins.has(origin)) return NOTHING;
    return ['Access-Control-Allow-Origin', origin, 'Timing-Allow-Origin', origin];
  }

  /** Headers for a browser that asks before a script of another origin reads a picture, or a part of it. */
  preflight(origin: string | undefined): Record<string, string> {
    const [, allowed] = this.#origins === undefined ? ANYBODY : this.forOrigin(origin);
    return {
      ...(this.#origins === undefined ? {} : { Vary: 'Origin' }),
      ...(allowed === undefined
        ? {}
        : {
            'Access-Control-Allow-Origin': allowed,
            'Access-Control-Allow-Methods': 'GET, HEAD',
            'Access-Control-Allow-Headers': 'If-None-Match, If-Range, Range',
            'Access-Control-Max-Age': '86400',
          }),
    };
  }

  /**
   * Of something that was asked for with a signature: not longer than that holds, and then not shown any more.
   *
   * @param seconds the signature is good for
   * @param isPrivate for nobody but who has the signature
   */
  signed(usual: string, seconds: number, isPrivate: boolean): string {
    const most = Number(/max-age=(\d+)/.exec(usual)?.[1] ?? 0);
    const age = Math.max(0, Math.min(most, Math.floor(seconds)));
    return `${isPrivate ? 'private' : 'public'}, max-age=${age}`;
  }

  /** An answer that stays the same for a while; of all others nobody knows. */
  ofError({ code }: TfsError): string {
    const { notFoundSeconds, undecodableSeconds } = this.#options.cacheControl;
    switch (code) {
      case 'NOT_FOUND':
      case 'GONE':
        return keptFor(notFoundSeconds);
      case 'UNDECODABLE':
      case 'TOO_MANY_PIXELS':
        return keptFor(undecodableSeconds);
      default:
        return NOT_TO_BE_KEPT;
    }
  }
}

const ANYBODY: readonly string[] = ['Access-Control-Allow-Origin', '*', 'Timing-Allow-Origin', '*'];
const NOTHING: readonly string[] = [];

const keptFor = (seconds: number): string => (seconds === 0 ? NOT_TO_BE_KEPT : `public, max-age=${seconds}`);
