import type { IncomingHttpHeaders } from 'node:http';
import busboy, { type Busboy } from 'busboy';
import { TfsError } from '../../common/errors.ts';
import { MULTIPART_PARTS_MAX } from '../../common/limits.ts';
import { type Fingerprint, Fingerprinter } from '../fingerprint.ts';

/** One file of a form. */
export interface Part {
  readonly pieces: readonly Buffer[];
  readonly print: Fingerprint;
}

const FIELD_BYTES_MAX = 64 * 1024;

export const isMultipart = (headers: IncomingHttpHeaders): boolean =>
  /^multipart\/form-data\b/i.test(headers['content-type'] ?? '');

/**
 * Takes a multipart/form-data body piece by piece and keeps its files, in order; other fields are skipped. Nothing is
 * given out before the whole form has been understood, so that a cut or malformed one stores nothing.
 */
export class MultipartForm {
  readonly #parser: Busboy;
  readonly #parts: Part[] = [];
  readonly #done: Promise<void>;
  #failure: TfsError | undefined;

  /** @throws TfsError BAD_MULTIPART when the Content-Type has no boundary */
  static open(headers: IncomingHttpHeaders, partBytesMax: number): MultipartForm {
    let parser: Busboy;
    try {
      parser = busboy({
        headers,
        limits: {
          // One byte more than allowed: a part of exactly the limit is not over it.
          fileSize: partBytesMax + 1,
          files: MULTIPART_PARTS_MAX,
          fields: MULTIPART_PARTS_MAX,
          parts: 2 * MULTIPART_PARTS_MAX,
          fieldSize: FIELD_BYTES_MAX,
        },
      });
    } catch (cause) {
      throw malformed(cause);
    }
    return new MultipartForm(parser, partBytesMax);
  }

  private constructor(parser: Busboy, partBytesMax: number) {
    this.#parser = parser;
    const tooMany = () =>
      this.#fail(new TfsError('TOO_MANY_PARTS', `a form may have at most ${MULTIPART_PARTS_MAX} files`));
    parser.on('filesLimit', tooMany).on('fieldsLimit', tooMany).on('partsLimit', tooMany);
    parser.on('file', (_field, file) => {
      const pieces: Buffer[] = [];
      const print = new Fingerprinter();
      file.on('data', (piece: Buffer) => {
        pieces.push(piece);
        print.update(piece);
      });
      file.on('limit', () =>
        this.#fail(new TfsError('TOO_LARGE', `a file of a form may have at most ${partBytesMax} bytes`)),
      );
      file.on('error', (error) => this.#fail(malformed(error)));
      file.on('end', () => {
        this.#parts.push({ pieces, print: print.finish() });
      });
    });
    this.#done = new Promise((resolve) => {
      parser.on('close', resolve);
      parser.on('error', (error) => {
        this.#fail(malformed(error));
        resolve();
      });
    });
  }

  /** @throws TfsError BAD_MULTIPART, TOO_MANY_PARTS or TOO_LARGE as soon as it is known */
  write(piece: Buffer): void {
    // Consumers of the parts always flow and the whole body is bounded, so the parser is never waited for.
    this.#parser.write(piece);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** @throws TfsError as {@link write}, and EMPTY_BODY for a form without a file */
  async end(): Promise<readonly Part[]> {
    this.#parser.end();
    await this.#done;
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#parts.length === 0)
      throw new TfsError('EMPTY_BODY', 'the form has no file: send one as a part with a filename');
    return this.#parts;
  }

  /** Gives up what was kept. */
  abandon(): void {
    this.#parts.length = 0;
    this.#parser.destroy();
  }

  #fail(error: TfsError): void {
    this.#failure ??= error;
  }
}

const malformed = (cause: unknown): TfsError =>
  new TfsError(
    'BAD_MULTIPART',
    `the form is malformed (${cause instanceof Error ? cause.message : String(cause)}); nothing was stored`,
    { cause },
  );
