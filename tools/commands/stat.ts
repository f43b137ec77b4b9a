import type { Command } from 'commander';
import { isPrivate, mimeOf } from '../../client/gateway/media.ts';
import { NameFlag, type ReadReply } from '../../common/wire/messages.ts';
import { withDirectClient } from '../cli/direct.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf, openApi } from '../cli/target.ts';

interface StatOptions extends GlobalOptions {
  readonly direct?: boolean;
}

export function register(program: Command): void {
  program
    .command('stat')
    .summary('what is known of a picture')
    .description(
      'Prints what is known of pictures without reading their bytes; with the token also of deleted ones.',
    )
    .argument('<name...>')
    .option('--direct', 'ask the servers of the cluster in --home, without a gateway')
    .action(async (names: string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<StatOptions>();
      const io = openIo(options.json === true);
      const show = async (name: string, ask: () => Promise<object>) => {
        try {
          const facts = { name, ...(await ask()) };
          io.result(facts, describe(facts));
        } catch (error) {
          io.fail(error, name);
        }
      };
      if (options.direct === true) {
        await withDirectClient(homeOf(options), async (client) => {
          for (const name of names)
            await show(name, async () => {
              const { block, fileId } = client.parse(name);
              return { block, fileId, ...ofReply(await client.stat(name, { force: true })) };
            });
        });
        return;
      }
      const api = await openApi(options, { writes: false });
      try {
        for (const name of names) await show(name, () => api.metadata(name));
      } finally {
        await api.close();
      }
    });
}

function ofReply(facts: ReadReply): object {
  const has = (flag: number) => (facts.nameFlags & flag) !== 0;
  return {
    size: facts.size,
    mediaType: mimeOf(facts.mediaType),
    private: isPrivate(facts.mediaType),
    sha1: facts.sha1.toString('hex'),
    stored: new Date(facts.mtimeMs).toISOString(),
    alias: facts.alias,
    deleted: has(NameFlag.DELETED),
    hidden: has(NameFlag.HIDDEN),
    purged: has(NameFlag.PURGED),
    lost: has(NameFlag.LOST),
    provisional: facts.provisional,
  };
}

function describe(facts: object): string {
  const entries = Object.entries(facts);
  const width = Math.max(...entries.map(([key]) => key.length));
  return `${entries
    .map(
      ([key, value]) =>
        `${key.padEnd(width)}  ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`,
    )
    .join('\n')}\n`;
}
