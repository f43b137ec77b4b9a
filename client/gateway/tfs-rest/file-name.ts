import { TfsError } from '../../../common/errors.ts';
import { TFS_REST_NAME_BYTES_MAX } from '../../../common/limits.ts';
import { NAME_LENGTH, suffixHash } from '../../../common/name.ts';
import type { TfsClient } from '../../client.ts';
import type { PictureKey } from '../../reader.ts';

/** A name as a TFS client gives it. */
export interface FileName {
  readonly key: PictureKey;
  /** Its 18 characters. */
  readonly name: string;
  /** What has to belong to the file; empty for nothing. */
  readonly suffix: string;
}

/** A file in segments, of which TFS keeps a list under a name that begins with L. This store has none. */
const LARGE_NAME = /^L[1-9][A-Za-z0-9._]{16}/;

/**
 * @param text the name in the path, decoded; with or without its suffix
 * @param suffix the parameter of that name
 * @throws TfsError BAD_NAME for what is no name, BAD_REQUEST for two suffixes that differ, NOT_FOUND for the name of a
 *   large file or of another cluster
 */
export function fileNameOf(client: TfsClient, text: string, suffix: string): FileName {
  if (Buffer.byteLength(text) > TFS_REST_NAME_BYTES_MAX)
    throw new TfsError('BAD_NAME', `a name has at most ${TFS_REST_NAME_BYTES_MAX} bytes`);
  const tail = text.slice(NAME_LENGTH);
  if (tail !== '' && suffix !== '' && tail !== suffix)
    throw new TfsError('BAD_REQUEST', 'the name ends with another suffix than the parameter suffix says');
  if (LARGE_NAME.test(text)) throw noSuchFile();
  const key = client.parse(text);
  return { key, name: client.nameOf(key), suffix: suffix === '' ? tail : suffix };
}

/**
 * In TFS the hash of the suffix is part of the file's number: a wrong suffix is the name of another file. Here names carry
 * a secret number instead, and the hash is compared.
 *
 * @throws TfsError NOT_FOUND
 */
export function requireSuffix({ suffix }: FileName, stored: { readonly suffixHash: number }): void {
  if (suffix !== '' && suffixHash(suffix) !== stored.suffixHash) throw noSuchFile();
}

const noSuchFile = (): TfsError => new TfsError('NOT_FOUND', 'there is no such picture');
