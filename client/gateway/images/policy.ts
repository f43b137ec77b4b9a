import { TfsError } from '../../../common/errors.ts';
import type { Rendition } from './rendition.ts';
import type { ImageRequest } from './request.ts';
import type { SigningKeys } from './signature.ts';

/** What a gateway makes for anybody. What is signed it makes in any case. */
export type PolicyMode =
  /** Presets alone. */
  | 'presets'
  /** Presets, and the sizes of a list. */
  | 'sizes'
  /** Nothing that is not signed. */
  | 'signed'
  /** Whatever is asked for: an invitation to fill the cache, for trusted networks. */
  | 'any';

export interface PolicyOptions {
  readonly mode: PolicyMode;
  /** `WxH`, `Wx` or `xH`, pixels after the pixel ratio. */
  readonly sizes: ReadonlySet<string>;
  /** Beside those sizes; what is not asked for is usual. */
  readonly qualities: ReadonlySet<number>;
  /** Originals too are for those alone who have a signature. */
  readonly signedOriginals: boolean;
  readonly keys: SigningKeys;
}

/** @param rendition undefined sides are left out: `310x310`, `310x`, `x310`, `x` */
export const sizeText = ({ width, height }: Pick<Rendition, 'width' | 'height'>): string =>
  `${width ?? ''}x${height ?? ''}`;

/** Decides which requests for renditions, and originals, are answered. */
export class Policy {
  readonly #options: PolicyOptions;

  constructor(options: PolicyOptions) {
    this.#options = options;
  }

  /**
   * @param name 18 characters
   * @throws TfsError FORBIDDEN with the reason
   */
  check(name: string, request: ImageRequest, nowMs: number): void {
    const { signing, rendition } = request;
    const why = this.#whyNot(request);
    // A signature that is wrong is refused even where none is needed: whoever signs wants to know.
    if (signing.size > 0) this.#options.keys.verify({ name, rendition }, signing, nowMs);
    else if (why !== undefined) throw new TfsError('FORBIDDEN', why);
  }

  /** @returns why this is not for everybody */
  #whyNot({ rendition, preset }: ImageRequest): string | undefined {
    const { mode, sizes, qualities, signedOriginals } = this.#options;
    if (rendition === undefined)
      return signedOriginals ? 'originals need a signature: exp, kid and sig' : undefined;
    if (mode === 'any') return undefined;
    if (mode === 'signed') return 'this needs a signature: exp, kid and sig';
    if (preset !== undefined) return undefined;
    if (mode === 'presets')
      return 'this gateway makes presets only: ask for one with p=, or with a signature';
    const { width, height, quality, blur, sharpen, rotate, background } = rendition;
    const size = sizeText(rendition);
    // Of the original's own size there is one: nobody can ask for many.
    const isSize = (width ?? height) === undefined || sizes.has(size);
    if (!isSize) return `this gateway does not make the size ${size} without a signature`;
    if (quality !== undefined && !qualities.has(quality))
      return `this gateway does not use the quality ${quality} without a signature`;
    if (blur > 0 || sharpen > 0 || rotate !== 0 || background !== undefined)
      return 'blur, sharpen, rot and bg need a signature, or a preset';
    return undefined;
  }
}
