import { suffixHash } from '../../common/name.ts';
import type { ReadReply } from '../../common/wire/messages.ts';
import type { CacheRules } from './cache-rules.ts';
import { NOT_TO_BE_KEPT } from './cache-rules.ts';
import type { Validators } from './conditions.ts';
import { extensionsOf, mimeOf, needsSandbox } from './media.ts';

/** All that HTTP says about a picture, made once. */
export interface PictureHead extends Validators {
  readonly cacheControl: string;
  /** Headers of every answer for it, a 304 too. */
  readonly always: readonly string[];
  /**
   * Headers of a 200 as a flat list, the form that node:http writes fastest. The last value is the request id: it is
   * set just before the list is used, which is in one go.
   */
  readonly headers: string[];
}

/** As {@link PictureHead}, of what is stored. */
export interface OriginalHead extends PictureHead {
  readonly mediaType: number;
  readonly suffixHash: number;
}

/** An SVG is a document: without this its scripts would run with the rights of the site that serves it. */
const SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox";

interface HeadParts extends Validators {
  readonly mime: string;
  readonly cacheControl: string;
  readonly always: readonly string[];
  readonly isSandboxed: boolean;
}

/** @param lastModified none when empty */
export function headOf(parts: HeadParts): PictureHead {
  const { etag, lastModified, size, mime, cacheControl, always, isSandboxed } = parts;
  const headers = [
    ...['Content-Type', mime],
    ...['Content-Length', String(size)],
    ...['ETag', etag],
    ...(lastModified === '' ? [] : ['Last-Modified', lastModified]),
    ...['Cache-Control', cacheControl],
    ...['Accept-Ranges', 'bytes'],
    ...['X-Content-Type-Options', 'nosniff'],
    ...always,
    ...(isSandboxed ? ['Content-Security-Policy', SANDBOX] : []),
    ...['X-Request-Id', ''],
  ];
  return { etag, lastModified, size, cacheControl, always, headers };
}

/** @param name 18 characters */
export function pictureHead(facts: ReadReply, name: string, rules: CacheRules): OriginalHead {
  const { size, mediaType } = facts;
  const head = headOf({
    etag: `"${facts.sha1.toString('hex')}"`,
    lastModified: new Date(facts.mtimeMs).toUTCString(),
    size,
    mime: mimeOf(mediaType),
    cacheControl: facts.provisional ? NOT_TO_BE_KEPT : rules.original,
    always: rules.always(name, false),
    isSandboxed: needsSandbox(mediaType),
  });
  return { ...head, mediaType, suffixHash: facts.suffixHash };
}

/** The same picture in an answer that caches keep otherwise. */
export function withCacheControl<T extends PictureHead>(head: T, cacheControl: string): T {
  const headers = [...head.headers];
  headers[headers.indexOf('Cache-Control') + 1] = cacheControl;
  return { ...head, headers, cacheControl };
}

/** The same picture in an answer that nobody may keep. */
export const unconfirmed = <T extends PictureHead>(head: T): T => withCacheControl(head, NOT_TO_BE_KEPT);

/** @returns the list itself, good until it is used for another request */
export function wholeHeaders(head: PictureHead, requestId: string): string[] {
  head.headers[head.headers.length - 1] = requestId;
  return head.headers;
}

/** @param start first byte @param end last byte */
export function partHeaders(head: PictureHead, start: number, end: number, requestId: string): string[] {
  const headers = [...wholeHeaders(head, requestId), 'Content-Range', `bytes ${start}-${end}/${head.size}`];
  headers[headers.indexOf('Content-Length') + 1] = String(end - start + 1);
  return headers;
}

/** Those of a 200 that a cache updates its copy with. */
export function notModifiedHeaders(
  { etag, lastModified, cacheControl, always }: Omit<PictureHead, 'headers' | 'size'>,
  requestId: string,
): string[] {
  return [
    ...['ETag', etag],
    ...(lastModified === '' ? [] : ['Last-Modified', lastModified]),
    ...['Cache-Control', cacheControl],
    ...always,
    ...['X-Request-Id', requestId],
  ];
}

/**
 * Whether what was appended to a name belongs to the picture. A picture stored with a suffix has that one; one stored
 * without has the usual ones of its kind. Nothing appended is always right.
 */
export function tailMatches(tail: string, facts: Pick<ReadReply, 'suffixHash' | 'mediaType'>): boolean {
  if (tail === '') return true;
  if (facts.suffixHash !== 0) return suffixHash(tail) === facts.suffixHash;
  return extensionsOf(facts.mediaType).includes(tail.toLowerCase());
}
