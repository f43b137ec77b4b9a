import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ErrorCode, type TfsError, toTfsError } from '../../common/errors.ts';

/** An HTTP answer for an error: the same JSON on every route and in every state of the connection. */
export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** For everybody to read, so without what only the operator should know; that is in the log, under the request id. */
const PUBLIC_MESSAGES: Partial<Record<ErrorCode, string>> = {
  INTERNAL: 'an error in the store; its log tells more under this requestId',
  CORRUPT: 'every stored copy of this picture is damaged; the operator was told',
  NOT_FOUND: 'there is no such picture',
  DONT_KNOW: 'the store cannot tell yet whether this picture exists; try again',
  UNAVAILABLE: 'the store cannot answer now; try again',
  NO_WRITE_SET: 'the store has too few servers for a safe write now; try again',
  OVERLOADED: 'the store has too much to do; try again',
};

const RETRY_SECONDS_DEFAULT = 1;

/** @param closing whether the connection ends with this answer, because the rest of the request is not read */
export function errorReply(error: TfsError, requestId: string, closing: boolean): ErrorReply {
  const body = Buffer.from(`${JSON.stringify(errorBody(error, requestId))}\n`);
  const headers: Record<string, string> = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': String(body.length),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'X-Request-Id': requestId,
  };
  const status = error.httpStatus;
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer realm="tfs"';
  if (status === 503 || status === 429) headers['Retry-After'] = retryAfter(error);
  const allow = error.details?.['allow'];
  if (status === 405 && typeof allow === 'string') headers['Allow'] = allow;
  const size = error.details?.['size'];
  if (status === 416 && typeof size === 'number') headers['Content-Range'] = `bytes */${size}`;
  if (closing) headers['Connection'] = 'close';
  return { status, headers, body };
}

/** The body of every error; also of a part of a form that was not stored. */
export const errorBody = (error: TfsError, requestId: string) => ({
  code: error.code,
  message: publicMessage(error),
  requestId,
});

function publicMessage(error: TfsError): string {
  // That a path leads nowhere says nothing about any picture.
  if (error.details?.['unrouted'] === true) return error.message;
  const message = PUBLIC_MESSAGES[error.code];
  if (message !== undefined) return message;
  if (error.httpStatus < 500) return error.message;
  // Errors of the servers among themselves (a lost connection, a stale epoch) are all the same to a client.
  return PUBLIC_MESSAGES[error.httpStatus === 503 ? 'UNAVAILABLE' : 'INTERNAL']!;
}

const retryAfter = (error: TfsError): string =>
  String(
    Math.max(
      1,
      error.retryAfterMs === undefined ? RETRY_SECONDS_DEFAULT : Math.ceil(error.retryAfterMs / 1000),
    ),
  );

/** Whether an answer now leaves part of the request unread. Bodies that have arrived are no reason to close. */
export const mustClose = (request: IncomingMessage): boolean => !request.complete;

/**
 * Ends the response with the error; where its beginning has left already, the connection is cut instead.
 *
 * @param more headers in a flat list, in place of the usual ones of these names
 */
export function sendError(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
  requestId: string,
  more: (error: TfsError) => readonly string[] = () => [],
): TfsError {
  const error = toTfsError(thrown);
  if (response.headersSent) {
    // Never a wrong or short body that looks complete.
    response.destroy();
    return error;
  }
  const reply = errorReply(error, requestId, mustClose(request));
  const headers: Record<string, string> = { ...reply.headers };
  const others = more(error);
  for (let i = 0; i + 1 < others.length; i += 2) headers[others[i]!] = others[i + 1]!;
  response.writeHead(reply.status, headers);
  response.end(request.method === 'HEAD' ? undefined : reply.body);
  return error;
}
