// Runs seeds of the simulator on all cores for as long as it is told. Ends with 1 when any of them failed.
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SingleBar } from 'cli-progress';
import { ChildPool } from '../kit/child-pool.ts';
import { wholeOption } from '../kit/command-line.ts';
import { addTo, describeTotals, noTotals, type Summary } from './report.ts';

const FAILURES_MAX = 50;

const USAGE = `usage: npm run soak -- [options]
  --minutes N        begin no new seed after so long (60)
  --from N           the first seed (drawn from the date: no two soaks are the same)
  --seeds N          no more than so many
  --operations N     of each seed (1500)
  --jobs N           processes (one for each core)
  --help
Other kinds of soaking: npm run soak:crash, npm run test:faults.`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    from: { type: 'string' },
    seeds: { type: 'string' },
    operations: { type: 'string', default: '1500' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) console.log(USAGE);
else await soak();

async function soak(): Promise<void> {
  const minutes = wholeOption('minutes', values.minutes);
  const first =
    values.from === undefined
      ? Math.floor(Date.now() / 1000) % 1_000_000_000
      : wholeOption('from', values.from);
  const seeds = values.seeds === undefined ? Number.POSITIVE_INFINITY : wholeOption('seeds', values.seeds);
  const operations = wholeOption('operations', values.operations);
  const jobs = Math.max(1, wholeOption('jobs', values.jobs));
  const startedMs = Date.now();
  const untilMs = startedMs + minutes * 60_000;
  const totals = noTotals();
  const failures: Summary[] = [];
  let seed = first;
  const bar = new SingleBar({
    format:
      '{bar} {percentage}% of the time, {seeds} seeds, {rate} in a second, {hours} virtual hours, {violations} violations',
    noTTYOutput: true,
    notTTYSchedule: 60_000,
  });
  const pool = new ChildPool<{ readonly operations: number }, number, Summary>({
    jobs,
    worker: join(import.meta.dirname, `worker${extname(import.meta.filename)}`),
    start: { operations },
    next: () =>
      Date.now() < untilMs && seed - first < seeds && failures.length < FAILURES_MAX ? seed++ : undefined,
    done: (summary) => {
      addTo(totals, summary);
      if (summary.wrong !== undefined) {
        failures.push(summary);
        console.log(`\n${describeFailure(summary)}`);
      }
      const nowMs = Date.now();
      bar.update(Math.min(nowMs - startedMs, minutes * 60_000), {
        seeds: totals.seeds,
        rate: ((totals.seeds * 1000) / (nowMs - startedMs)).toFixed(2),
        hours: (totals.virtualMs / 3_600_000).toFixed(1),
        violations: failures.length,
      });
    },
  });
  process.once('SIGINT', () => pool.stop());
  console.log(`seeds from ${first} on, ${operations} operations each, ${jobs} processes, ${minutes} minutes`);
  bar.start(minutes * 60_000, 0, { seeds: 0, rate: 0, hours: 0, violations: 0 });
  await pool.run().finally(() => bar.stop());
  console.log(describeTotals(totals, (Date.now() - startedMs) / 1000, failures.length).join('\n'));
  for (const failure of failures) console.log(`\n${describeFailure(failure)}`);
  process.exitCode = failures.length > 0 || totals.seeds === 0 ? 1 : 0;
}

function describeFailure({ seed, plan, wrong }: Summary): string {
  const operations = values.operations === '1500' ? '' : ` --operations ${values.operations}`;
  return `FAILED ${plan}\n  ${wrong}\n  npm run sim -- --seed ${seed}${operations} --minimize`;
}
