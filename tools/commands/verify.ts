import { type Command, InvalidArgumentError } from 'commander';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import type { ServerId } from '../../common/ids.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { openIo, raiseExitCode } from '../cli/io.ts';
import { withOperator } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { type ByteProgress, openByteProgress } from '../offline/progress.ts';
import { awaitRepair } from '../verify/await-repair.ts';
import { type Finding, lostRecords } from '../verify/findings.ts';
import { type Survey, survey } from '../verify/survey.ts';

interface VerifyOptions extends GlobalOptions {
  readonly allReplicas?: boolean;
  readonly repairWait: number;
  /** False with --no-wait. */
  readonly wait: boolean;
}

const REPAIR_WAIT_S_DEFAULT = 60;
const MB = 1e6;

export function register(program: Command): void {
  program
    .command('verify')
    .summary('read everything that is stored and check it')
    .description(
      'Has the running DataServers of the cluster in --home read every record of every block from their disks, and ' +
        'reports each one that does not verify. What is damaged is repaired from other replicas; waits for that.',
    )
    .option('--all-replicas', 'every replica of each block, instead of one; compares them with each other')
    .option('--repair-wait <seconds>', 'how long to wait for repairs', seconds, REPAIR_WAIT_S_DEFAULT)
    .option('--no-wait', 'do not wait for repairs: any damage is a failure')
    .addHelpText('after', '\nExit code 0 only when all of it is right at the end.')
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const io = openIo(options.json === true);
      await withOperator(homeOf(options), async (operator) => {
        const startedMs = performance.now();
        let progress: ByteProgress | undefined;
        const found = await survey(operator, {
          allReplicas: options.allReplicas === true,
          onStart: (bytes) => {
            progress = openByteProgress(bytes, process.stderr.isTTY === true && !io.json);
          },
          onProgress: (bytes) => progress?.at(bytes, ''),
          onFinding: (finding) => io.result(finding, lineOf(finding)),
          onUnread: (server, why) => io.note(`the replicas of server ${server} are not read: ${why}`),
        });
        progress?.stop();
        const seconds = (performance.now() - startedMs) / 1000;
        const left = options.wait
          ? await awaitRepair(operator, found, {
              waitMs: options.repairWait * 1000,
              clock: nodeClock,
              onRepaired: (server, block) => io.note(`repaired: server ${server}, block ${block}`),
            })
          : found.findings;
        const stillWrong = [...left, ...found.differing];
        const totals = totalsOf(found, stillWrong, seconds, options.allReplicas === true);
        io.result(totals, textOf(totals));
        for (const finding of io.json ? [] : stillWrong) io.note(`still damaged: ${lineOf(finding)}`);
        if (!totals.ok) raiseExitCode(ExitCode.FAILED);
      });
    });
}

interface Totals {
  readonly ok: boolean;
  readonly blocks: number;
  readonly replicas: number;
  readonly records: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly mbPerSecond: number;
  /** Things found wrong, and how many of them are right now. */
  readonly damaged: number;
  readonly repaired: number;
  /** Records that no replica has; known only when all replicas were read. */
  readonly lost: number;
  readonly left: readonly Finding[];
  readonly unreadServers: readonly ServerId[];
}

function totalsOf(found: Survey, left: readonly Finding[], seconds: number, allReplicas: boolean): Totals {
  const { replicas, blocks, records, bytes, unread } = found;
  const damaged = found.findings.length + found.differing.length;
  return {
    ok: left.length === 0 && unread.length === 0,
    blocks,
    replicas,
    records,
    bytes,
    seconds: Number(seconds.toFixed(3)),
    mbPerSecond: Number((bytes / MB / Math.max(seconds, 0.001)).toFixed(1)),
    damaged,
    repaired: Math.max(0, damaged - left.length),
    lost: allReplicas ? lostRecords(left, found.holders) : 0,
    left,
    unreadServers: unread,
  };
}

function textOf(totals: Totals): string {
  const { ok, blocks, replicas, records, bytes, seconds, mbPerSecond, damaged, repaired, lost } = totals;
  const read =
    `${blocks} blocks, ${replicas} replicas, ${records} records, ${(bytes / MB).toFixed(1)} MB ` +
    `in ${seconds.toFixed(1)} s (${mbPerSecond} MB/s)`;
  return `${ok ? 'all right' : 'NOT all right'}: ${read}; ${damaged} damaged, ${repaired} repaired, ${lost} lost`;
}

const lineOf = ({ server, block, problem }: Finding): string =>
  `server ${server}, block ${block}: ${problem}`;

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('a number of seconds is needed');
  return value;
}
