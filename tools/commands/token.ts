import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import type { Command } from 'commander';
import { loadConfig } from '../../common/config.ts';
import { policiesOf } from '../../common/config-uploads.ts';
import { TfsError } from '../../common/errors.ts';
import { readToken, secretsDir, tokenOf } from '../../common/secrets.ts';
import {
  checkTokenEntries,
  readTokenEntries,
  readTokens,
  requirePolicy,
  type TokenEntry,
  tokensPath,
} from '../../common/tokens-file.ts';
import { columns } from '../cli/columns.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { replaceFile } from '../cluster/home.ts';
import { withStartLock } from '../cluster/start-lock.ts';

interface AddOptions extends GlobalOptions {
  readonly policy: string;
  readonly appkey?: string | true;
}

const SECRET_BYTES = 24;
/** An appkey that somebody chose and that is shorter can be found by trying. */
const APPKEY_CHARS_SAFE = 16;
const RELOAD = 'Gateways read it when they start: npm run reload -- gateway';

export function register(program: Command): void {
  const token = program
    .command('token')
    .summary('gives tokens to clients, and takes them back')
    .description(
      'Tokens of clients, in secrets/tokens.json of the home, each with a policy of uploads.policies in config.json. ' +
        'The one of secrets/token may do everything and is not changed here. ' +
        RELOAD,
    );
  token
    .command('add')
    .argument('<name>', 'what to call it, in this file and in logs')
    .summary('makes a token and prints it, once')
    .description(`Makes a token for a client and prints it; it is not shown again. ${RELOAD}`)
    .requiredOption('--policy <name>', 'what it may do: a policy of config.json, or "unlimited"')
    .option('--appkey [key]', 'for a client of the TFS REST interface; one that it has already, or a new one')
    .action(add);
  token.command('list').summary('lists tokens and their policies, without the secrets').action(list);
  token
    .command('remove')
    .argument('<name>')
    .summary('takes a token back')
    .description(`Takes a token back. ${RELOAD}; until then it is still taken.`)
    .action(remove);
}

async function add(name: string, _own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<AddOptions>();
  const home = homeOf(options);
  const io = openIo(options.json === true);
  const secret =
    typeof options.appkey === 'string' ? options.appkey : randomBytes(SECRET_BYTES).toString('base64url');
  const kind = options.appkey === undefined ? 'bearer' : 'appkey';
  const { policy } = options;
  const entry = { name, ...(kind === 'appkey' ? { appkey: secret } : { token: secret }), policy };
  requirePolicy(policiesOf((await loadConfig(home)).uploads), policy, `"${name}"`);
  await change(home, async (entries) => {
    if (entries.some((one) => one.name === name))
      throw new TfsError('CONFLICT', `there is a token "${name}": remove it first, or choose another name`);
    if ((await readToken(home)).text === secret)
      throw new TfsError('CONFLICT', 'this is the secret of secrets/token');
    return [...entries, entry];
  });
  if (kind === 'appkey' && secret.length < APPKEY_CHARS_SAFE)
    io.note(`an appkey of ${secret.length} characters can be guessed: give it a policy that allows for that`);
  io.note(RELOAD);
  io.result({ name, kind, policy, id: tokenOf(secret).id, secret }, secret);
}

async function list(_own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const io = openIo(options.json === true);
  const rows = (await readTokens(await loadConfig(homeOf(options)))).map(({ name, kind, policy, id }) => ({
    name,
    kind,
    policy: policy.name,
    id,
  }));
  const table = columns(
    ['name', 'kind', 'policy', 'id'],
    rows.map((row) => [row.name, row.kind, row.policy, row.id]),
  );
  if (io.json) for (const row of rows) io.result(row, '');
  else io.result({}, table);
}

async function remove(name: string, _own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const home = homeOf(options);
  await change(home, async (entries) => {
    const left = entries.filter((one) => one.name !== name);
    if (left.length === entries.length)
      throw new TfsError('NOT_FOUND', `there is no token "${name}" in ${tokensPath(home)}`);
    return left;
  });
  openIo(options.json === true).result({ name, removed: true }, `"${name}" is removed. ${RELOAD}`);
}

/** Reads, changes and writes the file while nobody else does. */
async function change(
  home: string,
  next: (entries: readonly TokenEntry[]) => Promise<readonly unknown[]>,
): Promise<void> {
  await withStartLock(home, async () => {
    const entries = checkTokenEntries(home, await next(await readTokenEntries(home)));
    await mkdir(secretsDir(home), { recursive: true, mode: 0o700 });
    await replaceFile(tokensPath(home), `${JSON.stringify(entries, null, 2)}\n`, 0o600);
  });
}
