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
import { Fingerprinter } from '../fingerprint.ts';
import { type Dimensions, dimensionsOf, HEADER_BYTES_TYPICAL } from './dimensions.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import type { Decoders } from './images/decoders.ts';
import { type Change, preparePicture } from './ingest/prepare-picture.ts';
import { mimeOf } from './media.ts';
import { isMultipart, MultipartForm, type Part } from './multipart.ts';
import { idempotencyKeyOf, putOpId } from './op-id.ts';
import { receiveBody } from './receive-body.ts';
import { sniff } from './sniff.ts';
import type { UploadGate } from './upload-gate.ts';
import type { UploadLimits } from './upload-limits.ts';
import { checkType, pictureBytesMaxOf } from './upload-policy.ts';

export interface UploadsParts {
  readonly client: TfsClient;
  readonly gate: UploadGate;
  readonly metrics: GatewayMetrics;
  readonly clock: Clock;
  readonly limits: UploadLimits;
  /** Turn pictures upright where a policy wants it. */
  readonly decoders: Pick<Decoders, 'make'>;
  /** Bytes of one picture. */
  readonly pictureBytesMax: number;
  /** Store what is not a picture, too. */
  readonly anyType: boolean;
}

/** The convention of TFS for pictures that are not for everybody. */
const PRIVATE_SUFFIX = /^\.tfsprivate(?:\.|$)/;

interface Ask {
  readonly token: Token;
  readonly suffix: string;
  readonly isPrivate?: boolean;
}

/** What the client asked for besides the bytes. */
interface Wishes {
  readonly token: Token;
  readonly suffix: string;
  readonly isPrivate: boolean;
  readonly key: string | undefined;
  readonly noDedup: boolean;
}

/** A stored picture as the client is told of it. */
export interface StoredPicture extends Dimensions {
  readonly stored: Stored;
  readonly suffix: string;
  readonly mediaType: string;
  /** In what it differs from what was sent, as the policy of the token wants it. */
  readonly changed: readonly Change[];
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
   * @param suffix to be stored with it; empty for none. ".tfsprivate", alone or with an ending, makes it private
   * @param isPrivate served to those alone who show a signature
   * @returns one result of a raw body, or one for each file of a form. A single file that cannot be stored throws.
   * @throws TfsError for whatever is wrong with the request; nothing was stored then
   */
  async receive(
    request: IncomingMessage,
    response: ServerResponse,
    { token, suffix, isPrivate = false }: Ask,
  ): Promise<readonly PartResult[]> {
    checkSuffix(suffix);
    const wishes = {
      token,
      suffix,
      isPrivate: isPrivate || PRIVATE_SUFFIX.test(suffix),
      noDedup: false,
      key: idempotencyKeyOf(request.headers),
    };
    return isMultipart(request.headers)
      ? this.#form(request, response, wishes)
      : [await this.#raw(request, response, wishes)];
  }

  /**
   * As {@link receive}, of the body as it is whatever its kind is said to be.
   *
   * @param ask.noDedup stores a copy of its own even where the same bytes are there
   */
  async receiveRaw(
    request: IncomingMessage,
    response: ServerResponse,
    ask: { readonly token: Token; readonly suffix: string; readonly noDedup: boolean },
  ): Promise<StoredPicture> {
    checkSuffix(ask.suffix);
    const isPrivate = PRIVATE_SUFFIX.test(ask.suffix);
    return this.#raw(request, response, { ...ask, isPrivate, key: undefined });
  }

  async #raw(request: IncomingMessage, response: ServerResponse, wishes: Wishes): Promise<StoredPicture> {
    const { gate, limits } = this.#parts;
    const bytesMax = pictureBytesMaxOf(wishes.token.policy, this.#parts.pictureBytesMax);
    await limits.admit(wishes.token, Math.min(bytesMax, Number(request.headers['content-length'] ?? 0)));
    const pieces: Buffer[] = [];
    const print = new Fingerprinter();
    const upload = await receiveBody(request, response, {
      gate,
      bytesMax,
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
    const { gate, limits } = this.#parts;
    const pictureBytesMax = pictureBytesMaxOf(wishes.token.policy, this.#parts.pictureBytesMax);
    await limits.admit(wishes.token, 0);
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
  async #store(sent: Part, index: number, wishes: Wishes): Promise<StoredPicture> {
    const { limits, decoders, gate, anyType, pictureBytesMax } = this.#parts;
    const { token, suffix } = wishes;
    const { policy } = token;
    if (sent.print.size === 0)
      throw new TfsError('EMPTY_BODY', 'the body is empty: send the bytes of a picture');
    const { mediaType, dimensions } = describe(sent);
    checkType(mediaType, policy, anyType);
    // The first picture of a request was counted before its body was read.
    if (index > 0) await limits.another(token);
    const { width, height } = dimensions;
    const pixels = width === null || height === null ? undefined : width * height;
    const bytesMax = pictureBytesMaxOf(policy, pictureBytesMax);
    const ready = await preparePicture(sent, { mediaType, pixels }, policy, { decoders, gate, bytesMax });
    try {
      const { changed } = ready;
      const opId = wishes.key === undefined ? undefined : opIdOf(wishes, wishes.key, index, sent);
      const stored = await this.#put(ready, mediaType, opId, wishes);
      const shown = changed.length > 0 ? describe(ready).dimensions : dimensions;
      return { stored, suffix, mediaType: mimeOf(mediaType), changed, ...shown };
    } finally {
      ready.release();
    }
  }

  async #put(
    { pieces, print }: Part,
    mediaType: MediaType,
    opId: Buffer | undefined,
    { token, suffix, isPrivate, noDedup }: Wishes,
  ): Promise<Stored> {
    const { client, clock, limits, metrics } = this.#parts;
    const charge = await limits.charge(token, print.size);
    const startedAt = clock.monotonic();
    const putting = client.put(pieces, {
      ...{ mediaType, isPrivate, noDedup, fingerprint: print, suffixHash: suffixHash(suffix) },
      ...(opId === undefined ? {} : { opId }),
    });
    const stored = await putting.catch((error: unknown) => {
      charge?.refund();
      throw error;
    });
    // What an earlier try of the same request stored was counted then.
    if (stored.replayed) charge?.refund();
    metrics.stored(print.size, (clock.monotonic() - startedAt) / 1000);
    return stored;
  }
}

/** By what was sent, so that a repeat is one whatever is made of it. */
const opIdOf = ({ token, isPrivate }: Wishes, key: string, index: number, { print }: Part): Buffer =>
  putOpId(token, key, index, print.sha1, isPrivate);

function describe({ pieces, print: { size } }: Part): { mediaType: MediaType; dimensions: Dimensions } {
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
