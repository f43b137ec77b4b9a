import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, openApi } from '../cli/target.ts';

const COMMANDS = {
  rm: [
    'remove',
    'delete pictures',
    'Deletes pictures. "tfs undelete" brings them back for a few days.',
    'deleted',
  ],
  undelete: ['undelete', 'bring deleted pictures back', 'Brings deleted pictures back.', 'undeleted'],
  hide: ['hide', 'take pictures out of view', 'Takes pictures out of view until "tfs reveal".', 'hidden'],
  reveal: ['reveal', 'show hidden pictures again', 'Shows hidden pictures again.', 'revealed'],
} as const;

/** rm, undelete, hide, reveal: a repeat of any of them succeeds. */
export function register(program: Command): void {
  for (const [name, [kind, summary, description, done]] of Object.entries(COMMANDS)) {
    program
      .command(name)
      .summary(summary)
      .description(description)
      .argument('<name...>')
      .action(async (names: string[], _own: unknown, command: Command) => {
        const options = command.optsWithGlobals<GlobalOptions>();
        const io = openIo(options.json === true);
        const api = await openApi(options, { writes: true });
        try {
          for (const picture of names) {
            try {
              await api.mutate(picture, kind, randomUUID());
              io.result({ name: picture, state: done }, `${picture}  ${done}`);
            } catch (error) {
              io.fail(error, picture);
            }
          }
        } finally {
          await api.close();
        }
      });
  }
}
