import { hash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { UploadAction } from '../../common/config-uploads.ts';
import { TfsError } from '../../common/errors.ts';
import type { Token } from '../../common/secrets.ts';

const BEARER = /^Bearer +([\x21-\x7e]+) *$/i;

interface Known {
  readonly token: Token;
  readonly digest: Buffer;
}

/** Knows the tokens that allow writing. How long it takes says nothing about them. */
export class Tokens {
  readonly #bearers: readonly Known[];
  readonly #appkeys: readonly Known[];

  constructor(tokens: readonly Token[]) {
    const known = tokens.map((token) => ({ token, digest: digestOf(token.text) }));
    this.#bearers = known.filter(({ token }) => token.kind === 'bearer');
    this.#appkeys = known.filter(({ token }) => token.kind === 'appkey');
  }

  /** Whether there is an appkey among them. */
  get hasAppkeys(): boolean {
    return this.#appkeys.length > 0;
  }

  /**
   * @param appkey as in the path of a TFS REST request, decoded
   * @returns undefined when it is not known here; a bearer token is not
   */
  ofAppkey(appkey: string): Token | undefined {
    return find(this.#appkeys, appkey);
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
    const found = find(this.#bearers, BEARER.exec(text)?.[1] ?? '');
    if (found === undefined) throw new TfsError('UNAUTHORIZED', 'this token is not known here');
    return found;
  }
}

/** Comparing digests, all of one length and all of them, tells neither a token's length nor how much of it matched. */
function find(all: readonly Known[], text: string): Token | undefined {
  const digest = digestOf(text);
  let found: Token | undefined;
  for (const known of all) if (timingSafeEqual(known.digest, digest)) found = known.token;
  return found;
}

const digestOf = (text: string): Buffer => hash('sha256', text, 'buffer');

/** @throws TfsError FORBIDDEN when the policy of the token does not allow it */
export function requireAction(token: Token, action: UploadAction): void {
  if (token.policy.actions.has(action)) return;
  throw new TfsError(
    'FORBIDDEN',
    `the policy "${token.policy.name}" of this token does not allow to ${action}`,
  );
}
