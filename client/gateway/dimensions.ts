import { imageSize } from 'image-size';
import { MediaType } from '../../common/wire/messages.ts';

export interface Dimensions {
  readonly width: number | null;
  readonly height: number | null;
}

const UNTOLD: Dimensions = { width: null, height: null };

/** Headers before the frame of a JPEG (thumbnails, colour profiles) rarely pass this. */
export const DIMENSION_BYTES_MAX = 256 * 1024;

/**
 * Width and height in pixels as the header says, before any rotation; nothing is decoded. Both null where the header
 * does not tell, as in a damaged one or an SVG without a size.
 *
 * @param head the beginning of the picture, up to {@link DIMENSION_BYTES_MAX}; all of it where it is shorter
 */
export function dimensionsOf(head: Buffer, mediaType: MediaType): Dimensions {
  if (mediaType === MediaType.UNKNOWN) return UNTOLD;
  try {
    const { width, height } = imageSize(head);
    return isPixels(width) && isPixels(height) ? { width, height } : UNTOLD;
  } catch {
    // Whatever is wrong with the header: the picture is stored as it is, and says nothing about its size.
    return UNTOLD;
  }
}

const isPixels = (n: number): boolean => Number.isInteger(n) && n > 0;
