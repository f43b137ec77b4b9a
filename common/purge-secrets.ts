import { join } from 'node:path';
import { z } from 'zod';
import { type PurgeConfig, zPurgeHeaders } from './config-purge.ts';
import { TfsError } from './errors.ts';
import { hasSecret, readSecret, secretsDir } from './secrets.ts';

const FILE = 'purge.json';
/** As many as a change of keys needs, and one more. */
const KEYS_MAX = 3;
const KEY_BYTES_MIN = 16;

const zSecrets = z.record(
  z.string(),
  z.strictObject({
    /** What a webhook is signed with, each in hex. All of them sign, so that a receiver can change from one to the next. */
    keys: z
      .array(
        z
          .string()
          .regex(
            new RegExp(`^(?:[0-9a-f]{2}){${KEY_BYTES_MIN},128}$`),
            `${KEY_BYTES_MIN} to 128 bytes in hex`,
          ),
      )
      .max(KEYS_MAX)
      .default([]),
    /** Headers that nobody else may see, such as Authorization. */
    headers: zPurgeHeaders.default({}),
  }),
);

export interface PurgeSecrets {
  readonly keys: readonly Buffer[];
  readonly headers: Readonly<Record<string, string>>;
}

const NONE: PurgeSecrets = { keys: [], headers: {} };

/**
 * What `secrets/purge.json` of a home has for each cache: `{"ID": {"keys": ["HEX"], "headers": {}}}`. The file may be
 * missing where no cache needs it.
 *
 * @throws TfsError CONFIG when it is malformed or readable by others, speaks of a cache that is not configured, or has no
 *   key for a webhook
 */
export async function readPurgeSecrets(
  home: string,
  { caches }: Pick<PurgeConfig, 'caches'>,
): Promise<ReadonlyMap<string, PurgeSecrets>> {
  const path = join(secretsDir(home), FILE);
  const config = (why: string, cause?: unknown) => new TfsError('CONFIG', `${path}: ${why}`, { cause });
  const secrets = new Map<string, PurgeSecrets>(caches.map(({ id }) => [id, NONE]));
  if (caches.length > 0 && (await hasSecret(home, FILE))) {
    let value: unknown;
    try {
      value = JSON.parse(await readSecret(home, FILE));
    } catch (cause) {
      if (cause instanceof TfsError) throw cause;
      // The parser's own message would show some of the text.
      throw config('is not JSON');
    }
    const parsed = zSecrets.safeParse(value);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw config(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'malformed'}`);
    }
    for (const [id, { keys, headers }] of Object.entries(parsed.data)) {
      if (!secrets.has(id)) throw config(`there is no cache "${id}" in purge.caches of config.json`);
      secrets.set(id, { keys: keys.map((key) => Buffer.from(key, 'hex')), headers });
    }
  }
  for (const { id, kind } of caches)
    if (kind === 'webhook' && secrets.get(id)!.keys.length === 0)
      throw config(
        `the webhook "${id}" needs a key that its messages are signed with: ` +
          `{"${id}": {"keys": ["HEX"]}}, HEX from "openssl rand -hex 32", mode 600`,
      );
  return secrets;
}
