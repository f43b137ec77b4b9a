import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UNLIMITED, type UploadPolicy } from './config-uploads.ts';
import { TfsError } from './errors.ts';
import type { ExportedRole } from './wire/keys.ts';

/**
 * The secrets of a cluster, each in a file of its own in `secrets/` of its home: `cluster.key` for NameServers and
 * DataServers, `gateway.json` for gateways (which are never given the cluster key), `token` for clients that write,
 * `images.json` for keys that sign URLs. Further tokens are in `tokens.json` (`tokens-file.ts`).
 *
 * The directory is 0700 and the files 0600; a file that somebody else may read is refused, not repaired, because it
 * has to be considered known. A missing one is made by `ensure...`, by exactly one of several processes that try.
 */

export const secretsDir = (home: string): string => join(home, 'secrets');
export const secretPath = (home: string, name: string): string => join(secretsDir(home), name);
export const tokenPath = (home: string): string => join(secretsDir(home), 'token');

const CLUSTER_KEY_BYTES = 32;
const hex32 = z.string().regex(/^[0-9a-f]{64}$/);

/** What a gateway holds: its own role's key and the one that spreads contents over DataServers. 32 bytes hex each. */
const zGatewayRole = z.strictObject({ role: z.literal('gateway'), key: hex32, rendezvousKey: hex32 });

/** What a client shows to write. */
export interface Token {
  /** 16 hex digits that name the token without telling it. */
  readonly id: string;
  readonly text: string;
  /** What the operator calls it; stays the same when its text is changed. */
  readonly name: string;
  /** A bearer token comes in `Authorization`, an appkey in the path of a TFS REST request; never the other way round. */
  readonly kind: 'bearer' | 'appkey';
  /** What may be done with it. */
  readonly policy: UploadPolicy;
}

/** What `secrets/token` is called. */
export const BUILT_IN_TOKEN = 'token';

/** @returns the 32 bytes that every role's key is derived from */
export async function ensureClusterKey(home: string): Promise<Buffer> {
  await ensureSecret(home, 'cluster.key', () => randomBytes(CLUSTER_KEY_BYTES).toString('hex'));
  return readClusterKey(home);
}

/** @throws TfsError CONFIG when it is missing, malformed, or readable by others */
export async function readClusterKey(home: string): Promise<Buffer> {
  const text = await readSecret(home, 'cluster.key');
  if (!hex32.safeParse(text).success)
    throw malformed(home, 'cluster.key', `${CLUSTER_KEY_BYTES} bytes in hex`);
  return Buffer.from(text, 'hex');
}

/** @param make derives the role's keys from the cluster key */
export async function ensureGatewayRole(home: string, make: () => ExportedRole): Promise<ExportedRole> {
  await ensureSecret(home, 'gateway.json', () => JSON.stringify(zGatewayRole.parse(make())));
  return readGatewayRole(home);
}

/** @throws TfsError CONFIG when it is missing, malformed, or readable by others */
export async function readGatewayRole(home: string): Promise<ExportedRole> {
  const text = await readSecret(home, 'gateway.json');
  try {
    return zGatewayRole.parse(JSON.parse(text));
  } catch (cause) {
    throw malformed(home, 'gateway.json', '{"role": "gateway", "key": ..., "rendezvousKey": ...}', cause);
  }
}

/** A bearer token: 16 to 512 printable characters. */
export const TOKEN_TEXT = /^[\x21-\x7e]{16,512}$/;

export async function ensureToken(home: string): Promise<Token> {
  await ensureSecret(home, 'token', () => randomBytes(24).toString('base64url'));
  return readToken(home);
}

/** What `Authorization: Bearer` must carry to write. Compare in constant time. */
export async function readToken(home: string): Promise<Token> {
  const text = await readSecret(home, 'token');
  if (!TOKEN_TEXT.test(text)) throw malformed(home, 'token', 'one line of 16 to 512 printable characters');
  return tokenOf(text);
}

/** @param more where it is not the one of `secrets/token`, which may do everything */
export const tokenOf = (
  text: string,
  more: Partial<Pick<Token, 'name' | 'kind' | 'policy'>> = {},
): Token => ({
  id: createHash('sha256').update(`token id ${text}`).digest('hex').slice(0, 16),
  text,
  name: BUILT_IN_TOKEN,
  kind: 'bearer',
  policy: UNLIMITED,
  ...more,
});

/** Password of the private Redis: other users of the machine can reach its port. */
export async function ensureRedisPassword(home: string): Promise<string> {
  await ensureSecret(home, 'redis', () => randomBytes(24).toString('base64url'));
  return readSecret(home, 'redis');
}

/** Makes a file with what `make` gives, by exactly one of several processes that try; one that is there stays. */
export async function ensureSecret(home: string, name: string, make: () => string): Promise<void> {
  const dir = secretsDir(home);
  const file = join(dir, name);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (await exists(file)) return;
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(`${make()}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    // Unlike a rename this never replaces the secret that another process made a moment ago.
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await unlink(temporary);
  }
  const directory = await open(dir, 'r');
  await directory.sync();
  await directory.close();
}

/**
 * Reads one file of `secrets/`, without white space around it.
 * @throws TfsError CONFIG when it is missing, or readable by others
 */
export async function readSecret(home: string, name: string): Promise<string> {
  const dir = secretsDir(home);
  const file = join(dir, name);
  try {
    await refuseReadableByOthers(dir, '700');
    await refuseReadableByOthers(file, '600');
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    if (cause instanceof TfsError) throw cause;
    const hint =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? '"npm start" makes it' : 'check its owner';
    throw new TfsError('CONFIG', `cannot read the secret ${file} (${(cause as Error).message}): ${hint}`, {
      cause,
    });
  }
}

async function refuseReadableByOthers(path: string, wanted: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  throw new TfsError(
    'CONFIG',
    `${path} has mode ${(mode & 0o777).toString(8)}: others than its owner can reach this secret. ` +
      `Run "chmod ${wanted} ${path}", and replace the secret if somebody may have read it`,
  );
}

/** Whether there is such a file in `secrets/`. */
export const hasSecret = (home: string, name: string): Promise<boolean> =>
  exists(join(secretsDir(home), name));

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function malformed(home: string, name: string, what: string, cause?: unknown): TfsError {
  return new TfsError('CONFIG', `${join(secretsDir(home), name)} is not ${what}`, { cause });
}
