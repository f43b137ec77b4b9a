import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../../common/config.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { addMount } from '../cluster/add-mount.ts';
import { withStartLock } from '../cluster/start-lock.ts';

interface AddOptions extends GlobalOptions {
  readonly domain?: string;
  readonly host?: string;
  readonly capacityBytes?: number;
}

export function register(program: Command): void {
  program
    .command('add')
    .argument('<path>', 'an empty directory, on a disk of its own')
    .summary('enters a new disk into the configuration')
    .description(
      'Enters a mount into config.json, with an id that was never used and free ports. "npm run reload" then formats and ' +
        'starts it; blocks are moved to it from fuller disks in the background.',
    )
    .option('--domain <name>', 'what fails together with it (default: nothing else does)')
    .option('--host <host>', 'where its DataServer listens (default: as the first mount)')
    .option('--capacity-bytes <n>', 'its share (default: the size of its file system)', bytesOf)
    .action(async (path: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<AddOptions>();
      const home = homeOf(options);
      const { domain, host, capacityBytes } = options;
      const mount = { path: resolve(path), domain, host, capacityBytes };
      const entry = await withStartLock(home, async () => addMount(await loadConfig(home), mount));
      openIo(options.json === true).result(
        entry,
        `DataServer ${entry.id} with ${entry.path} is in config.json, in failure domain ${entry.domain}. ` +
          'To format and start it: npm run reload',
      );
    });
}

function bytesOf(text: string): number {
  const bytes = Number(text);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new InvalidArgumentError('it is a whole number from 1.');
}
