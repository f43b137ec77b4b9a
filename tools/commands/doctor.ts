import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { type Config, loadConfig } from '../../common/config.ts';
import { openIo } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { type Diagnosis, diagnose, type Verdict } from '../doctor/diagnose.ts';
import type { Finding } from '../doctor/finding.ts';
import { gatherFacts } from '../doctor/gather.ts';

/** Part of the interface, for cron and probes. */
const EXIT: Readonly<Record<Verdict, number>> = { healthy: 0, degraded: 1, 'at risk': 2 };
/** An election, or a server that has just come up: what is over by then need not be told. */
const LOOK_AGAIN_MS = 2_500;

export function register(program: Command): void {
  program
    .command('doctor')
    .summary('what is wrong, what happens by itself, and what somebody has to do')
    .description(
      'Looks at the cluster in --home and gives one verdict: healthy; degraded (one more failure is survived); or at ' +
        'risk (a picture has one copy or none that can be had now, uploads are refused, or damage could not be mended).',
    )
    .addHelpText('after', '\nExit code: 0 healthy · 1 degraded · 2 at risk. See docs/operations.md.')
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const config = await loadConfig(homeOf(options));
      const diagnosis = await examine(config);
      openIo(options.json === true).result(diagnosis, formatted(diagnosis));
      process.exitCode = EXIT[diagnosis.verdict];
    });
}

/** Twice when something is wrong, so that a moment is not taken for a state. */
async function examine(config: Config): Promise<Diagnosis> {
  const first = diagnose(await gatherFacts(config, process.env));
  if (first.verdict === 'healthy' || first.findings.some(({ code }) => code === 'not-running')) return first;
  await sleep(LOOK_AGAIN_MS);
  return diagnose(await gatherFacts(config, process.env));
}

function formatted({ verdict, findings }: Diagnosis): string {
  return [verdict, ...findings.map(paragraph)].join('\n\n');
}

function paragraph({ code, level, what, why, itself, todo }: Finding): string {
  const lines = [`${level}: ${what}  [${code}]`, `  why      ${why}`, `  itself   ${itself}`];
  return [...lines, ...(todo === null ? [] : [`  do       ${todo}`])].join('\n');
}
