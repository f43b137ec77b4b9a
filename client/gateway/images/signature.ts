import { createHmac, timingSafeEqual } from 'node:crypto';
import { TfsError } from '../../../common/errors.ts';
import type { ImageKey } from '../../../common/image-keys.ts';
import { canonicalText, type Rendition } from './rendition.ts';

/** What a signature is about: exactly one rendition of one picture, until a time. */
export interface Signed {
  /** 18 characters. */
  readonly name: string;
  /** Undefined for the original. */
  readonly rendition: Rendition | undefined;
  /** Seconds since 1970. */
  readonly expires: number;
}

const EXPIRES = /^[1-9]\d{0,11}$/;
const SIGNATURE_BYTES = 32;
const VERSION = 'tfs-image-1';

/** Signs URLs, and knows those that were signed. Which way a rendition is asked for makes no difference. */
export class SigningKeys {
  readonly #keys: ReadonlyMap<string, Buffer>;
  readonly #newest: ImageKey | undefined;

  /** @param keys the one to sign with first */
  constructor(keys: readonly ImageKey[]) {
    this.#keys = new Map(keys.map(({ id, secret }) => [id, secret]));
    this.#newest = keys[0];
  }

  /** @returns parameters for the query of the URL @throws TfsError CONFIG without a key */
  sign(signed: Signed): Record<'exp' | 'kid' | 'sig', string> {
    if (this.#newest === undefined) throw new TfsError('CONFIG', 'there is no key to sign with');
    const { id, secret } = this.#newest;
    return { exp: String(signed.expires), kid: id, sig: mac(secret, signed).toString('base64url') };
  }

  /**
   * @param given `exp`, `kid` and `sig` as they came
   * @param nowMs wall clock
   * @throws TfsError FORBIDDEN with the reason; how long it takes says nothing about the right signature
   */
  verify(
    { name, rendition }: Pick<Signed, 'name' | 'rendition'>,
    given: ReadonlyMap<string, string>,
    nowMs: number,
  ): void {
    const [exp = '', kid = '', sig = ''] = ['exp', 'kid', 'sig'].map((key) => given.get(key));
    if (sig === '') throw forbidden('this needs a signature: exp, kid and sig');
    if (!EXPIRES.test(exp)) throw forbidden('exp is no time: seconds since 1970');
    const expires = Number(exp);
    const secret = this.#keys.get(kid);
    const shown = Buffer.from(sig, 'base64url');
    const right = mac(secret ?? Buffer.alloc(SIGNATURE_BYTES), { name, rendition, expires });
    // The same bytes have other spellings in base64: one is enough.
    const isSame =
      shown.length === SIGNATURE_BYTES &&
      timingSafeEqual(shown, right) &&
      shown.toString('base64url') === sig;
    if (!isSame || secret === undefined) throw forbidden('the signature is not one of this request');
    if (nowMs >= expires * 1000) throw forbidden('the signature has expired');
  }
}

/** Each part ends with a line feed, which none of them can have: no two requests are one text. */
function mac(secret: Buffer, { name, rendition, expires }: Signed): Buffer {
  const asked = rendition === undefined ? 'original' : `rendition ${canonicalText(rendition)}`;
  return createHmac('sha256', secret).update(`${VERSION}\n${name}\n${asked}\n${expires}\n`).digest();
}

const forbidden = (message: string): TfsError => new TfsError('FORBIDDEN', message);
