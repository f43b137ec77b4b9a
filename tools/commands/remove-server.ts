import type { Command } from 'commander';
import { zRemoveServerReply } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { serverNumber } from '../cli/server-number.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';

interface RemoveOptions extends GlobalOptions {
  readonly force?: boolean;
}

export function register(program: Command): void {
  program
    .command('remove-server')
    .argument('<id>', 'number of the DataServer, as in mounts[].id of config.json', serverNumber)
    .summary('takes a DataServer that is lost for good out of the cluster')
    .description(
      'Takes a DataServer that is lost for good out of the cluster, so that nobody waits for it any more. Not to be taken ' +
        'back: its number is never used again, and its disk is not let in. Removes nothing from any disk.',
    )
    .option('--force', 'also where pictures have no other copy, or that is not known')
    .action(async (id: number, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<RemoveOptions>();
      const { removed, onBoth } = await withOperatorPeers(homeOf(options), (peers, config) =>
        askLeader(peers, config, {
          op: Op.REMOVE_SERVER,
          message: { server: id, force: options.force === true },
          schema: zRemoveServerReply,
        }),
      );
      const io = openIo(options.json === true);
      io.result(
        { server: id, removed, onBoth },
        `DataServer ${id} is no part of the cluster any more. Take it out of mounts[] in config.json, then: npm run reload`,
      );
      if (!onBoth) io.note('the other NameServer does not answer: it hears of it from the DataServers');
    });
}
