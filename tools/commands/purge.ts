import type { Command } from 'commander';
import { loadConfig } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { decodeName, NAME_LENGTH } from '../../common/name.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { openIo, raiseExitCode } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { type CachePurge, purgeNames } from '../purge/purge-names.ts';

export function register(program: Command): void {
  program
    .command('purge')
    .summary('have the caches in front forget pictures')
    .description(
      'Tells every cache of "purge.caches" in config.json, now and once, to forget these pictures and all renditions of ' +
        'them, and says what each of them answered. The pictures themselves stay as they are. Gateways do the same by ' +
        'themselves when a picture is deleted, hidden, or brought back.',
    )
    .argument('<name...>', 'names, with or without a suffix')
    .addHelpText('after', '\nExit code 5: a cache did not answer, or refused; run it again.')
    .action(async (given: string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const io = openIo(options.json === true);
      const config = await loadConfig(homeOf(options));
      if (config.purge.caches.length === 0)
        throw new TfsError('CONFIG', 'no cache is configured: enter it in purge.caches of config.json');
      // All of them before the first is sent: nothing is done for a list with a slip in it.
      const names = given.map((text) => nameOf(text, config.cluster.digit));
      const purges = await purgeNames(config, names, 'request');
      for (const name of new Set(names)) {
        const own = purges.filter((purge) => purge.name === name);
        io.result({ name, caches: own.map(asJson) }, `${name}  ${own.map(asText).join('; ')}`);
        if (own.some(({ failure }) => failure !== undefined)) raiseExitCode(ExitCode.TRY_LATER);
      }
    });
}

function nameOf(text: string, clusterDigit: number): string {
  const name = decodeName(text);
  if (name === undefined)
    throw new TfsError('BAD_NAME', `${text} is not a name: 18 characters that begin with T are one`);
  if (name.clusterDigit !== clusterDigit)
    throw new TfsError('BAD_NAME', `${text} is a name of cluster ${name.clusterDigit}, not of this one`);
  return text.slice(0, NAME_LENGTH);
}

const asText = ({ cache, failure }: CachePurge): string =>
  failure === undefined ? `purged from ${cache}` : `NOT purged: ${failure}`;

const asJson = ({ cache, failure }: CachePurge): object => ({
  cache,
  purged: failure === undefined,
  ...(failure === undefined ? {} : { failure }),
});
