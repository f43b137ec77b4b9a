import type { Command } from 'commander';
import { zWhyReply } from '../../common/wire/job-questions.ts';
import { Op } from '../../common/wire/messages.ts';
import { BLOCK_HELP, blockNumber } from '../cli/block-number.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { whyText } from '../jobs/texts.ts';

export function register(program: Command): void {
  program
    .command('why')
    .argument('<block>', BLOCK_HELP, blockNumber)
    .summary('how the copies of one block are, what is wanted of it, and why')
    .description(
      'Says of one block how each of its copies is, what the leading NameServer wants done to it and why, what is under ' +
        'way, and what failed.',
    )
    .action(async (block: number, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const question = { op: Op.WHY, message: { block }, schema: zWhyReply };
      const reply = await withOperatorPeers(homeOf(options), (peers, config) =>
        askLeader(peers, config, question),
      );
      openIo(options.json === true).result(reply, whyText(reply));
    });
}
