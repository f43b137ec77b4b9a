import { setImmediate as nextTurn } from 'node:timers/promises';
import type { UploadPolicy } from '../../../common/config-uploads.ts';
import { TfsError } from '../../../common/errors.ts';
import { MediaType } from '../../../common/wire/messages.ts';
import { type Fingerprint, Fingerprinter } from '../../fingerprint.ts';
import type { Decoders } from '../images/decoders.ts';
import type { Part } from '../multipart.ts';
import type { UploadGate } from '../upload-gate.ts';
import { unlinkThumbnailOfJpeg } from './jpeg.ts';
import { turnOf, withoutLocation } from './strip.ts';

export interface PrepareParts {
  readonly decoders: Pick<Decoders, 'make'>;
  readonly gate: Pick<UploadGate, 'reserve' | 'free'>;
  /** Of what is stored. */
  readonly bytesMax: number;
}

export type Change = 'orientation' | 'location';

/** What is to be stored, and how it differs from what was sent. */
export interface PreparedPicture extends Part {
  readonly changed: readonly Change[];
  /** To be called when it is no longer held. */
  release(): void;
}

/** A picture that is turned is there on its way to a decoder, too, and as it comes back. */
const COPIES_TURNED = 2;
/** Hashed in one turn of the event loop. */
const HASH_BYTES = 1024 * 1024;

/**
 * Makes of a picture what the policy of a token wants to have stored: turned upright, in a decoder of its own process, and
 * without location data.
 *
 * @param pixels of it, as far as its header tells
 * @throws TfsError UNDECODABLE or UNSUPPORTED_MEDIA where that cannot be done, TOO_LARGE where the outcome is, OVERLOADED
 */
export async function preparePicture(
  part: Part,
  { mediaType, pixels }: { readonly mediaType: MediaType; readonly pixels: number | undefined },
  { orient, stripLocation }: UploadPolicy,
  { decoders, gate, bytesMax }: PrepareParts,
): Promise<PreparedPicture> {
  if (!orient && !stripLocation) return { ...part, changed: [], release: () => undefined };
  let reserved = 0;
  const reserve = (bytes: number) => {
    gate.reserve(bytes);
    reserved += bytes;
  };
  try {
    reserve(part.print.size);
    const changed: Change[] = [];
    let body: Buffer = Buffer.concat(part.pieces as Buffer[]);
    if (orient && turnOf(body, mediaType) !== undefined) {
      reserve(COPIES_TURNED * part.print.size);
      body = (await decoders.make({ original: body, rendition: 'upright', pixels })).bytes;
      if (mediaType === MediaType.JPEG) unlinkThumbnailOfJpeg(body);
      changed.push('orientation');
    }
    if (stripLocation) {
      const stripped = withoutLocation(body, mediaType);
      if (stripped !== body) changed.push('location');
      body = stripped;
    }
    if (body.length > bytesMax)
      throw new TfsError(
        'TOO_LARGE',
        `turned upright the picture would have ${body.length} bytes, and ${bytesMax} are allowed`,
      );
    const release = () => gate.free(reserved);
    return changed.length === 0
      ? { ...part, changed, release }
      : { pieces: [body], print: await printOf(body), changed, release };
  } catch (error) {
    gate.free(reserved);
    throw error;
  }
}

/** A large one is there all at once, and others are not to wait until it is hashed. */
async function printOf(body: Buffer): Promise<Fingerprint> {
  const print = new Fingerprinter();
  for (let at = 0; at < body.length; at += HASH_BYTES) {
    if (at > 0) await nextTurn();
    print.update(body.subarray(at, at + HASH_BYTES));
  }
  return print.finish();
}
