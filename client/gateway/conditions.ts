import type { IncomingHttpHeaders } from 'node:http';
import fresh from 'fresh';

/** What a picture answers conditional and range requests with. */
export interface Validators {
  /** Strong, with its quotes. */
  readonly etag: string;
  /** As in the Last-Modified header: whole seconds. */
  readonly lastModified: string;
  /** Bytes. */
  readonly size: number;
}

export type Disposition =
  | { readonly kind: 'whole' }
  | { readonly kind: 'not-modified' }
  /** Both inclusive. */
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'unsatisfiable' };

const WHOLE: Disposition = { kind: 'whole' };
const NOT_MODIFIED: Disposition = { kind: 'not-modified' };
const UNSATISFIABLE: Disposition = { kind: 'unsatisfiable' };

export const isConditional = (headers: IncomingHttpHeaders): boolean =>
  headers['if-none-match'] !== undefined ||
  headers['if-modified-since'] !== undefined ||
  headers.range !== undefined;

/** RFC 9110 §13 and §14: preconditions first, then a single byte range. Several ranges are answered with the whole. */
export function dispositionOf(
  method: string | undefined,
  headers: IncomingHttpHeaders,
  validators: Validators,
): Disposition {
  if (headers['if-none-match'] !== undefined || headers['if-modified-since'] !== undefined) {
    const { etag, lastModified } = validators;
    if (fresh(headers, { etag, 'last-modified': lastModified })) return NOT_MODIFIED;
  }
  const range = headers.range;
  if (range === undefined || method !== 'GET') return WHOLE;
  const ifRange = headers['if-range'];
  if (typeof ifRange === 'string' && ifRange !== validators.etag && ifRange !== validators.lastModified)
    return WHOLE;
  return rangeOf(range, validators.size);
}

/** first-last, first-, or -length */
const SINGLE_RANGE = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/;

/** A header that is malformed, in another unit or with several ranges may be ignored, and is. */
function rangeOf(range: string, size: number): Disposition {
  const match = SINGLE_RANGE.exec(range);
  if (match === null) return WHOLE;
  const [, first = '', last = ''] = match;
  if (first === '') {
    if (last === '') return WHOLE;
    const length = Number(last);
    if (length === 0) return UNSATISFIABLE;
    return { kind: 'part', start: Math.max(0, size - length), end: size - 1 };
  }
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== '' && Number(last) < start) return WHOLE;
  return start >= size ? UNSATISFIABLE : { kind: 'part', start, end };
}
