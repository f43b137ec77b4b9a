import { codeFromWire, ERROR_TABLE, type ErrorDetails, TfsError } from '../errors.ts';

const MESSAGE_CHARS_MAX = 2000;
const DETAILS_CHARS_MAX = 16_000;

/** The header of an error frame: JSON {code: wire number, message, details?, retryAfterMs?}. */
export function encodeError(error: TfsError): Buffer {
  const { code, retryAfterMs } = error;
  const message = error.message.slice(0, MESSAGE_CHARS_MAX);
  const facts = JSON.stringify(error.details ?? {});
  const details = facts.length > 2 && facts.length <= DETAILS_CHARS_MAX ? error.details : undefined;
  return Buffer.from(
    JSON.stringify({ code: ERROR_TABLE[code].wire, message, details, retryAfterMs }),
    'utf8',
  );
}

/** @returns undefined when the header is not an error; a code of a newer release reads as INTERNAL */
export function decodeError(header: Buffer): TfsError | undefined {
  let value: unknown;
  try {
    value = JSON.parse(header.toString('utf8'));
  } catch {
    // Not JSON: the caller closes the connection, which is what a malformed frame means.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { code, message, details, retryAfterMs } = value as Record<string, unknown>;
  if (typeof code !== 'number' || typeof message !== 'string') return undefined;
  return new TfsError(codeFromWire(code), message, {
    ...(isDetails(details) ? { details } : {}),
    ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
  });
}

function isDetails(value: unknown): value is ErrorDetails {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every(
    (v) =>
      typeof v === 'string' ||
      typeof v === 'number' ||
      typeof v === 'boolean' ||
      (Array.isArray(v) && v.every((n) => typeof n === 'number')),
  );
}
