import { type Command, InvalidArgumentError } from 'commander';
import type { Config } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { zPromoteReply } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import { openIo } from '../cli/io.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';

const ASK_MS_MAX = 3_000;

interface PromoteOptions extends GlobalOptions {
  readonly force?: boolean;
}

export function register(program: Command): void {
  program
    .command('promote')
    .argument('<id>', 'number of the NameServer, as in config.json', nameserverId)
    .summary('makes a NameServer lead')
    .description(
      'Makes a NameServer lead, in place of the one that does: before the machine of that one is stopped, or when the ' +
        'two cannot decide. Uploads and reads go on meanwhile.',
    )
    .option(
      '--force',
      'also when it has not heard of every block yet, or the other NameServer does not answer',
    )
    .action(async (id: number, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<PromoteOptions>();
      const { reign, leads } = await withOperatorPeers(homeOf(options), (peers, config) =>
        promote(peers, config, id, options.force === true),
      );
      if (!leads)
        throw new TfsError(
          'UNAVAILABLE',
          `NameServer ${id} gave way to NameServer ${reign.nameserver} (epoch ${reign.epoch}): try again`,
        );
      const text = `NameServer ${id} leads, epoch ${reign.epoch}`;
      openIo(options.json === true).result({ nameserver: id, epoch: reign.epoch }, text);
    });
}

async function promote(peers: Peers, config: Config, id: number, force: boolean) {
  const own = config.nameservers.find((candidate) => candidate.id === id);
  if (own === undefined) {
    const known = config.nameservers.map((candidate) => candidate.id).join(', ');
    throw new TfsError('CONFIG', `there is no NameServer ${id} in config.json (there: ${known})`);
  }
  const address = { host: own.host, port: own.port };
  return (await peers.callControl(address, Op.PROMOTE, { force }, zPromoteReply, undefined, ASK_MS_MAX))
    .message;
}

function nameserverId(text: string): number {
  if (text === '0' || text === '1') return Number(text);
  throw new InvalidArgumentError('it is 0 or 1.');
}
