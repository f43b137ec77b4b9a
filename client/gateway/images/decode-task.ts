/** What a gateway and its decoders say to each other. */
import type { ErrorCode } from '../../../common/errors.ts';
import type { Made, MakeLimits } from './make.ts';
import type { Rendition } from './rendition.ts';

/** A rendition, or the picture itself as EXIF says that it is to be held. */
export type Wanted = Rendition | 'upright';

export interface DecodeTask {
  readonly original: Uint8Array;
  readonly rendition: Wanted;
  readonly limits: MakeLimits;
  /** Of this process, all in all. */
  readonly memoryBytesMax: number;
  readonly decodeMsMax: number;
}

/** Errors do not survive the way between processes as what they are. */
export type DecodeAnswer =
  | { readonly made: Omit<Made, 'bytes'> & { readonly bytes: Uint8Array } }
  | {
      readonly code: ErrorCode;
      readonly message: string;
      readonly why: string;
      /** It was given up, and the process ends with it {@link LAST_WORDS_MS} later. */
      readonly isOverdue?: boolean;
    };

/** Between such an answer and the end of its process. */
export const LAST_WORDS_MS = 50;
