import { imageSize } from 'image-size';
import { MediaType } from '../../common/wire/messages.ts';
import { svgRootAt } from './sniff-svg.ts';

export interface Dimensions {
  readonly width: number | null;
  readonly height: number | null;
}

const UNTOLD: Dimensions = { width: null, height: null };

/** Nearly every header is complete within this. */
export const HEADER_BYTES_TYPICAL = 64 * 1024;
/** The start tag of an SVG; its size is looked for with regular expressions, which must not get megabytes. */
const SVG_TAG_BYTES_MAX = 8 * 1024;

/**
 * Width and height in pixels as the header says, before any rotation; nothing is decoded. Both null where the header
 * does not tell, as in a damaged one or an SVG without a size.
 *
 * @param head the beginning of the picture. A JPEG with large colour profiles tells its size behind them and a TIFF at
 *   its end: where {@link HEADER_BYTES_TYPICAL} do not tell, the whole picture may.
 */
export function dimensionsOf(head: Buffer, mediaType: MediaType): Dimensions {
  const input = mediaType === MediaType.SVG ? svgTag(head) : head;
  if (mediaType === MediaType.UNKNOWN || input === undefined) return UNTOLD;
  try {
    const { width, height } = imageSize(input);
    return isPixels(width) && isPixels(height) ? { width, height } : UNTOLD;
  } catch {
    // Whatever is wrong with the header: the picture is stored as it is, and says nothing about its size.
    return UNTOLD;
  }
}

function svgTag(head: Buffer): Buffer | undefined {
  const at = svgRootAt(head);
  return at === undefined ? undefined : head.subarray(at, at + SVG_TAG_BYTES_MAX);
}

const isPixels = (n: number): boolean => Number.isInteger(n) && n > 0;
