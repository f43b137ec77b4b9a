import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { describe } from '../kit/suite.ts';
import { AIMS } from './aims.ts';
import { minimize } from './minimize.ts';
import { PINNED } from './pinned.ts';
import { planOf } from './plan.ts';
import { describeError } from './report.ts';
import { type RunOptions, runSeed } from './run.ts';

const exec = promisify(execFile);
const MAIN = join(import.meta.dirname, 'main.ts');

/** In a process of its own. */
async function sim(...args: string[]): Promise<{ readonly code: number; readonly stdout: string }> {
  try {
    const { stdout } = await exec(process.execPath, ['--import', 'tsx', MAIN, ...args]);
    return { code: 0, stdout };
  } catch (error) {
    const { code, stdout } = error as { code: number; stdout: string };
    return { code, stdout };
  }
}

describe('simulator', (test) => {
  test('the same seed is the same run in every process, another one is another', async () => {
    const hashes = new Set<string>();
    for (const seed of [3, 3, 4]) {
      const { stdout } = await sim('--seed', String(seed), '--operations', '300');
      hashes.add(/trace hash ([0-9a-f]{8}), \d+ events/.exec(stdout)?.[1] ?? stdout);
    }
    assert.is(hashes.size, 2, [...hashes].join(' '));
  });

  test('a seed does not depend on what ran before it in the process', async () => {
    const first = await runSeed(5, { operations: 300 });
    await runSeed(6, { operations: 300 });
    const again = await runSeed(5, { operations: 300 });
    assert.is(again.hash, first.hash);
    assert.is(again.events, first.events);
  });

  test('a planted bug fails the seed, is told with what shows it again, and is made smaller', async () => {
    const bug = 'alias-takes-next-slot';
    const options: RunOptions = { operations: 300, bug, ...AIMS[bug] };
    const failed = await runSeed(1, options);
    assert.instance(failed.error, Error);
    const small = await minimize(failed, options, { runsMax: 12, told: () => undefined });
    assert.instance(small.result.error, Error);
    assert.ok(small.result.operations < failed.operations || small.result.events <= failed.events);
    const { code, stdout } = await sim('--seed', '1', '--operations', '300', '--bug', bug);
    assert.is(code, 1);
    assert.match(stdout, 'FAILED');
  });

  test('a seed draws its own cluster, and at least two copies where there are two hosts', () => {
    const plans = Array.from({ length: 300 }, (_, seed) => planOf(seed));
    assert.is(Math.max(...plans.map(({ hosts }) => hosts.length)), 7);
    assert.is(Math.min(...plans.map(({ hosts }) => hosts.length)), 1);
    for (const { hosts, replicas, minWrite, victim } of plans) {
      assert.is(minWrite, Math.min(2, replicas, new Set(hosts).size));
      if (minWrite < 2) assert.is(victim, undefined, 'no copy is taken away where there is one');
    }
    const kinds = new Set(plans.flatMap(({ faults }) => [...faults.keys()]));
    assert.ok(kinds.size > 40, `${kinds.size} kinds of faults`);
  });

  for (const { seed, options, why } of PINNED)
    test(`once wrong: ${why}`, async () => {
      const { error } = await runSeed(seed, options);
      assert.is(error, undefined, error === undefined ? '' : describeError(error));
    });

  test('what is asked for wrongly is refused, with the reason', async () => {
    assert.is((await sim('--bug', 'no-such-bug')).code, 2);
    assert.is((await sim('--seed', 'x')).code, 2);
    assert.is((await sim('--only', 'rain')).code, 2);
    assert.match((await sim('--help')).stdout, 'usage: npm run sim');
    assert.match((await sim('--list')).stdout, 'cluster-power');
  });
}, 120_000);
