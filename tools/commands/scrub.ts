import { type Command, InvalidArgumentError } from 'commander';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { TfsError } from '../../common/errors.ts';
import { RPC_MS_DEFAULT } from '../../common/limits.ts';
import { Op } from '../../common/wire/messages.ts';
import { zScrubFigures } from '../../common/wire/scrub.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { openIo, raiseExitCode } from '../cli/io.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { scrubLine } from '../cli/scrub-line.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { askClusterMap } from '../cluster/cluster-view.ts';
import { type ByteProgress, openByteProgress } from '../offline/progress.ts';
import { runScrub, type ServerScrub } from '../scrub/run.ts';

interface ScrubOptions extends GlobalOptions {
  readonly fullSpeed?: boolean;
  readonly wait?: boolean;
  readonly repairWait: number;
}

const REPAIR_WAIT_S_DEFAULT = 60;
const MB = 1e6;

export function register(program: Command): void {
  program
    .command('scrub')
    .argument('[server]', 'only this DataServer', serverNumber)
    .summary('have every sealed copy read through now, instead of in the course of a week')
    .description(
      'Has the running DataServers read all their sealed replicas through, from now on. What does not verify is repaired ' +
        'from other replicas. Without --full-speed it keeps its usual pace, which reads of pictures do not notice.',
    )
    .option('--full-speed', 'as fast as the disks give it; reads and uploads may get slower')
    .option('--wait', 'until it is over and what it found is repaired')
    .option('--repair-wait <seconds>', 'how long to wait for repairs', seconds, REPAIR_WAIT_S_DEFAULT)
    .addHelpText('after', '\nWith --wait, exit code 0 only when everything was read and is right at the end.')
    .action(async (server: number | undefined, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<ScrubOptions>();
      const io = openIo(options.json === true);
      let progress: ByteProgress | undefined;
      const startedMs = performance.now();
      const found = await withOperatorPeers(homeOf(options), async (peers, config) => {
        const { servers } = await askClusterMap(peers, config);
        const chosen = servers.filter(({ id }) => server === undefined || id === server);
        if (chosen.length === 0)
          throw new TfsError(
            'NOT_FOUND',
            `no DataServer ${server}: there are ${servers.map(({ id }) => id).join(', ')}`,
          );
        return runScrub(chosen, {
          begin: options.fullSpeed === true ? 'full-speed' : 'pass',
          wait: options.wait === true,
          repairWaitMs: options.repairWait * 1000,
          clock: nodeClock,
          ask: async ({ address }, begin) =>
            (await peers.callControl(address, Op.SCRUB, { begin }, zScrubFigures, undefined, RPC_MS_DEFAULT))
              .message,
          onProgress: (bytes, total) => {
            progress ??= openByteProgress(total, process.stderr.isTTY === true && !io.json);
            progress.at(bytes, '');
          },
        });
      });
      progress?.stop();
      const totals = totalsOf(found, (performance.now() - startedMs) / 1000);
      io.result({ ...totals, servers: found }, textOf(found, options.wait === true ? totals : undefined));
      if (found.some(({ failure }) => failure !== undefined)) raiseExitCode(ExitCode.FAILED);
      else if (options.wait === true && !totals.ok) raiseExitCode(ExitCode.FAILED);
    });
}

interface Totals {
  /** Every replica verifies now. */
  readonly ok: boolean;
  readonly replicas: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly mbPerSecond: number;
  /** Replicas found damaged, and places where they were. */
  readonly damaged: number;
  readonly problems: number;
  /** Replicas that do not verify now. */
  readonly left: number;
}

/** @param elapsed seconds, for servers whose pass has not ended */
function totalsOf(found: readonly ServerScrub[], elapsed: number): Totals {
  const sum = (of: (scrub: ServerScrub) => number | undefined) =>
    found.reduce((total, scrub) => total + (of(scrub) ?? 0), 0);
  const seconds = Math.max(
    0.001,
    ...found.map(({ figures }) =>
      figures?.pass?.endedAtMs === undefined
        ? elapsed
        : (figures.pass.endedAtMs - figures.pass.startedAtMs) / 1000,
    ),
  );
  const bytes = sum(({ figures }) => figures?.pass?.bytes);
  const left = sum(({ figures }) => figures?.suspects);
  return {
    ok: left === 0 && found.every(({ failure }) => failure === undefined),
    replicas: sum(({ figures }) => figures?.pass?.replicas),
    bytes,
    seconds: Number(seconds.toFixed(3)),
    mbPerSecond: Number((bytes / MB / seconds).toFixed(1)),
    damaged: sum(({ figures }) => figures?.pass?.damaged),
    problems: sum(({ figures }) => figures?.pass?.problems),
    left,
  };
}

function textOf(found: readonly ServerScrub[], totals: Totals | undefined): string {
  const lines = found.map(({ server, figures, failure }) => {
    const why = failure === undefined ? [] : [`not asked: ${failure}`];
    const how = figures === undefined ? [] : [scrubLine(figures, Date.now())];
    return `server ${server}: ${[...how, ...why].join('; ')}`;
  });
  if (totals === undefined) return lines.join('\n');
  const { ok, replicas, bytes, seconds, mbPerSecond, damaged, problems, left } = totals;
  const read = `${replicas} replicas, ${(bytes / MB).toFixed(1)} MB in ${seconds.toFixed(1)} s (${mbPerSecond} MB/s)`;
  const wrong = `${damaged} were damaged (in ${problems} places), ${left} are now`;
  return [...lines, `${ok ? 'all right' : 'NOT all right'}: ${read}; ${wrong}`].join('\n');
}

function serverNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('the number of a DataServer is needed');
  return value;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('a number of seconds is needed');
  return value;
}
