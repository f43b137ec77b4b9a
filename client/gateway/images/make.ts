import readExif from 'exif-reader';
import sharp, { type Metadata, type OverlayOptions, type ResizeOptions, type Sharp } from 'sharp';
import { type ErrorCode, TfsError } from '../../../common/errors.ts';
import type { Format, Rendition } from './rendition.ts';

/** Of one picture, so that none takes all that there is. */
export interface MakeLimits {
  /** Of one frame of the original. */
  readonly pixelsMax: number;
  /** Frames of an animation that are kept; the pixels of all of them together are bounded by four times `pixelsMax`. */
  readonly framesMax: number;
  /** Of the rendition. */
  readonly bytesMax: number;
  /** Keep the copyright and the artist that EXIF names. */
  readonly keepCopyright: boolean;
}

export interface Made {
  readonly bytes: Buffer;
  readonly format: Format;
  readonly width: number;
  /** Of one frame. */
  readonly height: number;
}

/** What is made for `fm` absent, by what sharp calls the format of the original. */
const OWN: Readonly<Record<string, Format>> = {
  jpeg: 'jpg',
  png: 'png',
  webp: 'webp',
  gif: 'gif',
  heif: 'avif',
};
const ANIMATED: ReadonlySet<Format> = new Set(['gif', 'webp']);
const WITHOUT_ALPHA: ReadonlySet<Format> = new Set(['jpg']);
const ANIMATION_FACTOR = 4;
/** Where nothing else is asked for. */
const QUALITY: Readonly<Record<Format, number>> = { jpg: 80, webp: 80, avif: 55, png: 100, gif: 100 };
/** Of 0..9: higher takes several times as long for a few per cent. */
const AVIF_EFFORT = 3;
const WHITE = { r: 255, g: 255, b: 255, alpha: 1 };
const CLEAR = { r: 255, g: 255, b: 255, alpha: 0 };

/** Nothing is decoded but with these loaders: what others can read nobody has to send. */
const LOADERS = ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Heif', 'Tiff'];

/** To be called once in a process that decodes. Its memory is for one picture at a time. */
export function prepareDecoders(): void {
  sharp.cache(false);
  sharp.concurrency(1);
  sharp.block({ operation: ['VipsForeignLoad'] });
  sharp.unblock({ operation: LOADERS.map((name) => `VipsForeignLoad${name}`) });
}

/**
 * Makes a rendition: oriented as EXIF says, in sRGB, without metadata. The same original and request give the same bytes,
 * in every process of this version.
 *
 * @param rendition its format is settled: not `auto`
 * @throws TfsError UNDECODABLE for what is no picture, or half of one; TOO_MANY_PIXELS; TOO_LARGE for a rendition
 */
export async function make(original: Uint8Array, rendition: Rendition, limits: MakeLimits): Promise<Made> {
  const facts = await whileDecoding('the header', () => openOriginal(original, limits).metadata());
  checkSize(facts, limits);
  checkRendition(rendition, facts, limits);
  const format = formatOf(rendition, facts);
  const isAnimated = ANIMATED.has(format) && (facts.pages ?? 1) > 1;
  const frames = isAnimated ? framesOf(facts, limits) : 1;
  let image = shaped(openOriginal(original, limits, frames), rendition, facts, format);
  if (limits.keepCopyright) image = withRights(image, facts.exif);
  const { data, info } = await whileDecoding('the picture', () =>
    encoded(image, format, rendition.quality ?? QUALITY[format]).toBuffer({ resolveWithObject: true }),
  );
  if (data.length > limits.bytesMax)
    throw new TfsError(
      'TOO_LARGE',
      `this rendition would have ${data.length} bytes, more than ${limits.bytesMax}`,
    );
  return { bytes: data, format, width: info.width, height: info.pageHeight ?? info.height };
}

/** The two fields in which EXIF names whose picture it is, and nothing else of it. */
function withRights(image: Sharp, exif: Buffer | undefined): Sharp {
  const { Copyright, Artist } = rightsIn(exif);
  if (Copyright === undefined && Artist === undefined) return image;
  return image.withExif({
    IFD0: { ...(Copyright === undefined ? {} : { Copyright }), ...(Artist === undefined ? {} : { Artist }) },
  });
}

const RIGHTS_CHARS_MAX = 1_000;

function rightsIn(exif: Buffer | undefined): { readonly Copyright?: string; readonly Artist?: string } {
  if (exif === undefined) return {};
  try {
    const { Image } = readExif(exif);
    const text = (value: unknown) => {
      const trimmed = typeof value === 'string' ? value.trim().slice(0, RIGHTS_CHARS_MAX) : '';
      return trimmed === '' ? undefined : trimmed;
    };
    const [Copyright, Artist] = [text(Image?.Copyright), text(Image?.Artist)];
    return { ...(Copyright === undefined ? {} : { Copyright }), ...(Artist === undefined ? {} : { Artist }) };
  } catch {
    // Damaged EXIF names nobody; the picture is right all the same.
    return {};
  }
}

/** @param frames of an animation */
export const openOriginal = (original: Uint8Array, { pixelsMax }: MakeLimits, frames = 1): Sharp =>
  sharp(original, {
    pages: frames,
    limitInputPixels: pixelsMax * ANIMATION_FACTOR,
    // A picture that ends early is no picture: half of it would be cached for a year.
    failOn: 'error',
    sequentialRead: true,
  });

