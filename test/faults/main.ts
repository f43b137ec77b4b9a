// Fault cells and figures on real processes. Prints a FIGURE line for each run and a table at the end; ends with 1 when
// anything was lost, stale, wrong or stood still.
import { parseArgs } from 'node:util';
import { type Cell, type CellResult, complaint, figureLine, isGood, runCell } from './cell.ts';
import { CELLS, refusal } from './cells.ts';
import { FIGURES } from './figures.ts';
import { Scene } from './scene.ts';
import { cellTable } from './table.ts';

const USAGE = `usage: npm run test:faults -- [options]
  --cell PART        only cells, or parts of a figure, whose name contains it; may be repeated
  --times N          run each cell N times, on one cluster (1); how often a figure repeats its fault
  --figure NAME      measure this instead: ${Object.keys(FIGURES).join(', ')}
  --per-second N     uploads, and reads, in a second (200)
  --seconds N        how long Redis is down in the figures redis-down and redis-repair (60)
  --megabytes N      how much is stored first in figures that fill a cluster; each has a default
  --keep             leave the homes of the clusters, with their logs
  --list             only show the names of the cells`;

const { values } = parseArgs({
  options: {
    cell: { type: 'string', multiple: true, default: [] },
    times: { type: 'string' },
    figure: { type: 'string' },
    'per-second': { type: 'string', default: '200' },
    seconds: { type: 'string', default: '60' },
    megabytes: { type: 'string' },
    keep: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const perSecond = Number(values['per-second']);
const chosen = CELLS.filter(
  ({ name }) => values.cell.length === 0 || values.cell.some((part) => name.includes(part)),
);

if (values.help) console.log(USAGE);
else if (values.list) console.log(CELLS.map(({ name }) => name).join('\n'));
else if (values.figure !== undefined) await figure(values.figure);
else await cells();

async function figure(name: string): Promise<void> {
  const measure = FIGURES[name];
  if (measure === undefined) throw new Error(`there is no figure ${name}\n${USAGE}`);
  const report = await measure({
    times: numberOf(values.times),
    perSecond,
    seconds: Number(values.seconds),
    megabytes: numberOf(values.megabytes),
    keep: values.keep,
    only: values.cell,
  });
  console.log(`FIGURE ${name}: ${report.line}`);
  for (const wrong of report.wrong) console.log(wrong);
  if (report.wrong.length > 0) process.exitCode = 1;
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

async function cells(): Promise<void> {
  const results: CellResult[] = [];
  const skipped: string[] = [];
  for (const cell of chosen) {
    const refused = await runTimes(cell, Number(values.times ?? 1), results);
    if (refused !== undefined) skipped.push(`SKIPPED ${cell.name}: ${refused}`);
  }
  console.log(`\n${cellTable(results)}`);
  for (const line of skipped) console.log(line);
  const bad = results.filter((result) => !isGood(result));
  console.log(`${results.length - bad.length} good, ${bad.length} bad, ${skipped.length} skipped`);
  if (bad.length > 0 || results.length === 0) process.exitCode = 1;
}

/** @returns why it cannot run here */
async function runTimes(cell: Cell, times: number, results: CellResult[]): Promise<string | undefined> {
  const smallDisk = cell.needs === 'small disk';
  const scene = await Scene.open({ ...cell.scene, perSecond, smallDisk, keep: values.keep });
  if (typeof scene === 'string') return scene;
  try {
    const refused = refusal(cell, scene);
    if (refused !== undefined) return refused;
    for (let time = 0; time < times; time++) {
      const result = await runCell(cell, scene);
      results.push(result);
      console.log(figureLine(result));
      if (isGood(result)) continue;
      console.log(complaint(result));
      console.log(values.keep ? `logs: ${scene.cluster.home}/logs` : scene.cluster.logs());
      // What is broken now would be found again and again.
      return undefined;
    }
    return undefined;
  } catch (error) {
    console.log(`${cell.name}: ${String(error)}\n${values.keep ? scene.cluster.home : scene.cluster.logs()}`);
    throw error;
  } finally {
    await scene.close();
  }
}
