import { hash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import type { Token } from '../../common/secrets.ts';

const BEARER = /^Bearer +([\x21-\x7e]+) *$/i;

/** Knows the tokens that allow writing. How long it takes says nothing about them. */
export class Tokens {
  /** Comparing digests, all of one length and all of them, tells neither a token's length nor how much of it matched. */
  readonly #known: readonly { readonly token: Token; readonly digest: Buffer }[];

  constructor(tokens: readonly Token[]) {
    this.#known = tokens.map((token) => ({ token, digest: digestOf(token.text) }));
  }

  /** @throws TfsError UNAUTHORIZED without a token or with a wrong one */
  require(headers: IncomingHttpHeaders): Token {
    const token = this.optional(headers);
    if (token === undefined)
      throw new TfsError('UNAUTHORIZED', 'this needs the header "Authorization: Bearer TOKEN"');
    return token;
  }

  /**
   * @returns undefined when the request carries none
   * @throws TfsError UNAUTHORIZED with a wrong one
   */
  optional(headers: IncomingHttpHeaders): Token | undefined {
    const text = headers.authorization;
    if (text === undefined) return undefined;
    const digest = digestOf(BEARER.exec(text)?.[1] ?? '');
    let found: Token | undefined;
    for (const known of this.#known) if (timingSafeEqual(known.digest, digest)) found = known.token;
    if (found === undefined) throw new TfsError('UNAUTHORIZED', 'this token is not known here');
    return found;
  }
}

const digestOf = (text: string): Buffer => hash('sha256', text, 'buffer');