function checkSize({ width, height, pageHeight }: Metadata, { pixelsMax }: MakeLimits): void {
  const pixels = width * (pageHeight ?? height);
  if (pixels > pixelsMax)
    throw new TfsError(
      'TOO_MANY_PIXELS',
      `the picture has ${megapixels(pixels)} megapixels, more than the ${megapixels(pixelsMax)} of which renditions are made`,
    );
}

/** Of each frame of what is to be made: enlarging, and filling up a box, make much of little. */
function checkRendition(rendition: Rendition, facts: Metadata, { pixelsMax }: MakeLimits): void {
  const { width } = facts;
  const height = facts.pageHeight ?? facts.height;
  // EXIF, or `rot`, may have sides change places: whichever way makes more.
  const pixels = Math.max(pixelsOf(rendition, width, height), pixelsOf(rendition, height, width));
  if (pixels > pixelsMax)
    throw new TfsError(
      'TOO_MANY_PIXELS',
      `this rendition would have ${megapixels(pixels)} megapixels, more than the ${megapixels(pixelsMax)} that are made`,
    );
}

/** @param across,down the original's sides */
function pixelsOf({ width, height, fit, enlarge }: Rendition, across: number, down: number): number {
  const isBox = width !== undefined && height !== undefined;
  if (isBox && fit === 'contain') return width * height;
  if (isBox && (fit === 'cover' || fit === 'fill'))
    return enlarge ? width * height : Math.min(width, across) * Math.min(height, down);
  const scales = [
    width === undefined ? undefined : width / across,
    height === undefined ? undefined : height / down,
  ];
  const given = scales.filter((scale) => scale !== undefined);
  const wanted = given.length === 0 ? 1 : fit === 'outside' ? Math.max(...given) : Math.min(...given);
  const scale = enlarge ? wanted : Math.min(1, wanted);
  return across * down * scale * scale;
}

const megapixels = (pixels: number): string => (pixels / 1e6).toFixed(1).replace(/\.0$/, '');

function framesOf({ pages = 1, width, height, pageHeight }: Metadata, limits: MakeLimits): number {
  const pixels = width * (pageHeight ?? height);
  const most = Math.floor((limits.pixelsMax * ANIMATION_FACTOR) / pixels);
  return Math.max(1, Math.min(pages, limits.framesMax, most));
}

function formatOf({ format }: Rendition, facts: Metadata): Format {
  if (format !== undefined && format !== 'auto') return format;
  const own = facts.format === 'heif' && facts.compression !== 'av1' ? undefined : OWN[facts.format];
  // What browsers do not show becomes what they do.
  return own ?? (facts.hasAlpha ? 'png' : 'jpg');
}

function shaped(input: Sharp, rendition: Rendition, { hasAlpha }: Metadata, format: Format): Sharp {
  const { width, height, rotate, blur, sharpen, background } = rendition;
  let image = input.autoOrient();
  if (rotate !== 0) image = image.rotate(rotate);
  image = image.toColourspace('srgb');
  const below = background === undefined ? undefined : `#${background}`;
  // A background that is not opaque itself, in a format that can show it.
  const isVeiled = background?.length === 8 && !WITHOUT_ALPHA.has(format);
  if (width !== undefined || height !== undefined)
    image = image.resize({
      ...resizing(rendition),
      background: isVeiled ? CLEAR : (below ?? (hasAlpha ? CLEAR : WHITE)),
    });
  if (blur > 0) image = image.blur(blur);
  if (sharpen > 0) image = image.sharpen({ sigma: sharpen });
  if (WITHOUT_ALPHA.has(format) || background?.length === 6)
    image = image.flatten({ background: below ?? WHITE });
  if (isVeiled) image = image.composite([veil(`#${background}`)]);
  return image;
}

/** One colour below everything, in all frames. */
const veil = (background: string): OverlayOptions => ({
  input: { create: { width: 1, height: 1, channels: 4, background } },
  tile: true,
  blend: 'dest-over',
});

function resizing({ width, height, fit, gravity, enlarge }: Rendition): ResizeOptions {
  return {
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
    fit,
    position: gravity,
    withoutEnlargement: !enlarge,
  };
}

function encoded(image: Sharp, format: Format, quality: number): Sharp {
  switch (format) {
    case 'jpg':
      return image.jpeg({ quality, progressive: true });
    case 'png':
      // 100 keeps every pixel; below that a palette is looked for.
      return quality < 100 ? image.png({ quality, palette: true }) : image.png();
    case 'webp':
      return image.webp({ quality });
    case 'avif':
      return image.avif({ quality, effort: AVIF_EFFORT });
    case 'gif':
      return image.gif();
  }
}

/**
 * libvips says what is wrong in words of its own, for people who read logs.
 * @throws TfsError UNDECODABLE or TOO_MANY_PIXELS for whatever it throws
 */
export async function whileDecoding<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const message = String((cause as Error).message)
      .split('\n')[0]!
      .slice(0, 200);
    const code: ErrorCode = /pixel limit|exceeds/i.test(message) ? 'TOO_MANY_PIXELS' : 'UNDECODABLE';
    throw new TfsError(code, `${what} cannot be decoded`, { cause, details: { why: message } });
  }
}
