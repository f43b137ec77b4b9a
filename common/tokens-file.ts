import { join } from 'node:path';
import { z } from 'zod';
import type { Config } from './config.ts';
import { policiesOf, type UploadPolicy } from './config-uploads.ts';
import { TfsError } from './errors.ts';
import { TOKENS_MAX } from './limits.ts';
import {
  BUILT_IN_TOKEN,
  hasSecret,
  readSecret,
  readToken,
  secretsDir,
  TOKEN_TEXT,
  type Token,
  tokenOf,
} from './secrets.ts';

/**
 * `secrets/tokens.json`: the tokens beside `secrets/token`, each with the name of its policy, which `config.json` explains.
 * The file may be missing. As for all secrets, one that others can read is refused.
 */

const FILE = 'tokens.json';
export const tokensPath = (home: string): string => join(secretsDir(home), FILE);

const zName = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,64}$/, 'a name is 1 to 64 letters, digits, ".", "-" and "_"')
  .refine((name) => name !== BUILT_IN_TOKEN, `"${BUILT_IN_TOKEN}" is the one of secrets/token`);

/** Goes into a path, so only of what needs no escaping there. */
const zAppkey = z
  .string()
  .regex(/^[A-Za-z0-9._~-]{1,128}$/, 'an appkey is 1 to 128 letters, digits, ".", "_", "~" and "-"')
  .refine((appkey) => appkey !== '.' && appkey !== '..', 'an appkey is not "." nor ".."');

const zEntry = z
  .strictObject({
    name: zName,
    token: z
      .string()
      .regex(TOKEN_TEXT, 'a token is 16 to 512 printable characters without spaces')
      .optional(),
    appkey: zAppkey.optional(),
    policy: z.string().min(1).max(64),
  })
  .refine(
    ({ token, appkey }) => (token === undefined) !== (appkey === undefined),
    'either "token" or "appkey"',
  );

const zTokens = z
  .array(zEntry)
  .max(TOKENS_MAX, `at most ${TOKENS_MAX} tokens`)
  .superRefine((entries, ctx) => {
    const seen = new Map<string, number>();
    for (const [i, { name, token, appkey }] of entries.entries())
      for (const [what, value] of [
        ['name', name],
        ['secret', token ?? appkey ?? ''],
      ] as const) {
        const first = seen.get(`${what} ${value}`);
        // The secret itself is not for a message.
        if (first !== undefined)
          ctx.addIssue({ code: 'custom', path: [i], message: `has the ${what} of entry ${first}`, input: i });
        seen.set(`${what} ${value}`, i);
      }
  });

/** One entry of the file: exactly one of `token` and `appkey`. */
export type TokenEntry = z.output<typeof zEntry>;

/**
 * @returns none when there is no such file
 * @throws TfsError CONFIG when it is readable by others or says something else than it should; never with a secret in it
 */
export async function readTokenEntries(home: string): Promise<readonly TokenEntry[]> {
  if (!(await hasSecret(home, FILE))) return [];
  const text = await readSecret(home, FILE);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // What JSON.parse says quotes the text.
    throw new TfsError('CONFIG', `${tokensPath(home)} is not JSON`);
  }
  return checkTokenEntries(home, value);
}

/** @throws TfsError CONFIG with every entry that is not as it should be, and never with a secret */
export function checkTokenEntries(home: string, value: unknown): readonly TokenEntry[] {
  const parsed = zTokens.safeParse(value);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message }) => {
    const [index, ...rest] = path;
    const where = index === undefined ? 'the file' : `entry ${String(index)}`;
    return `  ${where}${rest.length > 0 ? `, ${rest.join('.')}` : ''}: ${message}`;
  });
  throw new TfsError(
    'CONFIG',
    `${tokensPath(home)} is not a list of {"name", "token" or "appkey", "policy"}:\n${lines.join('\n')}`,
  );
}

/**
 * All that may write: the token of `secrets/token`, and those of `secrets/tokens.json`.
 * @throws TfsError CONFIG also when one has a policy that `config.json` does not explain
 */
export async function readTokens(config: Pick<Config, 'home' | 'uploads'>): Promise<readonly Token[]> {
  const policies = policiesOf(config.uploads);
  const builtIn = await readToken(config.home);
  const others = (await readTokenEntries(config.home)).map((entry) => tokenOfEntry(entry, policies));
  const same = others.find(({ text }) => text === builtIn.text);
  if (same !== undefined)
    throw new TfsError(
      'CONFIG',
      `"${same.name}" in ${tokensPath(config.home)} has the secret of secrets/token: which policy counts?`,
    );
  return [builtIn, ...others];
}

function tokenOfEntry(entry: TokenEntry, policies: ReadonlyMap<string, UploadPolicy>): Token {
  const { name, token, appkey } = entry;
  const policy = requirePolicy(policies, entry.policy, `the token "${name}" in secrets/tokens.json`);
  return token === undefined
    ? tokenOf(appkey ?? '', { name, policy, kind: 'appkey' })
    : tokenOf(token, { name, policy, kind: 'bearer' });
}

/** @param whose for the message @throws TfsError CONFIG that names those there are */
export function requirePolicy(
  policies: ReadonlyMap<string, UploadPolicy>,
  name: string,
  whose: string,
): UploadPolicy {
  const policy = policies.get(name);
  if (policy !== undefined) return policy;
  throw new TfsError(
    'CONFIG',
    `${whose} has the policy "${name}", which is not in uploads.policies of config.json: there are ` +
      `${[...policies.keys()].map((known) => `"${known}"`).join(', ')}`,
  );
}
