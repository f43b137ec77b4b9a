import { type Command, InvalidArgumentError } from 'commander';
import { TfsError } from '../../common/errors.ts';
import { WANTED_MAX } from '../../common/limits.ts';
import { zPlanReply } from '../../common/wire/job-questions.ts';
import { Op } from '../../common/wire/messages.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { planText } from '../jobs/texts.ts';

interface PlanOptions extends GlobalOptions {
  readonly dryRun?: boolean;
  readonly max: number;
}

export function register(program: Command): void {
  program
    .command('plan')
    .summary('what would be done to which blocks, in which order, and why')
    .description(
      'Lists what the leading NameServer wants done, the most urgent first, each with the reason. It does so by itself; ' +
        'this only looks.',
    )
    .option('--dry-run', 'look and change nothing: the only way there is, and to be said')
    .option('--max <count>', `at most so many (up to ${WANTED_MAX})`, countOf, 50)
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<PlanOptions>();
      if (options.dryRun !== true)
        throw new TfsError(
          'BAD_REQUEST',
          'work is planned and done by itself; to see what is planned: tfs plan --dry-run',
        );
      const question = { op: Op.PLAN, message: { max: options.max }, schema: zPlanReply };
      const reply = await withOperatorPeers(homeOf(options), (peers, config) =>
        askLeader(peers, config, question),
      );
      openIo(options.json === true).result(reply, planText(reply));
    });
}

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= WANTED_MAX) return count;
  throw new InvalidArgumentError(`it is a whole number from 1 to ${WANTED_MAX}.`);
}
