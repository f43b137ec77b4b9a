import { type Command, InvalidArgumentError } from 'commander';
import type { Config } from '../../common/config.ts';
import { isTfsError, type TfsError, toTfsError } from '../../common/errors.ts';
import { zRemoveServerReply } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import { openIo } from '../cli/io.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';

const ASK_MS_MAX = 10_000;

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
        removeServer(peers, config, { server: id, force: options.force === true }),
      );
      const io = openIo(options.json === true);
      io.result(
        { server: id, removed, onBoth },
        `DataServer ${id} is no part of the cluster any more. Take it out of mounts[] in config.json, then: npm run reload`,
      );
      if (!onBoth) io.note('the other NameServer does not answer: it hears of it from the DataServers');
    });
}

/** Only the one that leads can do it. */
async function removeServer(
  peers: Peers,
  { nameservers }: Config,
  order: { readonly server: number; readonly force: boolean },
) {
  let last: TfsError | undefined;
  for (const { host, port } of nameservers) {
    try {
      const asked = peers.callControl(
        { host, port },
        Op.REMOVE_SERVER,
        order,
        zRemoveServerReply,
        undefined,
        ASK_MS_MAX,
      );
      return (await asked).message;
    } catch (error) {
      const failure = toTfsError(error);
      // Its word counts; one that does not lead or does not answer has none.
      if (isTfsError(error, 'CONFLICT') || !failure.retryable) throw failure;
      last = failure;
    }
  }
  throw last;
}

function serverNumber(text: string): number {
  const id = Number(text);
  if (Number.isInteger(id) && id >= 1 && id <= 65_535) return id;
  throw new InvalidArgumentError('it is a whole number from 1.');
}
