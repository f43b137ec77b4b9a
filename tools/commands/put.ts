import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { Command } from 'commander';
import { TfsError } from '../../common/errors.ts';
import type { GatewayApi, StoredAnswer } from '../cli/gateway-api.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, openApi } from '../cli/target.ts';

interface PutOptions extends GlobalOptions {
  readonly suffix?: string;
  readonly keepSuffix?: boolean;
  readonly private?: boolean;
}

export function register(program: Command): void {
  program
    .command('put')
    .summary('store pictures')
    .description('Stores pictures and prints the name of each. "-" reads one from standard input.')
    .argument('<file...>')
    .option('--suffix <suffix>', 'suffix that belongs to the name, such as .jpg')
    .option('--keep-suffix', "take each file's own suffix")
    .option('--private', 'show it to those alone who have a signed URL ("tfs sign")')
    .action(async (files: string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<PutOptions>();
      const io = openIo(options.json === true);
      const api = await openApi(options, { writes: true });
      try {
        for (const file of files) {
          try {
            const stored = await putFile(api, file, {
              suffix: suffixFor(file, options),
              isPrivate: options.private === true,
            });
            io.result({ file, ...stored }, `${stored.name}  ${stored.url}  ${file}`);
          } catch (error) {
            io.fail(error, file);
          }
        }
      } finally {
        await api.close();
      }
    });
}

async function putFile(
  api: GatewayApi,
  file: string,
  { suffix, isPrivate }: { readonly suffix: string | undefined; readonly isPrivate: boolean },
): Promise<StoredAnswer> {
  const more = { key: randomUUID(), isPrivate, ...(suffix === undefined ? {} : { suffix }) };
  if (file === '-') {
    const bytes = await buffer(process.stdin);
    return api.put({ body: () => bytes, size: bytes.length, ...more });
  }
  const { size } = await stat(file).catch((cause: Error) => {
    throw new TfsError('BAD_REQUEST', cause.message, { cause });
  });
  return api.put({ body: () => createReadStream(file), size, ...more });
}

function suffixFor(file: string, options: PutOptions): string | undefined {
  if (options.suffix !== undefined) return options.suffix;
  const own = options.keepSuffix === true ? extname(file).toLowerCase() : '';
  return own === '' ? undefined : own;
}
