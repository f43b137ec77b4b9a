import { createHash, type Hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { TfsError } from '../../common/errors.ts';

interface Expected {
  readonly header: string;
  readonly hash: Hash;
  readonly value: Buffer;
}

/** Names in Digest (RFC 3230) and Content-Digest or Repr-Digest (RFC 9530), with their length in bytes. */
const ALGORITHMS: ReadonlyMap<string, { readonly node: string; readonly bytes: number }> = new Map([
  ['md5', { node: 'md5', bytes: 16 }],
  ['sha', { node: 'sha1', bytes: 20 }],
  ['sha-256', { node: 'sha256', bytes: 32 }],
  ['sha-512', { node: 'sha512', bytes: 64 }],
]);

/** The digests that a client sent along with a body, computed while it arrives and compared at its end. */
export class BodyDigests {
  readonly #expected: readonly Expected[];

  private constructor(expected: readonly Expected[]) {
    this.#expected = expected;
  }

  /**
   * @returns undefined when the request carries none that this gateway knows
   * @throws TfsError BAD_REQUEST when one does not parse
   */
  static of(headers: IncomingHttpHeaders): BodyDigests | undefined {
    const expected: Expected[] = [];
    const md5 = headers['content-md5'];
    if (typeof md5 === 'string') add(expected, 'Content-MD5', 'md5', md5.trim());
    const digest = headers['digest'];
    if (typeof digest === 'string')
      for (const [name, value] of items(digest)) add(expected, 'Digest', name, value);
    for (const header of ['content-digest', 'repr-digest']) {
      const text = headers[header];
      if (typeof text !== 'string') continue;
      for (const [name, value] of items(text)) add(expected, header, name, unwrap(header, value));
    }
    return expected.length === 0 ? undefined : new BodyDigests(expected);
  }

  update(piece: Buffer): void {
    for (const { hash } of this.#expected) hash.update(piece);
  }

  /** @throws TfsError DIGEST_MISMATCH */
  verify(): void {
    for (const { header, hash, value } of this.#expected) {
      const actual = hash.digest();
      if (!actual.equals(value))
        throw new TfsError(
          'DIGEST_MISMATCH',
          `the body is not what ${header} says: it is ${actual.toString('base64')}; send it again`,
        );
    }
  }
}

function* items(text: string): Generator<readonly [name: string, value: string]> {
  for (const item of text.split(',')) {
    const equals = item.indexOf('=');
    if (equals > 0) yield [item.slice(0, equals).trim().toLowerCase(), item.slice(equals + 1).trim()];
  }
}

/** A byte sequence of structured fields stands between colons (RFC 8941 §3.3.5). */
function unwrap(header: string, value: string): string {
  if (value.length >= 2 && value.startsWith(':') && value.endsWith(':')) return value.slice(1, -1);
  throw malformed(header);
}

function add(expected: Expected[], header: string, name: string, base64: string): void {
  const algorithm = ALGORITHMS.get(name);
  if (algorithm === undefined) return;
  const value = Buffer.from(base64, 'base64');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || value.length !== algorithm.bytes) throw malformed(header);
  expected.push({ header, hash: createHash(algorithm.node), value });
}

const malformed = (header: string): TfsError =>
  new TfsError('BAD_REQUEST', `the ${header} header is not a digest in base64`);
