import { TfsError } from '../../../common/errors.ts';
import { MediaType } from '../../../common/wire/messages.ts';
import { gifWithoutLocation } from './gif.ts';
import { heifWithoutLocation } from './heif.ts';
import { jpegWithoutLocation, orientationOfJpeg } from './jpeg.ts';
import { orientationOfPng, pngWithoutLocation } from './png.ts';
import { orientationOfWebp, webpWithoutLocation } from './webp.ts';

const STRIPPERS: Readonly<Partial<Record<MediaType, (body: Buffer) => Buffer>>> = {
  [MediaType.JPEG]: jpegWithoutLocation,
  [MediaType.PNG]: pngWithoutLocation,
  [MediaType.WEBP]: webpWithoutLocation,
  [MediaType.GIF]: gifWithoutLocation,
  [MediaType.AVIF]: heifWithoutLocation,
  [MediaType.HEIC]: heifWithoutLocation,
  // Has no place for it.
  [MediaType.BMP]: (body) => body,
};

const ORIENTATIONS: Readonly<Partial<Record<MediaType, (body: Buffer) => number | undefined>>> = {
  [MediaType.JPEG]: orientationOfJpeg,
  [MediaType.PNG]: orientationOfPng,
  [MediaType.WEBP]: orientationOfWebp,
};

/**
 * Takes out of a picture what could tell where it was made: GPS, what only the maker of the camera can read, other places in
 * XMP and IPTC, pictures within or behind the picture. Its pixels, colours and orientation stay, byte for byte.
 *
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNSUPPORTED_MEDIA for kinds of which this is not known, UNDECODABLE for what is not well-formed
 */
export function withoutLocation(body: Buffer, mediaType: MediaType): Buffer {
  const strip = STRIPPERS[mediaType];
  if (strip === undefined)
    throw new TfsError(
      'UNSUPPORTED_MEDIA',
      'location data must be taken out of pictures of this token, which is possible for JPEG, PNG, WebP, GIF, AVIF, HEIC and BMP only',
    );
  return strip(body);
}

/** @returns 2..8 as in EXIF when the picture is to be turned or mirrored; undefined when it is upright, or its kind has none */
export function turnOf(body: Buffer, mediaType: MediaType): number | undefined {
  const orientation = ORIENTATIONS[mediaType]?.(body);
  return orientation === undefined || orientation === 1 ? undefined : orientation;
}
