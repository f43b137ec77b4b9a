import { hash } from 'node:crypto';
import { TfsError } from '../../../common/errors.ts';
import { kindOf, MediaType } from '../../../common/wire/messages.ts';
import { negotiate } from './accept.ts';
import { canonicalText, type Format, type Rendition } from './rendition.ts';

/**
 * Counts up whenever the same request may give other bytes: another version of the libraries, another quality. It is in
 * every cache key and entity tag.
 */
export const MAKER_VERSION = 1;

/** A request whose format is settled: what is made, kept and tagged. */
export interface Settled {
  readonly rendition: Rendition;
  /** With the version of the maker: what tells this rendition from all others of the picture. */
  readonly spelling: string;
  /** Name of the picture and spelling: what tells it from all others. */
  readonly id: string;
  /** Strong, with its quotes: of exactly these bytes, known before they are made. */
  readonly etag: string;
  /** The answer depends on the header Accept. */
  readonly varies: boolean;
}

/** What is asked for without a format, by what is stored: what browsers show stays what it is. */
const OWN: Partial<Record<MediaType, Format>> = {
  [MediaType.JPEG]: 'jpg',
  [MediaType.PNG]: 'png',
  [MediaType.GIF]: 'gif',
  [MediaType.WEBP]: 'webp',
  [MediaType.AVIF]: 'avif',
};
/** With an alpha channel, or few colours, a JPEG would be the wrong thing to fall back to. */
const LOSSLESS: ReadonlySet<MediaType> = new Set([MediaType.PNG, MediaType.GIF]);

/** For who takes neither what is modern nor what is usual for the picture. */
const ANY_OF: readonly Format[] = ['jpg', 'png', 'gif'];

export interface StoredFacts {
  /** 18 characters. */
  readonly name: string;
  readonly mediaType: number;
  /** Of the original. */
  readonly sha1: Buffer;
}

export interface SettleOptions {
  /** The header, as it came. */
  readonly accept: string | undefined;
  /** Formats for those who name them, best first. */
  readonly modern: readonly Format[];
  /** Settings of the gateway that make other bytes: a few letters. */
  readonly flavour: string;
}

/**
 * Settles which format is made.
 *
 * @throws TfsError NOT_ACCEPTABLE where the client takes none that could be made
 */
export function settle(
  rendition: Rendition,
  { name, mediaType, sha1 }: StoredFacts,
  { accept, modern, flavour }: SettleOptions,
): Settled {
  const kind = kindOf(mediaType);
  const varies = rendition.format === 'auto';
  let format = rendition.format;
  if (format === 'auto') {
    const fallback = fallbackOf(kind);
    const offered = [...modern, fallback].filter((one, i, all) => all.indexOf(one) === i);
    format = negotiate(accept, offered) ?? negotiate(accept, ANY_OF);
    if (format === undefined)
      throw new TfsError(
        'NOT_ACCEPTABLE',
        `the header Accept takes none of ${[...new Set([...offered, ...ANY_OF])].join(', ')}`,
      );
  }
  const settled = { ...rendition, format: format ?? OWN[kind] };
  const spelling = `${MAKER_VERSION}${flavour}.${canonicalText(settled)}`;
  const variant = hash('sha256', spelling, 'hex').slice(0, 16);
  const etag = `"${sha1.toString('hex', 0, 12)}-${variant}"`;
  return { rendition: settled, spelling, id: `${name} ${spelling}`, etag, varies };
}

/** What everybody shows. */
function fallbackOf(mediaType: MediaType): Format {
  if (mediaType === MediaType.GIF) return 'gif';
  return LOSSLESS.has(mediaType) ? 'png' : 'jpg';
}
