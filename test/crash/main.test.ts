import { spawn } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { describe, type TestContext } from '../kit/suite.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

function run(t: TestContext, ...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN, ...args]);
  t.defer(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => {
      output += data;
    });
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })));
}

describe('npm run soak:crash', (test) => {
  test('says what it has looked at, in processes of its own', async (t) => {
    const { code, output } = await run(
      t,
      '--length',
      '1',
      '--states',
      '600',
      '--jobs',
      '2',
      '--per-step',
      '8',
    );
    assert.is(code, 0, output);
    assert.match(output, /sequences +64 of 64/);
    assert.match(output, /violations +0/);
    assert.not.match(output, /stopped early/);
    assert.ok(Number(/states looked at +(\d+)/.exec(output)![1]) >= 600);
  });

  test('ends with 1 over a violation, and names the one crash that shows it', async (t) => {
    const planted = ['--plant', 'ack-op-before-datasync'];
    const { code, output } = await run(t, '--length', '1', '--states', '1', '--jobs', '1', ...planted);
    assert.is(code, 1, output);
    const [, only] = /--plant ack-op-before-datasync --only '([^']+)'/.exec(output)!;
    const again = await run(t, '--only', only!, ...planted);
    assert.is(again.code, 1, again.output);
    assert.match(again.output, /, 1 violations/);
    const sound = await run(t, '--only', only!);
    assert.is(sound.code, 0, sound.output);
  });

  test('refuses what it does not understand, and says which option it is', async (t) => {
    for (const [args, answer] of [
      [['--jobs', 'two'], /--jobs is a number/],
      [['--length', '4'], /--length is a number from 0 to 3/],
      [['--only', 'open:fly'], /nothing to run/],
    ] as const) {
      const { code, output } = await run(t, ...args);
      assert.is(code, 2, output);
      assert.match(output, answer);
    }
    const { code, output } = await run(t, '--help');
    assert.equal([code, /--states N/.test(output)], [0, true]);
  });
}, 120_000);
