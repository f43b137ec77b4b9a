import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { TfsError } from '../../common/errors.ts';
import { IDEMPOTENCY_KEY_BYTES_MAX } from '../../common/limits.ts';
import type { Token } from '../../common/secrets.ts';
import type { Mutation } from '../../common/wire/messages.ts';
import type { PictureKey } from '../reader.ts';

const OP_ID_BYTES = 16;

/**
 * @returns the client's key for this request, undefined when it sent none
 * @throws TfsError BAD_REQUEST when it is empty, too long, or not printable ASCII
 */
export function idempotencyKeyOf(headers: IncomingHttpHeaders): string | undefined {
  const key = headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !/^[\x20-\x7e]+$/.test(key) || key.length > IDEMPOTENCY_KEY_BYTES_MAX)
    throw new TfsError(
      'BAD_REQUEST',
      `Idempotency-Key must be 1 to ${IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters`,
    );
  return key;
}

/**
 * First 16 bytes of SHA-256(token id ‖ key ‖ part index u32 ‖ sha1 ‖ "private" if it is): a key is scoped to one client and
 * one content, so that a key used twice by mistake never answers with another picture.
 */
export function putOpId(token: Token, key: string, part: number, sha1: Buffer, isPrivate = false): Buffer {
  const index = Buffer.allocUnsafe(4);
  index.writeUInt32LE(part);
  return opId(token, key, [index, sha1, Buffer.from(isPrivate ? 'private' : '')]);
}

/** As {@link putOpId}, with the kind of the operation and the name instead of a content. */
export function mutationOpId(token: Token, key: string, kind: Mutation, name: PictureKey): Buffer {
  const scope = Buffer.allocUnsafe(13);
  scope[0] = kind;
  scope.writeUInt32LE(name.block, 1);
  scope.writeUInt32LE(name.fileId, 5);
  scope.writeUInt32LE(name.cookie, 9);
  return opId(token, key, [scope]);
}

function opId(token: Token, key: string, scope: readonly Buffer[]): Buffer {
  const hash = createHash('sha256').update(token.id).update(key);
  for (const part of scope) hash.update(part);
  return hash.digest().subarray(0, OP_ID_BYTES);
}
