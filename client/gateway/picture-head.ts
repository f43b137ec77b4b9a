import { suffixHash } from '../../common/name.ts';
import type { ReadReply } from '../../common/wire/messages.ts';
import type { Validators } from './conditions.ts';
import { extensionsOf, mimeOf, needsSandbox } from './media.ts';

/** All that HTTP says about a picture, made once. */
export interface PictureHead extends Validators {
  readonly mediaType: number;
  readonly suffixHash: number;
  readonly cacheControl: string;
  /**
   * Headers of a 200 as a flat list, the form that node:http writes fastest. The last value is the request id: it is
   * set just before the list is used, which is in one go.
   */
  readonly headers: string[];
}

/** A name's content never changes, so a cache may keep it for ever; the gateway's own limit is a year. */
const CACHE_CONTROL = 'public, max-age=31536000, immutable';
/** No replica could confirm that the picture is not deleted: good enough to show once, not to keep for a year. */
const CACHE_CONTROL_PROVISIONAL = 'no-store';
/** An SVG is a document: without this its scripts would run with the rights of the site that serves it. */
const SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox";

export function pictureHead(facts: ReadReply): PictureHead {
  const etag = `"${facts.sha1.toString('hex')}"`;
  const lastModified = new Date(facts.mtimeMs).toUTCString();
  const cacheControl = facts.provisional ? CACHE_CONTROL_PROVISIONAL : CACHE_CONTROL;
  const headers = [
    ...['Content-Type', mimeOf(facts.mediaType)],
    ...['Content-Length', String(facts.size)],
    ...['ETag', etag],
    ...['Last-Modified', lastModified],
    ...['Cache-Control', cacheControl],
    ...['Accept-Ranges', 'bytes'],
    ...['X-Content-Type-Options', 'nosniff'],
    ...(needsSandbox(facts.mediaType) ? ['Content-Security-Policy', SANDBOX] : []),
    ...['X-Request-Id', ''],
  ];
  const { size, mediaType } = facts;
  return { etag, lastModified, size, mediaType, suffixHash: facts.suffixHash, cacheControl, headers };
}

/** The same picture in an answer that nobody may keep. */
export function unconfirmed(head: PictureHead): PictureHead {
  const headers = [...head.headers];
  headers[headers.indexOf('Cache-Control') + 1] = CACHE_CONTROL_PROVISIONAL;
  return { ...head, headers, cacheControl: CACHE_CONTROL_PROVISIONAL };
}

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
export function notModifiedHeaders(head: PictureHead, requestId: string): string[] {
  return [
    ...['ETag', head.etag],
    ...['Last-Modified', head.lastModified],
    ...['Cache-Control', head.cacheControl],
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
