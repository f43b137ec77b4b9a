import { kindOf, MediaType } from '../../common/wire/messages.ts';

export { isPrivate, kindOf } from '../../common/wire/messages.ts';

interface MediaRow {
  readonly mime: string;
  /** Usual endings of a file name, the commonest first. */
  readonly extensions: readonly string[];
}

const TABLE: Readonly<Record<MediaType, MediaRow>> = {
  [MediaType.UNKNOWN]: { mime: 'application/octet-stream', extensions: [] },
  [MediaType.JPEG]: { mime: 'image/jpeg', extensions: ['.jpg', '.jpeg', '.jpe', '.jfif'] },
  [MediaType.PNG]: { mime: 'image/png', extensions: ['.png', '.apng'] },
  [MediaType.GIF]: { mime: 'image/gif', extensions: ['.gif'] },
  [MediaType.WEBP]: { mime: 'image/webp', extensions: ['.webp'] },
  [MediaType.AVIF]: { mime: 'image/avif', extensions: ['.avif', '.avifs'] },
  [MediaType.TIFF]: { mime: 'image/tiff', extensions: ['.tif', '.tiff'] },
  [MediaType.BMP]: { mime: 'image/bmp', extensions: ['.bmp', '.dib'] },
  [MediaType.SVG]: { mime: 'image/svg+xml', extensions: ['.svg'] },
  [MediaType.HEIC]: { mime: 'image/heic', extensions: ['.heic', '.heif'] },
  [MediaType.JXL]: { mime: 'image/jxl', extensions: ['.jxl'] },
  [MediaType.ICO]: { mime: 'image/x-icon', extensions: ['.ico'] },
};

/** @param mediaType as stored, private or not; a number this version does not know is bytes of no known kind */
export const mimeOf = (mediaType: number): string =>
  (TABLE[kindOf(mediaType)] ?? TABLE[MediaType.UNKNOWN]).mime;

export const extensionsOf = (mediaType: number): readonly string[] =>
  (TABLE[kindOf(mediaType)] ?? TABLE[MediaType.UNKNOWN]).extensions;

/** Kinds that a browser may run as a document with scripts, or may guess to be one. */
export const needsSandbox = (mediaType: number): boolean =>
  kindOf(mediaType) === MediaType.SVG || mimeOf(mediaType) === TABLE[MediaType.UNKNOWN].mime;
