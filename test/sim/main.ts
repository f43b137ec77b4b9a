// Runs single seeds of the simulator: to look at one, to look at it in every detail, to make one that fails smaller.
import { parseArgs } from 'node:util';
import { refuse, wholeOption } from '../kit/command-line.ts';
import { PLANTED_BUG_NAMES, type PlantedBugName } from '../kit/planted-bugs.ts';
import { AIMS } from './aims.ts';
import { minimize } from './minimize.ts';
import { describePlan, FAULT_KINDS, type FaultKind } from './plan.ts';
import { addTo, describeError, describeTotals, noTotals, summaryOf } from './report.ts';
import { type RunOptions, type RunResult, runSeed } from './run.ts';

const USAGE = `usage: npm run sim -- [options]
  --seed N           the first seed (1)
  --seeds N          so many, one after the other (1)
  --operations N     that clients are planned to do (1500; fewer with some of the planted bugs)
  --stop-after N     of these they do only so many
  --only FAULT       no other kinds of faults, and these in every seed; may be repeated
  --without FAULT    not this kind of fault; may be repeated
  --skip N,N-N       numbers of faults that do not happen; everything else is drawn as with them
  --bug NAME         with a bug planted on purpose, and the faults that make it show
  --aim NAME         with the faults that make it show, and without the bug
  --trace            every event, fault and line of the logs, on standard output
  --minimize         leaves out faults and operations of a seed that fails, as long as it fails in the same way
  --list             only show the kinds of faults and the planted bugs
  --help`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    operations: { type: 'string' },
    'stop-after': { type: 'string' },
    only: { type: 'string', multiple: true },
    without: { type: 'string', multiple: true, default: [] },
    skip: { type: 'string', default: '' },
    bug: { type: 'string' },
    aim: { type: 'string' },
    trace: { type: 'boolean', default: false },
    minimize: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) console.log(USAGE);
else if (values.list) {
  console.log(`faults: ${FAULT_KINDS.join(' ')}`);
  console.log(`planted bugs: ${PLANTED_BUG_NAMES.join(' ')}`);
} else await seeds();

async function seeds(): Promise<void> {
  const options = optionsFrom();
  const first = wholeOption('seed', values.seed);
  const totals = noTotals();
  let failed = 0;
  const startedMs = Date.now();
  for (let seed = first; seed < first + wholeOption('seeds', values.seeds); seed++) {
    const result = await runSeed(seed, options);
    addTo(totals, summaryOf(result));
    tell(result);
    if (result.error === undefined) continue;
    failed++;
    if (values.minimize) await makeSmaller(result, options);
  }
  console.log(describeTotals(totals, (Date.now() - startedMs) / 1000, failed).join('\n'));
  process.exitCode = failed > 0 ? 1 : 0;
}

function tell(result: RunResult): void {
  const { plan, hash, events, virtualMs, operations, error } = result;
  console.log(describePlan(plan));
  console.log(
    `  ${error === undefined ? 'good' : 'FAILED'}: trace hash ${hash}, ${events} events, ` +
      `${(virtualMs / 1000).toFixed(1)} virtual s, ${operations} operations`,
  );
  if (error !== undefined) console.log(`  ${describeError(error)}`);
}

async function makeSmaller(result: RunResult, options: RunOptions): Promise<void> {
  const { trace: _, ...quiet } = options;
  const small = await minimize(result, quiet, { told: (line) => console.log(`  ${line}`) });
  const { skip, stopAfter } = small.options;
  const parts = [`--seed ${result.plan.seed}`];
  if (values.operations !== undefined) parts.push(`--operations ${values.operations}`);
  if (stopAfter !== undefined) parts.push(`--stop-after ${stopAfter}`);
  for (const kind of values.only ?? []) parts.push(`--only ${kind}`);
  for (const kind of values.without) parts.push(`--without ${kind}`);
  if (values.bug !== undefined) parts.push(`--bug ${values.bug}`);
  else if (values.aim !== undefined) parts.push(`--aim ${values.aim}`);
  if (skip !== undefined && skip.size > 0) parts.push(`--skip ${rangesOf(skip)}`);
  console.log(`  smallest of ${small.runs} runs: ${describeError(small.result.error)}`);
  console.log(`  npm run sim -- ${parts.join(' ')} --trace`);
}

function optionsFrom(): RunOptions {
  const bug = values.bug as PlantedBugName | undefined;
  const aim = bug ?? (values.aim as PlantedBugName | undefined);
  for (const name of [bug, aim])
    if (name !== undefined && !PLANTED_BUG_NAMES.includes(name))
      refuse(`there is no planted bug "${name}": see --list`);
  for (const kind of [...(values.only ?? []), ...values.without])
    if (!(FAULT_KINDS as readonly string[]).includes(kind)) refuse(`there is no fault "${kind}": see --list`);
  const stopAfter = values['stop-after'];
  return {
    ...(stopAfter === undefined ? {} : { stopAfter: wholeOption('stop-after', stopAfter) }),
    ...(aim === undefined ? {} : AIMS[aim]),
    ...(bug === undefined ? {} : { bug }),
    ...(values.operations === undefined ? {} : { operations: wholeOption('operations', values.operations) }),
    ...(values.only === undefined ? {} : { only: values.only as FaultKind[] }),
    without: values.without as FaultKind[],
    skip: numbersIn(values.skip),
    ...(values.trace ? { trace: (line: string) => console.log(line) } : {}),
  };
}

/** "3,5-7" */
function numbersIn(text: string): Set<number> {
  const numbers = new Set<number>();
  for (const part of text.split(',').filter((piece) => piece !== '')) {
    const [from, to = from] = part.split('-');
    for (let n = wholeOption('skip', from!); n <= wholeOption('skip', to!); n++) numbers.add(n);
  }
  return numbers;
}

function rangesOf(numbers: ReadonlySet<number>): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const ranges: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === sorted[end]! + 1) end++;
    ranges.push(end === i ? String(sorted[i]) : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return ranges.join(',');
}
