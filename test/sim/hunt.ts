// Looks for every planted bug with the simulator: seeds with the faults that make it show, until one of them fails. Ends
// with 1 when a bug was not caught, or when a seed fails that has none.
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SingleBar } from 'cli-progress';
import { ChildPool } from '../kit/child-pool.ts';
import { refuse, wholeOption } from '../kit/command-line.ts';
import { PLANTED_BUG_NAMES, type PlantedBugName } from '../kit/planted-bugs.ts';
import { Hunt } from './hunt-table.ts';
import type { Quarry, Trial } from './trial.ts';

const USAGE = `usage: npm run sim:bugs -- [options]
  --bug NAME         only this planted bug; may be repeated (all; npm run sim -- --list shows them)
  --seeds N          of each, at most (2000)
  --from N           the first seed (1)
  --jobs N           processes (one for each core)
  --help
A seed that fails is run once more without the bug: only where that is good, and what is wrong is what the bug breaks, the
bug was caught.`;

const { values } = parseArgs({
  options: {
    bug: { type: 'string', multiple: true, default: [...PLANTED_BUG_NAMES] },
    seeds: { type: 'string', default: '2000' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) console.log(USAGE);
else await hunt();

async function hunt(): Promise<void> {
  const first = wholeOption('from', values.from);
  const hunt = new Hunt(values.bug.map(bugNamed), { first, seedsMax: wholeOption('seeds', values.seeds) });
  const jobs = Math.max(1, wholeOption('jobs', values.jobs));
  const bar = new SingleBar({
    format: '{bar} {value} of {total} bugs caught, {seeds} seeds run',
    noTTYOutput: true,
    notTTYSchedule: 60_000,
  });
  const pool = new ChildPool<null, Quarry, Trial>({
    jobs,
    worker: join(import.meta.dirname, `hunt-worker${extname(import.meta.filename)}`),
    start: null,
    next: () => hunt.next(),
    done: (trial) => {
      hunt.done(trial);
      const { bug, seed, outcome, wrong } = trial;
      if (outcome !== 'good') console.log(`\n${outcome} ${bug}, seed ${seed}: ${wrong}`);
      bar.update(hunt.caught, { seeds: hunt.seedsRun });
    },
  });
  process.once('SIGINT', () => pool.stop());
  bar.start(hunt.size, 0, { seeds: 0 });
  await pool.run().finally(() => bar.stop());
  console.log(hunt.table().join('\n'));
  process.exitCode = hunt.caught === hunt.size && hunt.failedWithout.length === 0 ? 0 : 1;
}

function bugNamed(name: string): PlantedBugName {
  const found = PLANTED_BUG_NAMES.find((known) => known === name);
  return found ?? refuse(`there is no planted bug "${name}": npm run sim -- --list shows them`);
}
