import { STATUS_CODES } from 'node:http';
import type { ErrorCode, TfsError } from '../../../common/errors.ts';
import { type ErrorReply, errorBody, errorReply } from '../error-reply.ts';

/** Where TFS says it otherwise than the rest of the gateway. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  // An appkey that is not known here.
  UNAUTHORIZED: 400,
  METHOD_NOT_ALLOWED: 400,
  GONE: 404,
};

/** Where nginx calls a status otherwise than node:http. */
const TITLES: Readonly<Record<number, string>> = {
  408: 'Request Time-out',
  413: 'Request Entity Too Large',
  414: 'Request-URI Too Large',
  503: 'Service Temporarily Unavailable',
};

/**
 * The answer for an error as a page, in the manner of nginx: TFS clients look for `<title>404 Not Found</title>`, and tell
 * their user what a 500 has in the cell after "Server:".
 *
 * @param server which gateway this is
 */
export function errorPage(
  error: TfsError,
  {
    requestId,
    closing,
    server,
  }: { readonly requestId: string; readonly closing: boolean; readonly server: string },
): ErrorReply {
  const { headers: common } = errorReply(error, requestId, closing);
  const status = statusOf(error);
  const title = `${status} ${TITLES[status] ?? STATUS_CODES[status] ?? ''}`;
  const body = Buffer.from(
    [
      '<html>',
      `<head><title>${title}</title></head>`,
      '<body>',
      `<center><h1>${title}</h1></center>`,
      `<p>${escaped(errorBody(error, requestId).message)}</p>`,
      '<table>',
      ...row('Server', server),
      ...row('Request', requestId),
      '</table>',
      '<hr><center>tfs</center>',
      '</body>',
      '</html>',
      '',
    ].join('\n'),
  );
  const headers: Record<string, string> = {
    ...common,
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Length': String(body.length),
  };
  if (status !== 401) delete headers['WWW-Authenticate'];
  return { status, headers, body };
}

/** Says another status than the code of the error has. */
export const AS_STATUS = 'asStatus';

/** @returns the HTTP status of its page */
export function statusOf(error: TfsError): number {
  const asked = error.details?.[AS_STATUS];
  return typeof asked === 'number' ? asked : (STATUS[error.code] ?? error.httpStatus);
}

const row = (what: string, value: string): string[] => [
  '<tr>',
  `<td>${what}:</td>`,
  `<td>${escaped(value)}</td>`,
  '</tr>',
];

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const escaped = (text: string): string => text.replace(/[&<>"]/g, (char) => ENTITIES[char]!);
