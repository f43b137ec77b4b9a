// npm run bench [-- name...]: measures the product beside things one knows, on this machine, in this run.
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { Bench, BenchContext } from './bench.ts';
import { blockMapBench } from './block-map.ts';
import { coldBench } from './cold.ts';
import { dedupBench } from './dedup.ts';
import { getBench } from './get.ts';
import { indexMemoryBench } from './index-memory.ts';
import { putBench } from './put.ts';
import { renditionsBench } from './renditions/renditions.ts';
import { restartBench } from './restart.ts';
import { rpcBench } from './rpc.ts';
import { formatTable } from './table.ts';

const BENCHES: readonly Bench[] = [
  rpcBench,
  getBench,
  putBench,
  dedupBench,
  coldBench,
  indexMemoryBench,
  blockMapBench,
  restartBench,
  renditionsBench,
];

interface Options {
  readonly seconds: number;
  readonly scale: number;
  readonly yardstick?: string;
  readonly dir: string;
}

const width = Math.max(...BENCHES.map((bench) => bench.name.length));
const program = new Command('bench')
  .description('Measures this store beside things one knows, in the same run. Prints tables; judges nothing.')
  .argument('[name...]', 'which benchmarks; all when none is named')
  .option('-s, --seconds <n>', 'how long each load runs', positive, 5)
  .option(
    '--scale <x>',
    'size of the data sets; 1 is what the published figures were measured with',
    positive,
    1,
  )
  .option('--yardstick <path>', 'script of a bare upper bound to run beside; left out when it is not there')
  .option('--dir <path>', 'where to put data: the disk that is to be measured', tmpdir())
  .addHelpText(
    'after',
    `\nBenchmarks:\n${BENCHES.map((bench) => `  ${bench.name.padEnd(width)}  ${bench.title}`).join('\n')}`,
  )
  .action(main);
await program.parseAsync();

async function main(names: string[], options: Options): Promise<void> {
  const unknown = names.filter((name) => !BENCHES.some((bench) => bench.name === name));
  if (unknown.length > 0) program.error(`no benchmark is called ${unknown.join(', ')}: see --help`);
  const chosen = BENCHES.filter((bench) => names.length === 0 || names.includes(bench.name));
  const model = cpus()[0]?.model ?? 'unknown CPU';
  say(`# ${new Date().toISOString()} · Node ${process.versions.node} · ${cpus().length} x ${model}\n`);
  for (const bench of chosen) await runOne(bench, options);
}

async function runOne(bench: Bench, options: Options): Promise<void> {
  const directory = mkdtempSync(join(resolve(options.dir), `tfs-bench-${bench.name}-`));
  const undo: (() => unknown)[] = [() => rmSync(directory, { recursive: true, force: true })];
  const context: BenchContext = {
    seconds: options.seconds,
    scale: options.scale,
    yardstick: options.yardstick === undefined ? undefined : resolve(options.yardstick),
    directory,
    say: (text) => process.stderr.write(`${bench.name}: ${text}\n`),
    defer: (step) => void undo.push(step),
  };
  const undoAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  const onSignal = () => void undoAll().finally(() => process.exit(130));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    for (const table of await bench.run(context)) say(formatTable(table));
  } catch (error) {
    process.stderr.write(`${bench.name} failed: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    await undoAll();
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('a number above 0 is needed');
  return value;
}
