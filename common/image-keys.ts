import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { TfsError } from './errors.ts';
import { ensureSecret, readSecret, secretPath } from './secrets.ts';

/** One of those that sign the URLs of pictures; several at a time, so that one can take the place of another. */
export interface ImageKey {
  /** `kid` of a URL. */
  readonly id: string;
  /** At least 32 bytes. */
  readonly secret: Buffer;
}

const FILE = 'images.json';
const SECRET_BYTES = 32;

const zKeys = z.strictObject({
  /** The one to sign with first; the others are only known, until what they have signed has expired. */
  keys: z
    .array(
      z.strictObject({
        id: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/),
        secret: z.string().regex(/^(?:[0-9a-f]{2}){32,128}$/, '32 to 128 bytes in hex'),
      }),
    )
    .min(1)
    .max(16),
});

/** Makes the file with one key where there is none. */
export async function ensureImageKeys(home: string): Promise<readonly ImageKey[]> {
  await ensureSecret(home, FILE, () => encodeImageKeys([freshImageKey()]));
  return readImageKeys(home);
}

/** @throws TfsError CONFIG when it is missing, malformed, or readable by others */
export async function readImageKeys(home: string): Promise<readonly ImageKey[]> {
  const text = await readSecret(home, FILE);
  try {
    const { keys } = zKeys.parse(JSON.parse(text));
    if (new Set(keys.map(({ id }) => id)).size < keys.length) throw new Error('two keys have one id');
    return keys.map(({ id, secret }) => ({ id, secret: Buffer.from(secret, 'hex') }));
  } catch {
    // What is wrong with a secret is not told with its text.
    throw new TfsError(
      'CONFIG',
      `${imageKeysPath(home)} is not {"keys": [{"id": "...", "secret": "64 or more hex digits"}, ...]} with ids of letters and digits, all different`,
    );
  }
}

/** @param keys the first signs @returns the text of the file */
export const encodeImageKeys = (keys: readonly ImageKey[]): string =>
  JSON.stringify(
    zKeys.parse({ keys: keys.map(({ id, secret }) => ({ id, secret: secret.toString('hex') })) }),
    null,
    2,
  );

export const imageKeysPath = (home: string): string => secretPath(home, FILE);

/** Named after what it is, so that two files of one cluster never give one name to two keys. */
export function freshImageKey(): ImageKey {
  const secret = randomBytes(SECRET_BYTES);
  const id = createHash('sha256').update('image key id ').update(secret).digest('hex').slice(0, 8);
  return { id, secret };
}
