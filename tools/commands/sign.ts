import type { Command } from 'commander';
import { presetsOf } from '../../client/gateway/images/presets.ts';
import { imageRequest } from '../../client/gateway/images/request.ts';
import { SigningKeys } from '../../client/gateway/images/signature.ts';
import { loadConfig } from '../../common/config.ts';
import { secondsOf } from '../../common/duration.ts';
import { TfsError } from '../../common/errors.ts';
import {
  encodeImageKeys,
  freshImageKey,
  type ImageKey,
  imageKeysPath,
  readImageKeys,
} from '../../common/image-keys.ts';
import { decodeName, NAME_LENGTH } from '../../common/name.ts';
import { columns } from '../cli/columns.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf, urlOfHome } from '../cli/target.ts';
import { replaceFile } from '../cluster/home.ts';
import { withStartLock } from '../cluster/start-lock.ts';

interface SignOptions extends GlobalOptions {
  readonly expires: number;
}

const EXPIRES_DEFAULT = '1h';
const EXPIRES_SECONDS_MAX = 10 * 365 * 24 * 3600;
const RELOAD = 'Gateways read the keys when they start: npm run reload -- gateway';

export function register(program: Command): void {
  program
    .command('sign')
    .summary('signs URLs of pictures and renditions')
    .description(
      'Prints URLs that are good for a while, of pictures and renditions that nobody gets without: private pictures, all ' +
        'where images.signedOriginals is set, and renditions that images.policy does not make for everybody. A picture is ' +
        'given as in a URL: NAME, NAME.jpg_310x310.jpg, "NAME?w=310&fm=auto" or "NAME?p=thumb". No gateway is asked.',
    )
    .argument('<picture...>')
    .option(
      '--expires <duration>',
      'how long they are good: 90s, 15m, 2h, 7d',
      readExpires,
      readExpires(EXPIRES_DEFAULT),
    )
    .action(sign);
  const keys = program
    .command('keys')
    .summary('the keys that URLs are signed with')
    .description(
      'Keys of secrets/images.json. The first of them signs; what any of them has signed is taken. To change keys: rotate, ' +
        `reload the gateways, and remove the old one when what it has signed has expired. ${RELOAD}`,
    );
  keys.command('list').summary('their ids; never the keys').action(list);
  keys.command('rotate').summary('makes a new one, with which is signed from now on').action(rotate);
  keys.command('remove').argument('<id>').summary('what it has signed is no longer taken').action(remove);
}

async function sign(pictures: string[], _own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<SignOptions>();
  const io = openIo(options.json === true);
  const home = homeOf(options);
  const config = await loadConfig(home);
  const keys = new SigningKeys(await readImageKeys(home));
  const presets = presetsOf(config.images.presets);
  const base = (options.url ?? process.env['TFS_URL'] ?? (await urlOfHome(home))).replace(/\/$/, '');
  const expires = Math.floor(Date.now() / 1000) + options.expires;
  for (const picture of pictures) {
    try {
      const at = picture.indexOf('?');
      const path = at < 0 ? picture : picture.slice(0, at);
      const query = at < 0 ? '' : picture.slice(at + 1);
      if (decodeName(path) === undefined)
        throw new TfsError('BAD_NAME', 'this is not a name: 18 characters that begin with T are one');
      const name = path.slice(0, NAME_LENGTH);
      const request = imageRequest(path.slice(NAME_LENGTH), query, presets);
      if (request.signing.size > 0) throw new TfsError('BAD_REQUEST', 'it is signed already');
      const signed = new URLSearchParams({ ...keys.sign({ name, rendition: request.rendition, expires }) });
      const url = `${base}/images/${path}?${query === '' ? '' : `${query}&`}${signed.toString()}`;
      io.result({ picture, url, expires: new Date(expires * 1000).toISOString() }, url);
    } catch (error) {
      io.fail(error, picture);
    }
  }
}

async function list(_own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const io = openIo(options.json === true);
  const rows = (await readImageKeys(homeOf(options))).map(({ id }, i) => ({ id, signs: i === 0 }));
  if (io.json) for (const row of rows) io.result(row, '');
  else
    io.result(
      {},
      columns(
        ['id', ''],
        rows.map(({ id, signs }) => [id, signs ? 'signs' : 'is taken']),
      ),
    );
}

async function rotate(_own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const home = homeOf(options);
  const key = freshImageKey();
  await change(home, (keys) => [key, ...keys]);
  openIo(options.json === true).result({ id: key.id, signs: true }, `${key.id} signs from now on. ${RELOAD}`);
}

async function remove(id: string, _own: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const home = homeOf(options);
  await change(home, (keys) => {
    const left = keys.filter((key) => key.id !== id);
    if (left.length === keys.length) throw new TfsError('NOT_FOUND', `there is no key ${id}`);
    if (left.length === 0)
      throw new TfsError('CONFLICT', `${id} is the only key: make another one first ("tfs keys rotate")`);
    return left;
  });
  openIo(options.json === true).result({ id, removed: true }, `${id} is removed. ${RELOAD}`);
}

/** Reads, changes and writes the file while nobody else does. */
async function change(home: string, next: (keys: readonly ImageKey[]) => readonly ImageKey[]): Promise<void> {
  await withStartLock(home, async () => {
    await replaceFile(imageKeysPath(home), `${encodeImageKeys(next(await readImageKeys(home)))}\n`);
  });
}

function readExpires(text: string): number {
  const seconds = secondsOf(text);
  if (seconds !== undefined && seconds > 0 && seconds <= EXPIRES_SECONDS_MAX) return seconds;
  throw new TfsError('BAD_REQUEST', '--expires must be like 90s, 15m, 2h or 7d');
}
