import type { Metadata, Sharp } from 'sharp';
import { TfsError } from '../../../common/errors.ts';
import { isLosslessWebp } from '../ingest/webp.ts';
import { type Made, type MakeLimits, openOriginal, whileDecoding } from './make.ts';
import type { Format } from './rendition.ts';

/** High enough that nobody sees a second encoding. */
const QUALITY = 95;
const FORMATS: Readonly<Record<string, Format>> = { jpeg: 'jpg', png: 'png', webp: 'webp' };

/**
 * The same picture, in the same format, with its pixels turned as EXIF says and with all of its metadata, which then says that
 * it is upright. JPEG and lossy WebP are encoded anew for that; PNG and lossless WebP lose nothing.
 *
 * @throws TfsError UNDECODABLE, TOO_MANY_PIXELS; UNSUPPORTED_MEDIA for animations and other formats
 */
export async function makeUpright(original: Uint8Array, limits: MakeLimits): Promise<Made> {
  const facts = await whileDecoding('the header', () => openOriginal(original, limits).metadata());
  const format = FORMATS[facts.format];
  if (format === undefined || (facts.pages ?? 1) > 1)
    throw new TfsError('UNSUPPORTED_MEDIA', 'only JPEG, PNG and WebP without animation are turned upright');
  if (facts.width * facts.height > limits.pixelsMax)
    throw new TfsError(
      'TOO_MANY_PIXELS',
      `the picture has more than the ${Math.round(limits.pixelsMax / 1e6)} megapixels that are turned upright`,
    );
  const image = inOwnColours(openOriginal(original, limits).autoOrient().keepMetadata(), facts);
  const { data, info } = await whileDecoding('the picture', () =>
    encoded(image, format, facts, original).toBuffer({ resolveWithObject: true }),
  );
  return { bytes: data, format, width: info.width, height: info.height };
}

/** Without this everything would become sRGB of 8 bits. */
function inOwnColours(image: Sharp, { space }: Metadata): Sharp {
  return space === 'srgb' ? image : image.pipelineColourspace(space).toColourspace(space);
}

function encoded(image: Sharp, format: Format, { chromaSubsampling }: Metadata, original: Uint8Array): Sharp {
  if (format === 'png') return image.png();
  if (format === 'webp') {
    const bytes = Buffer.from(original.buffer, original.byteOffset, original.byteLength);
    return isLosslessWebp(bytes) ? image.webp({ lossless: true }) : image.webp({ quality: QUALITY });
  }
  return image.jpeg({
    quality: QUALITY,
    chromaSubsampling: chromaSubsampling === '4:2:0' ? '4:2:0' : '4:4:4',
  });
}
