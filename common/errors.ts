/**
 * The one error type of the system and its closed set of codes. The same error crosses the wire, an HTTP response
 * and a terminal; {@link ERROR_TABLE} says what each code means in all three places.
 */

interface ErrorRow {
  /** Number on the wire: never re-used, never changed. */
  readonly wire: number;
  readonly http: number;
  /** Whether the same request may succeed a little later or elsewhere, with nothing changed by the caller. */
  readonly retryable: boolean;
}

export const ERROR_TABLE = {
  INTERNAL: { wire: 1, http: 500, retryable: false },
  BAD_REQUEST: { wire: 2, http: 400, retryable: false },
  BAD_NAME: { wire: 3, http: 400, retryable: false },
  EMPTY_BODY: { wire: 4, http: 400, retryable: false },
  BODY_CUT: { wire: 5, http: 400, retryable: false },
  DIGEST_MISMATCH: { wire: 6, http: 400, retryable: false },
  BAD_MULTIPART: { wire: 7, http: 400, retryable: false },
  UNAUTHORIZED: { wire: 8, http: 401, retryable: false },
  FORBIDDEN: { wire: 9, http: 403, retryable: false },
  NOT_FOUND: { wire: 10, http: 404, retryable: false },
  METHOD_NOT_ALLOWED: { wire: 11, http: 405, retryable: false },
  BODY_TIMEOUT: { wire: 12, http: 408, retryable: true },
  CONFLICT: { wire: 13, http: 409, retryable: false },
  GONE: { wire: 14, http: 410, retryable: false },
  TOO_LARGE: { wire: 15, http: 413, retryable: false },
  TOO_MANY_PARTS: { wire: 16, http: 413, retryable: false },
  URL_TOO_LONG: { wire: 17, http: 414, retryable: false },
  UNSUPPORTED_MEDIA: { wire: 18, http: 415, retryable: false },
  RANGE_NOT_SATISFIABLE: { wire: 19, http: 416, retryable: false },
  /** No good copy of stored bytes was found; the picture is quarantined, not missing. */
  CORRUPT: { wire: 20, http: 500, retryable: false },
  /** This replica or NameServer cannot tell yet whether the name exists. Never a 404. */
  DONT_KNOW: { wire: 21, http: 503, retryable: true },
  /** Nothing that could serve the request is reachable. */
  UNAVAILABLE: { wire: 22, http: 503, retryable: true },
  OVERLOADED: { wire: 23, http: 503, retryable: true },
  /** This DataServer cannot store it now; another one may. Details: `avoid`, server ids. */
  RETRY_ELSEWHERE: { wire: 24, http: 503, retryable: true },
  /** The write session is over: fenced, sealed, or a member failed. */
  SESSION_ENDED: { wire: 25, http: 503, retryable: true },
  /** The sender's epoch is below what this server promised. */
  STALE_EPOCH: { wire: 26, http: 503, retryable: true },
  NOT_LEADER: { wire: 27, http: 503, retryable: true },
  /** The NameServer has not heard of enough servers to decide. */
  SAFE_MODE: { wire: 28, http: 503, retryable: true },
  /** Fewer healthy failure domains than `minWrite`. */
  NO_WRITE_SET: { wire: 29, http: 503, retryable: true },
  /** The disk failed a write; this server only reads until it is looked at. */
  READ_ONLY: { wire: 30, http: 503, retryable: true },
  DISK_FULL: { wire: 31, http: 503, retryable: true },
  /** The disk answered with an error. */
  IO: { wire: 32, http: 503, retryable: true },
  DEADLINE: { wire: 33, http: 503, retryable: true },
  CONNECTION_LOST: { wire: 34, http: 503, retryable: true },
  /** A frame or message that does not parse, or comes from the wrong role. */
  PROTOCOL: { wire: 35, http: 500, retryable: false },
  /** A server refuses to start; exit code 78 and no restart. */
  REFUSED: { wire: 36, http: 500, retryable: false },
  CONFIG: { wire: 37, http: 500, retryable: false },
  CLOSED: { wire: 38, http: 503, retryable: true },
  /** The DataServer must register again: the NameServer does not know this incarnation. */
  UNREGISTERED: { wire: 39, http: 503, retryable: true },
  /** The ops of this replica do not continue the sender's; details: `seq`, the last one held. */
  OPS_GAP: { wire: 40, http: 503, retryable: true },
  /** The stored bytes are no picture that can be decoded, or only half of one. */
  UNDECODABLE: { wire: 41, http: 422, retryable: false },
  /** The stored picture is too large for renditions to be made of it. */
  TOO_MANY_PIXELS: { wire: 42, http: 422, retryable: false },
  NOT_ACCEPTABLE: { wire: 43, http: 406, retryable: false },
  /** More pictures at once than the policy of the token allows. */
  RATE_LIMITED: { wire: 44, http: 429, retryable: true },
  /** More bytes in a day or month than the policy of the token allows. */
  QUOTA_EXCEEDED: { wire: 45, http: 429, retryable: false },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

const CODE_BY_WIRE = new Map<number, ErrorCode>(
  (Object.keys(ERROR_TABLE) as ErrorCode[]).map((code) => [ERROR_TABLE[code].wire, code]),
);

export const codeFromWire = (wire: number): ErrorCode => CODE_BY_WIRE.get(wire) ?? 'INTERNAL';

/** Small facts for programs; never a secret, never a body. Crosses the wire as JSON. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | readonly number[]>>;

export interface TfsErrorOptions {
  readonly cause?: unknown;
  readonly details?: ErrorDetails;
  /** When a retry is likely to succeed. */
  readonly retryAfterMs?: number;
}

/** {@link message} is written for the person who has to act on it: what happened, and what to do. */
export class TfsError extends Error {
  override readonly name = 'TfsError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: TfsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
    this.retryAfterMs = options.retryAfterMs;
  }

  get httpStatus(): number {
    return ERROR_TABLE[this.code].http;
  }

  get retryable(): boolean {
    return ERROR_TABLE[this.code].retryable;
  }
}

export function isTfsError(error: unknown, code?: ErrorCode): error is TfsError {
  return error instanceof TfsError && (code === undefined || error.code === code);
}

/** Wraps whatever was thrown; a TfsError passes unchanged. */
export function toTfsError(error: unknown, code: ErrorCode = 'INTERNAL', context = ''): TfsError {
  if (error instanceof TfsError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new TfsError(code, context ? `${context}: ${message}` : message, { cause: error });
}

/** A bug, not an input: stops what it is called in, in production too. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
