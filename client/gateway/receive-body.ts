import type { IncomingMessage, ServerResponse } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import { BodyDigests } from './body-digests.ts';
import type { Upload, UploadGate } from './upload-gate.ts';

export interface ReceiveOptions {
  readonly gate: UploadGate;
  readonly bytesMax: number;
  /** Takes the body piece by piece. What it throws ends the upload, and nothing more is read. */
  readonly onPiece: (piece: Buffer) => void;
}

const expectsContinue = new WeakSet<IncomingMessage>();

/** The client waits for a "100 Continue" before it sends the body: it is sent when the body is wanted. */
export const noteExpectContinue = (request: IncomingMessage): void => void expectsContinue.add(request);

/**
 * Reads a request body to its end, or up to the point where it is known to be refused.
 *
 * @returns the upload's place in memory, which the caller releases when its bytes are no longer held
 * @throws TfsError TOO_LARGE (nothing was read when the length was declared), OVERLOADED, BODY_TIMEOUT, BODY_CUT when
 *   the connection ended first, DIGEST_MISMATCH, or what `onPiece` threw. The rest of the body stays unread.
 */
export async function receiveBody(
  request: IncomingMessage,
  response: ServerResponse,
  { gate, bytesMax, onPiece }: ReceiveOptions,
): Promise<Upload> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > bytesMax) throw tooLarge(bytesMax);
  // Its end would not be told any more.
  if (request.destroyed) throw cut();
  const digests = BodyDigests.of(request.headers);
  let fail: (error: unknown) => void = ignore;
  const upload = gate.begin(declared, (error) => fail(error));
  try {
    await new Promise<void>((resolve, reject) => {
      let size = 0;
      let over = false;
      fail = (error) => {
        if (over) return;
        over = true;
        request.off('data', onData).pause();
        reject(error);
      };
      const onData = (piece: Buffer) => {
        try {
          size += piece.length;
          if (size > bytesMax) throw tooLarge(bytesMax);
          upload.arrived(piece.length);
          digests?.update(piece);
          onPiece(piece);
        } catch (error) {
          fail(error);
        }
      };
      request.on('data', onData);
      request.on('end', () => {
        if (!request.complete) return fail(cut());
        over = true;
        resolve();
      });
      // Comes in any case, and before the end only when the connection broke: then there is an error nobody listens to.
      request.on('close', () => {
        if (!over) fail(cut());
      });
      if (expectsContinue.has(request)) response.writeContinue();
    });
    upload.complete();
    digests?.verify();
    return upload;
  } catch (error) {
    upload.release();
    throw error;
  }
}

function ignore(): void {}

const cut = (): TfsError =>
  new TfsError('BODY_CUT', 'the body ended before its declared length; nothing was stored');

const tooLarge = (bytesMax: number): TfsError =>
  new TfsError('TOO_LARGE', `a body may have at most ${bytesMax} bytes`, { details: { bytesMax } });
