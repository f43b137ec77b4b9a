import { TfsError } from '../../common/errors.ts';

/** A path segment without its percent-encoding. @throws TfsError BAD_NAME where that is malformed */
export function decoded(segment: string): string {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch (cause) {
    throw new TfsError('BAD_NAME', 'this is not a name: its percent-encoding is malformed', { cause });
  }
}
