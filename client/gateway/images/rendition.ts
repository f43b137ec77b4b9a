/** A picture in a size, shape and format nobody stored: what may be asked for, and one spelling for each such request. */

export const FITS = ['inside', 'outside', 'cover', 'contain', 'fill'] as const;
/** As CSS `object-fit`; `inside` and `outside` keep the whole picture and its shape. */
export type Fit = (typeof FITS)[number];

export const GRAVITIES = [
  'center',
  'north',
  'northeast',
  'east',
  'southeast',
  'south',
  'southwest',
  'west',
  'northwest',
  'attention',
  'entropy',
] as const;
/** Which part stays when a picture is cropped: a side, or what is worth looking at. */
export type Gravity = (typeof GRAVITIES)[number];

export const FORMATS = ['jpg', 'png', 'webp', 'avif', 'gif'] as const;
export type Format = (typeof FORMATS)[number];

export const ROTATIONS = [0, 90, 180, 270] as const;

/** Sides of a rendition, after the pixel ratio: pixels. */
export const SIDE_MAX = 16_384;

export interface Rendition {
  /** Pixels, the pixel ratio included; undefined: what the height makes of it. */
  readonly width: number | undefined;
  readonly height: number | undefined;
  /** Of consequence only where both sides are given. */
  readonly fit: Fit;
  /** Of consequence for `cover` alone. */
  readonly gravity: Gravity;
  /** Whether a picture that is smaller than that is made larger. */
  readonly enlarge: boolean;
  /** `auto`: the best that the client takes; undefined: as it is stored, as far as browsers show that. */
  readonly format: Format | 'auto' | undefined;
  /** 1..100; undefined: what is usual for the format. */
  readonly quality: number | undefined;
  /** Sigma of a Gaussian, pixels of the rendition; 0 for none. */
  readonly blur: number;
  /** Sigma of an unsharp mask, pixels of the rendition; 0 for none. */
  readonly sharpen: number;
  /** Degrees clockwise, on top of what EXIF says. */
  readonly rotate: (typeof ROTATIONS)[number];
  /** `rrggbb` or `rrggbbaa`, below what is transparent and around what is contained; undefined: white where there is no alpha. */
  readonly background: string | undefined;
}

export const PLAIN: Rendition = {
  width: undefined,
  height: undefined,
  fit: 'inside',
  gravity: 'center',
  enlarge: false,
  format: undefined,
  quality: undefined,
  blur: 0,
  sharpen: 0,
  rotate: 0,
  background: undefined,
};

/**
 * The one spelling of a request: equal where the same bytes are asked for, different where they are not. What makes no
 * difference is left out. Only letters, digits, `.`, `-` and `_`, so it may be a part of a cache key, a file name or a header.
 */
export function canonicalText(rendition: Rendition): string {
  const { width, height, fit, gravity, enlarge, format, quality, blur, sharpen, rotate, background } =
    rendition;
  const isBoth = width !== undefined && height !== undefined;
  const isSized = width !== undefined || height !== undefined;
  const parts: string[] = [];
  if (width !== undefined) parts.push(`w${width}`);
  if (height !== undefined) parts.push(`h${height}`);
  if (isBoth && fit !== 'inside') parts.push(fit);
  if (isBoth && fit === 'cover' && gravity !== 'center') parts.push(`g-${gravity}`);
  if (isSized && enlarge) parts.push('enlarge');
  if (rotate !== 0) parts.push(`rot${rotate}`);
  if (blur > 0) parts.push(`blur${blur}`);
  if (sharpen > 0) parts.push(`sharp${sharpen}`);
  if (background !== undefined) parts.push(`bg${background}`);
  if (quality !== undefined) parts.push(`q${quality}`);
  if (format !== undefined) parts.push(format);
  return parts.join('_');
}
