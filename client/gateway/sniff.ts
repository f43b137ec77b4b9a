import { MediaType } from '../../common/wire/messages.ts';
import { svgRootAt } from './sniff-svg.ts';

/** Bytes from the start that are enough to tell every kind but SVG. */
const SNIFF_BYTES_MIN = 2;

/**
 * What a picture is, from its first bytes; never from what the client says, so that a script cannot be served as one.
 * Signatures from the WHATWG MIME Sniffing Standard and, for the ISO and JPEG XL containers, ISO/IEC 14496-12 §4.3,
 * 23008-12 and 18181-2. A damaged picture with a good beginning is a picture.
 *
 * @param head as much of the beginning as is at hand
 * @returns UNKNOWN when it is none of the kinds the store knows
 */
export function sniff(head: Buffer): MediaType {
  if (head.length < SNIFF_BYTES_MIN) return MediaType.UNKNOWN;
  switch (head[0]) {
    case 0xff:
      if (head[1] === 0xd8 && head[2] === 0xff) return MediaType.JPEG;
      return head[1] === 0x0a ? MediaType.JXL : MediaType.UNKNOWN;
    case 0x89:
      return starts(head, '\x89PNG\r\n\x1a\n') ? MediaType.PNG : MediaType.UNKNOWN;
    case 0x47:
      return starts(head, 'GIF87a') || starts(head, 'GIF89a') ? MediaType.GIF : MediaType.UNKNOWN;
    case 0x52:
      return starts(head, 'RIFF') && starts(head, 'WEBP', 8) ? MediaType.WEBP : MediaType.UNKNOWN;
    case 0x42:
      return isBitmap(head) ? MediaType.BMP : MediaType.UNKNOWN;
    case 0x49:
      return starts(head, 'II*\0') || starts(head, 'II+\0') ? MediaType.TIFF : MediaType.UNKNOWN;
    case 0x4d:
      return starts(head, 'MM\0*') || starts(head, 'MM\0+') ? MediaType.TIFF : MediaType.UNKNOWN;
    case 0x00:
      if (starts(head, '\0\0\0\x0cJXL \r\n\x87\n')) return MediaType.JXL;
      if (starts(head, 'ftyp', 4)) return isoBrand(head);
      return isIcon(head) ? MediaType.ICO : MediaType.UNKNOWN;
    default:
      return svgRootAt(head) === undefined ? MediaType.UNKNOWN : MediaType.SVG;
  }
}

function starts(head: Buffer, signature: string, at = 0): boolean {
  if (head.length < at + signature.length) return false;
  for (let i = 0; i < signature.length; i++) if (head[at + i] !== signature.charCodeAt(i)) return false;
  return true;
}

/** "BM" alone begins many a text: the size of the header that follows must be one that exists. */
const BITMAP_HEADER_BYTES = new Set([12, 16, 40, 52, 56, 64, 108, 124]);
const isBitmap = (head: Buffer): boolean =>
  starts(head, 'BM') && head.length >= 18 && BITMAP_HEADER_BYTES.has(head.readUInt32LE(14));

/** An icon directory of at least one entry, whose reserved byte is zero. */
const isIcon = (head: Buffer): boolean =>
  starts(head, '\0\0\x01\0') && head.length >= 22 && head.readUInt16LE(4) > 0 && head[9] === 0;

const AVIF_BRANDS = new Set(['avif', 'avis']);
const HEIC_BRANDS = new Set(['heic', 'heix', 'hevc', 'hevx', 'heim', 'heis', 'hevm', 'hevs', 'mif1', 'msf1']);

/** The box lists a major brand and compatible ones; generic HEIF (mif1) may list AVIF as compatible. */
function isoBrand(head: Buffer): MediaType {
  const end = Math.min(head.length, head.readUInt32BE(0), 256);
  let heic = false;
  for (let at = 8; at + 4 <= end; at += 4) {
    // The word after the major brand is its version.
    if (at === 12) continue;
    const brand = head.toString('latin1', at, at + 4);
    if (AVIF_BRANDS.has(brand)) return MediaType.AVIF;
    heic ||= HEIC_BRANDS.has(brand);
  }
  return heic ? MediaType.HEIC : MediaType.UNKNOWN;
}
