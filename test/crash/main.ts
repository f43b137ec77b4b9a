// Crashes mounts in every way that a power failure may, and compares what is found with what was confirmed. Ends with 1
// when a promise was broken.
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { FaultName } from '../../dataserver/block/store.ts';
import { LETTERS } from './alphabet.ts';
import { report } from './report.ts';
import { type Soak, soak } from './soak.ts';
import { type Effort, TaskRunner } from './tasks.ts';

const USAGE = `usage: npm run soak:crash -- [options]
  --states N        look at so many states at least, and at all sequences whatever N is (1000000)
  --length N        of the longest sequences of operations that are all run, 0 to 3 (3)
  --seed N          what payloads, samples and walks are drawn from (1)
  --jobs N          processes (one for each core)
  --minutes N       begin nothing new after so long; what is missing is said
  --per-step N      states at most after one change of a disk: all of them where there are no more (64)
  --again-every N   crash once more in what follows a crash, for one state in so many (150); 0: never
  --kill-every N    end the process too, after one change in so many (200); 0: never
  --only CASE       one case, as a violation names it: open:put,seal@10:0-2 or walk:7 or campaign:none:3
  --plant FAULT     with a bug of dataserver/block/faults.ts, which should be found; may be repeated
  --letters         only show the operations that sequences are made of
  --help`;

const { values } = parseArgs({
  options: {
    states: { type: 'string', default: '1000000' },
    length: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    minutes: { type: 'string' },
    'per-step': { type: 'string', default: '64' },
    'again-every': { type: 'string', default: '150' },
    'kill-every': { type: 'string', default: '200' },
    only: { type: 'string' },
    plant: { type: 'string', multiple: true, default: [] },
    letters: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const numberOf = (
  name: 'states' | 'length' | 'seed' | 'jobs' | 'minutes' | 'per-step' | 'again-every' | 'kill-every',
  max: number,
): number => {
  const text = values[name] ?? '';
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= max) return value;
  console.error(`--${name} is a number from 0 to ${max}, not "${text}"`);
  process.exit(2);
};

const effort: Effort = {
  seed: numberOf('seed', 1_000_000),
  statesPerStep: numberOf('per-step', 65_536),
  againEvery: numberOf('again-every', 1e9),
  killEvery: numberOf('kill-every', 1e9),
  faults: values.plant as FaultName[],
};

if (values.help) console.log(USAGE);
else if (values.letters) console.log(LETTERS.join('\n'));
else if (values.only !== undefined) await only(values.only);
else await all();

async function only(name: string): Promise<void> {
  const runner = new TaskRunner(effort);
  const { counts, findings } = await runner.runOnly(name).catch((error: unknown) => {
    if (!(error instanceof RangeError)) throw error;
    console.error(error.message);
    process.exit(2);
  });
  for (const finding of findings) console.log(finding.message);
  console.log(`${counts.states} states, ${findings.length} violations`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}

async function all(): Promise<void> {
  const minutes = values.minutes === undefined ? undefined : numberOf('minutes', 1e6);
  const wanted: Soak = {
    effort,
    states: numberOf('states', 1e12),
    lettersMax: numberOf('length', 3),
    jobs: Math.max(1, numberOf('jobs', 256)),
    minutes,
  };
  const found = await soak(wanted);
  console.log(report(found, effort));
  process.exitCode = found.findings.length > 0 ? 1 : 0;
}
