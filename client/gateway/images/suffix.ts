import type { Given } from './options.ts';

/**
 * Taobao's way to ask for a rendition, behind the name and the suffix of the original:
 *
 * | behind `NAME.jpg` | is |
 * |---|---|
 * | `_310x310.jpg` | inside 310 x 310 |
 * | `_360x360xz.jpg` | a crop of 360 x 360 |
 * | `_100x100q90.jpg`, `_100x100q90s150.jpg` | the same at quality 90, and sharpened with sigma 1.5 |
 * | `_q75.jpg` | the size it has, at quality 75 |
 * | `_sum.jpg`, `_b.jpg`, `_m.jpg` | presets of these names |
 * | any of these, or nothing, and `_.webp` | the same as WebP |
 *
 * `png`, `webp`, `avif` and `gif` may stand for `jpg`, and `avif` for the last `webp`. The suffix of the original has to end
 * like a file name does, or its own `_100x100.jpg` could not be told from this.
 */
const TAIL =
  /^(?<own>.*?\.[A-Za-z0-9]{2,5})(?:_(?:(?<w>\d{1,5})x(?<h>\d{1,5})(?<crop>xz)?(?:[qQ](?<q>\d{1,3}))?(?:s(?<s>\d{1,4}))?|[qQ](?<only>\d{1,3})|(?<preset>sum|b|m))\.(?<fm>jpg|png|webp|avif|gif))?(?:_\.(?<then>webp|avif))?$/;

export interface SuffixAsk {
  /** What is behind the 18 characters of the original's own name. */
  readonly own: string;
  readonly options: Given;
  readonly preset: string | undefined;
}

/** @param tail all that follows the 18 characters @returns undefined where that asks for no rendition */
export function suffixAsk(tail: string): SuffixAsk | undefined {
  const found = TAIL.exec(tail)?.groups;
  if (found === undefined) return undefined;
  const { own = '', w, h, crop, q, s, only, preset, fm, then } = found;
  const format = then ?? fm;
  if (format === undefined) return undefined;
  const options = new Map<string, string>();
  if (w !== undefined) options.set('w', plain(w));
  if (h !== undefined) options.set('h', plain(h));
  if (crop !== undefined) options.set('fit', 'cover');
  const quality = q ?? only;
  if (quality !== undefined) options.set('q', plain(quality));
  if (s !== undefined) options.set('sharpen', String(Number(s) / 100));
  options.set('fm', format);
  return { own, options, preset };
}

/** Old links have leading zeros now and then. */
const plain = (digits: string): string => String(Number(digits));
