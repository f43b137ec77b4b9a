import { createHash } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { extensionsOf, mimeOf } from '../../client/gateway/media.ts';
import type { Picture } from '../../client/picture.ts';
import { TfsError } from '../../common/errors.ts';
import { NAME_LENGTH } from '../../common/name.ts';
import { MediaType } from '../../common/wire/messages.ts';
import { withDirectClient } from '../cli/direct.ts';
import type { Download } from '../cli/gateway-api.ts';
import { type CommandIo, openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf, openApi } from '../cli/target.ts';

interface GetOptions extends GlobalOptions {
  readonly output?: string;
  readonly direct?: boolean;
}

export function register(program: Command): void {
  program
    .command('get')
    .summary('read pictures')
    .description('Reads pictures, checked against their SHA-1 before a file gets its name.')
    .argument('<name...>')
    .option(
      '-o, --output <path>',
      'file for one picture, directory for any number; standard output when absent',
    )
    .option('--direct', 'ask the servers of the cluster in --home, without a gateway')
    .action(async (names: string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GetOptions>();
      const io = openIo(options.json === true);
      const output = await outputOf(options.output, names.length, io);
      const save = async (name: string, read: () => Promise<Download>) => {
        try {
          await output(name, await read());
        } catch (error) {
          io.fail(error, name);
        }
      };
      if (options.direct === true) {
        await withDirectClient(homeOf(options), async (client) => {
          for (const name of names) await save(name, async () => ofPicture(await client.get(name)));
        });
        return;
      }
      const api = await openApi(options, { writes: false });
      try {
        for (const name of names) await save(name, () => api.get(name));
      } finally {
        await api.close();
      }
    });
}

type Output = (name: string, picture: Download) => Promise<void>;

async function outputOf(path: string | undefined, count: number, io: CommandIo): Promise<Output> {
  if (path === undefined || path === '-') {
    if (count > 1 || process.stdout.isTTY)
      throw new TfsError('CONFIG', count > 1 ? 'give -o DIRECTORY for several pictures' : 'give -o FILE');
    if (io.json) throw new TfsError('CONFIG', 'with --json the picture needs a file: give -o FILE');
    return (_, picture) => toStdout(picture);
  }
  const isDirectory = await stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );
  if (!isDirectory && count > 1) throw new TfsError('CONFIG', `${path} is not a directory that is there`);
  return async (name, picture) => {
    const file = isDirectory ? join(path, fileNameOf(name, picture.mediaType)) : path;
    const size = await toFile(picture, file);
    io.result(
      { name, file, size, sha1: picture.sha1, mediaType: picture.mediaType },
      `${file}  ${size} bytes`,
    );
  };
}

/** A name is 18 safe characters, but what the user typed may be anything. */
function fileNameOf(name: string, mediaType: string): string {
  const safe = basename(name).replace(/[^\w.-]/g, '_');
  // A name itself may have a dot in it.
  if (/\.\w+$/.test(safe.slice(NAME_LENGTH))) return safe;
  const kind = Object.values(MediaType).find((candidate) => mimeOf(candidate) === mediaType);
  return `${safe}${kind === undefined ? '' : (extensionsOf(kind)[0] ?? '')}`;
}

async function toStdout(picture: Download): Promise<void> {
  const hash = createHash('sha1');
  for await (const piece of picture.body) {
    hash.update(piece);
    if (!process.stdout.write(piece)) await new Promise((resolve) => process.stdout.once('drain', resolve));
  }
  verify(hash.digest('hex'), picture);
}

/** A file of that name is there only with the right bytes. @returns bytes */
async function toFile(picture: Download, path: string): Promise<number> {
  const temporary = `${path}.${process.pid}.part`;
  const hash = createHash('sha1');
  let size = 0;
  try {
    const file = await open(temporary, 'w');
    try {
      for await (const piece of picture.body) {
        hash.update(piece);
        size += piece.length;
        await file.writeFile(piece);
      }
    } finally {
      await file.close();
    }
    verify(hash.digest('hex'), picture);
    await rename(temporary, path);
    return size;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function verify(sha1: string, picture: Download): void {
  if (sha1 === picture.sha1) return;
  throw new TfsError(
    'CORRUPT',
    `the bytes that came have SHA-1 ${sha1}, and ${picture.sha1} was announced: try again`,
  );
}

function ofPicture(picture: Picture): Download {
  const { facts } = picture;
  return {
    mediaType: mimeOf(facts.mediaType),
    size: facts.size,
    sha1: facts.sha1.toString('hex'),
    body: picture.pieces(),
  };
}
