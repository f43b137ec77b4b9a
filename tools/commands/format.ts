import { resolve } from 'node:path';
import type { Command } from 'commander';
import { loadConfig } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { adoptMount, surveyMounts } from '../cluster/mounts.ts';

export function register(program: Command): void {
  program
    .command('format')
    .summary('make an empty directory a mount of this cluster')
    .description(
      'Makes an empty directory a mount of this cluster. It must be in config.json; "npm start" does this by itself ' +
        'for a mount that is new there. A directory that holds anything is never touched.',
    )
    .argument('<mount>', 'the directory, as in mounts[].path of config.json')
    .action(async (path: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const config = await loadConfig(homeOf(options));
      const wanted = resolve(path);
      const mount = config.mounts.find((candidate) => candidate.path === wanted);
      if (mount === undefined)
        throw new TfsError(
          'CONFIG',
          `${wanted} is not in ${config.home}/config.json: add it to "mounts" with an id of its own first. There: ` +
            config.mounts.map((candidate) => candidate.path).join(', '),
        );
      const survey = await surveyMounts(config);
      if (survey.missing.includes(mount))
        throw new TfsError(
          'REFUSED',
          `DataServer ${mount.id} had its pictures on a disk at ${wanted}, which is missing now: mount it. If it is ` +
            'lost for good, a new disk is a new DataServer: give it an "id" in config.json that was never used',
        );
      if (survey.known.includes(mount))
        throw new TfsError('REFUSED', `${wanted} is the formatted mount of DataServer ${mount.id} already`);
      await adoptMount(config, mount);
      openIo(options.json === true).result(
        { mount: wanted, server: mount.id },
        `formatted ${wanted} for DataServer ${mount.id}`,
      );
    });
}
