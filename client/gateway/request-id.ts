import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const USABLE = /^[A-Za-z0-9._:-]{1,64}$/;
const prefix = randomBytes(6).toString('base64url');
let count = 0;

/** The client's own X-Request-Id where it can be put into a header and a log line unchanged, else a new one. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  if (typeof given === 'string' && USABLE.test(given)) return given;
  return newRequestId();
}

/** Unique among all gateways: random for this process, then counted. */
export function newRequestId(): string {
  count++;
  return `${prefix}-${count.toString(36)}`;
}
