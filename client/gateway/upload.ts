import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError, toTfsError } from '../../common/errors.ts';
import {
  MULTIPART_BYTES_MAX,
  MULTIPART_STORES_IN_FLIGHT_MAX,
  SUFFIX_BYTES_MAX,
} from '../../common/limits.ts';
import { suffixHash } from '../../common/name.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Token } from '../../common/secrets.ts';
import { MediaType } from '../../common/wire/messages.ts';
import type { Stored, TfsClient } from '../client.ts';
import { type Fingerprint, Fingerprinter } from '../fingerprint.ts';
import { type Dimensions, dimensionsOf, HEADER_BYTES_TYPICAL } from './dimensions.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { mimeOf } from './media.ts';
import { isMultipart, MultipartForm, type Part } from './multipart.ts';
import { idempotencyKeyOf, putOpId } from './op-id.ts';
import { receiveBody } from './receive-body.ts';
import { sniff } from './sniff.ts';
import type { UploadGate } from './upload-gate.ts';

export interface UploadsParts {
  readonly client: TfsClient;
  readonly gate: UploadGate;
  readonly metrics: GatewayMetrics;
  readonly clock: Clock;
  /** Bytes of one picture. */
  readonly pictureBytesMax: number;
  /** Store what is not a picture, too. */
  readonly anyType: boolean;
}

/** What the client asked for besides the bytes. */
interface Wishes {
  readonly token: Token;
  readonly suffix: string;
  readonly key: string | undefined;
}

/** A stored picture as the client is told of it. */
export interface StoredPicture extends Dimensions {
  readonly stored: Stored;
  readonly suffix: string;
  readonly mediaType: string;
}

/** One file of a form: stored, or why not. */
export type PartResult = StoredPicture | TfsError;

/** POST of pictures, as a raw body or as a form: bytes in, durable names out. */
export class Uploads {
  readonly #parts: UploadsParts;

  constructor(parts: UploadsParts) {
    this.#parts = parts;
  }

  /**
   * @param suffix to be stored with it; empty for none
   * @returns one result of a raw body, or one for each file of a form. A single file that cannot be stored throws.
   * @throws TfsError for whatever is wrong with the request; nothing was stored then
   */
  async receive(
    request: IncomingMessage,
    response: ServerResponse,
    { token, suffix }: { readonly token: Token; readonly suffix: string },
  ): Promise<readonly PartResult[]> {
    checkSuffix(suffix);
    const wishes = { token, suffix, key: idempotencyKeyOf(request.headers) };
    return isMultipart(request.headers)
      ? this.#form(request, response, wishes)
      : [await this.#raw(request, response, wishes)];
  }

  async #raw(request: IncomingMessage, response: ServerResponse, wishes: Wishes): Promise<StoredPicture> {
    const { gate, pictureBytesMax } = this.#parts;
    const pieces: Buffer[] = [];
    const print = new Fingerprinter();
    const upload = await receiveBody(request, response, {
      gate,
      bytesMax: pictureBytesMax,
      onPiece: (piece) => {
        pieces.push(piece);
        print.update(piece);
      },
    });
    try {
      return await this.#store({ pieces, print: print.finish() }, 0, wishes);
    } finally {
      upload.release();
    }
  }

  async #form(
    request: IncomingMessage,
    response: ServerResponse,
    wishes: Wishes,
  ): Promise<readonly PartResult[]> {
    const { gate, pictureBytesMax } = this.#parts;
    const form = MultipartForm.open(request.headers, pictureBytesMax);
    try {
      const upload = await receiveBody(request, response, {
        gate,
        bytesMax: Math.max(MULTIPART_BYTES_MAX, pictureBytesMax),
        onPiece: (piece) => form.write(piece),
      });
      try {
        const parts = await form.end();
        if (parts.length === 1) return [await this.#store(parts[0]!, 0, wishes)];
        return await this.#storeAll(parts, wishes);
      } finally {
        upload.release();
      }
    } finally {
      form.abandon();
    }
  }

  /** A few at a time; one that fails stops no other. */
  async #storeAll(parts: readonly Part[], wishes: Wishes): Promise<readonly PartResult[]> {
    const results: PartResult[] = new Array(parts.length);
    let next = 0;
    const worker = async () => {
      while (next < parts.length) {
        const i = next++;
        results[i] = await this.#store(parts[i]!, i, wishes).catch(toTfsError);
      }
    };
    await Promise.all(Array.from({ length: Math.min(parts.length, MULTIPART_STORES_IN_FLIGHT_MAX) }, worker));
    return results;
  }

  /** Resolves when the picture is durable on every member of its write set: what a 201 means. */
  async #store({ pieces, print }: Part, index: number, wishes: Wishes): Promise<StoredPicture> {
    const { client, clock, metrics, anyType } = this.#parts;
    if (print.size === 0) throw new TfsError('EMPTY_BODY', 'the body is empty: send the bytes of a picture');
    const { mediaType, dimensions } = describe(pieces, print);
    if (mediaType === MediaType.UNKNOWN && !anyType)
      throw new TfsError(
        'UNSUPPORTED_MEDIA',
        'these bytes are not a picture of a kind that is stored here ' +
          '(JPEG, PNG, GIF, WebP, AVIF, HEIC, JPEG XL, TIFF, BMP, SVG, ICO)',
      );
    const startedAt = clock.monotonic();
    const stored = await client.put(pieces, {
      fingerprint: print,
      mediaType,
      suffixHash: suffixHash(wishes.suffix),
      ...(wishes.key === undefined ? {} : { opId: putOpId(wishes.token, wishes.key, index, print.sha1) }),
    });
    metrics.stored(print.size, (clock.monotonic() - startedAt) / 1000);
    return { stored, suffix: wishes.suffix, mediaType: mimeOf(mediaType), ...dimensions };
  }
}

function describe(
  pieces: readonly Buffer[],
  { size }: Fingerprint,
): { mediaType: MediaType; dimensions: Dimensions } {
  const head = beginning(pieces, Math.min(size, HEADER_BYTES_TYPICAL));
  const mediaType = sniff(head);
  let dimensions = dimensionsOf(head, mediaType);
  if (dimensions.width === null && head.length < size && mediaType !== MediaType.SVG)
    dimensions = dimensionsOf(beginning(pieces, size), mediaType);
  return { mediaType, dimensions };
}

/** @returns at least `bytes` bytes from the start, copied only where they are in several pieces */
function beginning(pieces: readonly Buffer[], bytes: number): Buffer {
  const first = pieces[0]!;
  return first.length >= bytes ? first : Buffer.concat(pieces as Buffer[], bytes);
}

const SUFFIX = /^[A-Za-z0-9._!@$,;:=+~()*-]*$/;

function checkSuffix(suffix: string): void {
  if (suffix.length <= SUFFIX_BYTES_MAX && SUFFIX.test(suffix)) return;
  throw new TfsError(
    'BAD_REQUEST',
    `suffix must be at most ${SUFFIX_BYTES_MAX} characters that need no escaping in a URL, such as ".jpg"`,
  );
}
