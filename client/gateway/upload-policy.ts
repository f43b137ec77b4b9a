import type { UploadPolicy, UploadType } from '../../common/config-uploads.ts';
import { TfsError } from '../../common/errors.ts';
import { MediaType } from '../../common/wire/messages.ts';

/** Kinds as policies name them. */
const NAMES: Readonly<Partial<Record<MediaType, UploadType>>> = {
  [MediaType.JPEG]: 'jpeg',
  [MediaType.PNG]: 'png',
  [MediaType.GIF]: 'gif',
  [MediaType.WEBP]: 'webp',
  [MediaType.AVIF]: 'avif',
  [MediaType.HEIC]: 'heic',
  [MediaType.JXL]: 'jxl',
  [MediaType.TIFF]: 'tiff',
  [MediaType.BMP]: 'bmp',
  [MediaType.SVG]: 'svg',
  [MediaType.ICO]: 'ico',
};

/** Bytes that one picture may have. */
export const pictureBytesMaxOf = ({ maxBytes }: UploadPolicy, gatewayMax: number): number =>
  Math.min(maxBytes ?? gatewayMax, gatewayMax);

/**
 * @param anyType whether the gateway takes what is no picture; a policy with types does not
 * @throws TfsError UNSUPPORTED_MEDIA with what is allowed
 */
export function checkType(mediaType: MediaType, { name, types }: UploadPolicy, anyType: boolean): void {
  const type = NAMES[mediaType];
  if (types === undefined ? anyType || type !== undefined : type !== undefined && types.has(type)) return;
  if (type === undefined && types === undefined)
    throw new TfsError(
      'UNSUPPORTED_MEDIA',
      'these bytes are not a picture of a kind that is stored here ' +
        '(JPEG, PNG, GIF, WebP, AVIF, HEIC, JPEG XL, TIFF, BMP, SVG, ICO)',
    );
  throw new TfsError(
    'UNSUPPORTED_MEDIA',
    `this is ${type === undefined ? 'no picture' : `a picture of the kind ${type}`}, and the policy "${name}" of this token ` +
      `allows only ${[...(types ?? [])].join(', ')}`,
  );
}
