import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TfsError } from '../../common/errors.ts';
import { HTTP_HEADER_BYTES_MAX, URL_BYTES_MAX } from '../../common/limits.ts';
import { errorReply } from './error-reply.ts';
import { newRequestId } from './request-id.ts';

interface ParserError extends Error {
  readonly code?: string;
  readonly rawPacket?: Buffer;
}

/** The answer in progress on a connection, if there is one; node:http's own default handler looks at it too. */
interface HttpSocket extends Socket {
  readonly _httpMessage?: ServerResponse | null;
}

/**
 * Answers what is not HTTP, with the same JSON as everywhere, and ends the connection. Where an answer is under way on
 * it already, nothing can be said any more without spoiling that one.
 *
 * @returns the error that was answered, undefined when there was nobody to answer
 */
export function answerClientError(error: ParserError, socket: HttpSocket): TfsError | undefined {
  if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent) {
    socket.destroy();
    return undefined;
  }
  const known = describe(error, socket._httpMessage !== null && socket._httpMessage !== undefined);
  const { status, headers, body } = errorReply(known, newRequestId(), true);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${status} ${known.code}\r\nDate: ${new Date().toUTCString()}\r\n${lines.join('')}\r\n`;
  socket.end(Buffer.concat([Buffer.from(head), body]), () => socket.destroy());
  return known;
}

function describe(error: ParserError, inBody: boolean): TfsError {
  const cause = error;
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new TfsError('BODY_TIMEOUT', 'the request did not arrive in time', { cause });
    case 'HPE_HEADER_OVERFLOW':
      return isLongUrl(error.rawPacket)
        ? new TfsError('URL_TOO_LONG', `a URL may have at most ${URL_BYTES_MAX} bytes`, { cause })
        : new TfsError('BAD_REQUEST', `headers may have at most ${HTTP_HEADER_BYTES_MAX} bytes`, { cause });
    case 'HPE_INVALID_EOF_STATE':
      if (inBody)
        return new TfsError('BODY_CUT', 'the body ended before its declared length; nothing was stored', {
          cause,
        });
      break;
  }
  return new TfsError('BAD_REQUEST', `this is not HTTP/1.1 (${error.code ?? error.message})`, { cause });
}

/** The request line alone fills what may be sent before the headers end. */
function isLongUrl(packet: Buffer | undefined): boolean {
  if (packet === undefined) return false;
  const lineEnd = packet.indexOf('\r\n');
  return lineEnd < 0 || lineEnd > URL_BYTES_MAX;
}
