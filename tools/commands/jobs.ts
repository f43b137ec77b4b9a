import { Argument, type Command } from 'commander';
import type { Config } from '../../common/config.ts';
import { toTfsError } from '../../common/errors.ts';
import { JOB_KINDS } from '../../common/jobs.ts';
import { TOLD_JOBS_MAX, zJobsReply, zPauseJobsReply } from '../../common/wire/job-questions.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { jobsText } from '../jobs/texts.ts';

const TELL_MS_MAX = 5_000;

export function register(program: Command): void {
  const jobs = program
    .command('jobs')
    .summary('work on blocks: what runs and waits, how fast, until when; pause and resume')
    .description(
      'Shows the work on blocks (making copies again, taking out garbage, evening out disks, reading what was not read ' +
        'for long): what is wanted, what runs, waits and was left alone after several failures, the ' +
        'rate of the last minute, and when it will be done at that rate.',
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const question = { op: Op.JOBS, message: { max: TOLD_JOBS_MAX }, schema: zJobsReply };
      const reply = await withOperatorPeers(homeOf(options), (peers, config) =>
        askLeader(peers, config, question),
      );
      openIo(options.json === true).result(reply, jobsText(reply));
    });
  for (const verb of ['pause', 'resume'] as const)
    jobs
      .command(verb)
      .addArgument(new Argument('<kind>', 'kind of job').choices(JOB_KINDS))
      .summary(
        verb === 'pause' ? 'stops jobs of a kind, until they are resumed' : 'lets jobs of a kind go on',
      )
      .action(async (kind: string, _own: unknown, command: Command) => {
        const options = command.optsWithGlobals<GlobalOptions>();
        const isPaused = verb === 'pause';
        const io = openIo(options.json === true);
        const told = await withOperatorPeers(homeOf(options), (peers, config) =>
          tellBoth(peers, config, { kind, paused: isPaused }),
        );
        const text = isPaused
          ? `No job of the kind ${kind} is begun any more. What runs is finished. Again: tfs jobs resume ${kind}`
          : `Jobs of the kind ${kind} go on.`;
        io.result({ kind, paused: isPaused, nameservers: told.done }, text);
        for (const why of told.failed)
          io.note(`a NameServer does not know it, and would act otherwise if it came to lead: ${why}`);
      });
}

/** Each keeps it by itself, so that it holds whoever leads. @throws TfsError where neither could be told */
async function tellBoth(
  peers: Peers,
  { nameservers }: Config,
  message: { readonly kind: string; readonly paused: boolean },
): Promise<{ readonly done: number[]; readonly failed: string[] }> {
  const done: number[] = [];
  const failed: string[] = [];
  let last: unknown;
  for (const { id, host, port } of nameservers) {
    try {
      await peers.callControl(
        { host, port },
        Op.PAUSE_JOBS,
        message,
        zPauseJobsReply,
        undefined,
        TELL_MS_MAX,
      );
      done.push(id);
    } catch (error) {
      last = error;
      failed.push(`NameServer ${id}: ${toTfsError(error).message}`);
    }
  }
  if (done.length === 0) throw last;
  return { done, failed };
}
