import { type Command, InvalidArgumentError } from 'commander';
import { zWhyReply } from '../../common/wire/job-questions.ts';
import { Op } from '../../common/wire/messages.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { whyText } from '../jobs/texts.ts';

const BLOCK_MAX = 0xffff_ffff;

export function register(program: Command): void {
  program
    .command('why')
    .argument('<block>', 'number of the block, as in logs and in the names of its files', blockNumber)
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

function blockNumber(text: string): number {
  const block = Number(text);
  if (text !== '' && Number.isInteger(block) && block >= 0 && block <= BLOCK_MAX) return block;
  throw new InvalidArgumentError('it is a whole number, such as 131072.');
}
