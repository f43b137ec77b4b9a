import type { Command } from 'commander';
import { zDrainServerReply } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { serverNumber } from '../cli/server-number.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';

const ID_HELP = 'number of the DataServer, as in mounts[].id of config.json';

export function register(program: Command): void {
  program
    .command('drain')
    .argument('<id>', ID_HELP, serverNumber)
    .summary('empties a DataServer, so that it can be taken out')
    .description(
      'Empties a DataServer: nothing new is placed on it, what it holds is copied to others and then dropped there. It ' +
        'goes on answering all the time. "tfs status" and "tfs doctor" show how far it is, and when it can be taken out.',
    )
    .action((id: number, _own: unknown, command: Command) => setDrained(command, id, true));
  program
    .command('undrain')
    .argument('<id>', ID_HELP, serverNumber)
    .summary('takes back "tfs drain"')
    .description('Takes back "tfs drain": the DataServer is used as before, with what it still holds.')
    .action((id: number, _own: unknown, command: Command) => setDrained(command, id, false));
}

async function setDrained(command: Command, server: number, drained: boolean): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const reply = await withOperatorPeers(homeOf(options), (peers, config) =>
    askLeader(peers, config, {
      op: Op.DRAIN_SERVER,
      message: { server, drained },
      schema: zDrainServerReply,
    }),
  );
  const io = openIo(options.json === true);
  io.result(
    { server, ...reply },
    drained
      ? `DataServer ${server} is being emptied; npx tfs doctor says when it can be taken out`
      : `DataServer ${server} is used as before`,
  );
  if (!reply.onBoth) io.note('the other NameServer does not answer: it is told as soon as it does');
}
