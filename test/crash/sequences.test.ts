import * as assert from 'uvu/assert';
import { faultsOf } from '../kit/block-world.ts';
import { CrashCounts } from '../kit/crash-explorer.ts';
import { formatPath, parsePath } from '../kit/crash-path.ts';
import { describe } from '../kit/suite.ts';
import { LETTERS, type LetterName } from './alphabet.ts';
import { crashSequence } from './sequence.ts';
import { STARTS, Starter } from './start.ts';
import { type Finding, sequenceTasks, TaskRunner } from './tasks.ts';

// Most of the time would go into stack traces of errors that are expected.
Error.stackTraceLimit = 0;

const EFFORT = { seed: 1, statesPerStep: 16, againEvery: 120, killEvery: 120, faults: [] };
const WALKS = 12;
const STATES_MIN = 20_000;

const shown = (findings: readonly Finding[]): string =>
  findings.map(({ only, message }) => `--only '${only}': ${message}`).join('\n');

describe('everything that a mount keeps, crashed at every step', (test) => {
  const counts = new CrashCounts();
  let sequences = 0;

  test('nothing confirmed is lost in any sequence of one or two operations', async () => {
    const runner = new TaskRunner(EFFORT);
    for (const task of sequenceTasks(2)) {
      const result = await runner.run(task);
      assert.is(shown(result.findings), '');
      counts.add(result.counts);
      sequences += result.sequences;
    }
    assert.is(sequences, STARTS.length * (LETTERS.length + LETTERS.length ** 2));
  });

  test('nor in longer ones, with operations at the same time', async () => {
    const runner = new TaskRunner({ ...EFFORT, againEvery: 100 });
    for (let seed = 1; seed <= WALKS; seed++) {
      const result = await runner.run({ kind: 'walk', seed });
      assert.is(shown(result.findings), '');
      counts.add(result.counts);
    }
  });

  test('enough states were looked at', () => {
    const { states, again, exhaustive, killed } = counts;
    process.stdout.write(
      `\nFIGURE crash states ${states} of ${sequences} sequences and ${WALKS} walks: ${exhaustive} all of their step, ` +
        `${again} in what followed a crash, ${killed} killed processes\n`,
    );
    assert.ok(states >= STATES_MIN, `${states} states`);
  });
}, 200_000);

/** What has to come before an operation, so that there is something to do for it. */
const BEFORE: Partial<Record<LetterName, readonly LetterName[]>> = {
  sweep: ['compact'],
  leftovers: ['compact'],
};
/** Those that are kept in memory alone. */
const IN_MEMORY: readonly LetterName[] = ['fence'];

describe('the operations of crashed sequences', (test) => {
  test('change the disk, each of them', async () => {
    const faults = faultsOf();
    const starter = new Starter(faults);
    const idle: LetterName[] = [];
    for (const letter of LETTERS) {
      let states = 0;
      for (const start of STARTS) {
        const letters = [...(BEFORE[letter] ?? []), letter];
        const options = { seed: 1, statesPerStep: 4, againEvery: 0, killEvery: 0, faults };
        states += (await crashSequence(starter, { start, letters }, options)).counts.states;
      }
      // Without a step there is one crash left: the one after the acknowledgement.
      if (states <= STARTS.length) idle.push(letter);
    }
    assert.equal(idle, IN_MEMORY);
  });

  test('one finding replays as the one crash that it is', async () => {
    const runner = new TaskRunner({
      ...EFFORT,
      againEvery: 1,
      killEvery: 1,
      faults: ['ack-op-before-datasync'],
    });
    const { findings } = await runner.runOnly('open:delete');
    assert.is(findings.length, 1);
    const { only, message } = findings[0]!;
    const again = await new TaskRunner({ ...EFFORT, faults: ['ack-op-before-datasync'] }).runOnly(only);
    assert.equal([again.findings, again.counts.states <= 2], [[{ only, message }], true]);
  });

  test('what is no case is refused', async () => {
    const runner = new TaskRunner(EFFORT);
    for (const text of [
      '',
      'open:',
      'open:fly',
      'shut:put',
      'walk:x',
      'campaign:none',
      'open:put@1',
      'open:put@1:x',
    ]) {
      const error = await Promise.resolve()
        .then(() => runner.runOnly(text))
        .catch((thrown: unknown) => thrown);
      assert.instance(error, RangeError, text);
    }
  });

  test('a path of crashes reads as it was written', () => {
    for (const text of ['0:', '7:0-3,9/2:', '12:kill/3:1,3,5', '4:0-130/0:2-3'])
      assert.is(formatPath(parsePath(text)), text);
    assert.equal(parsePath('7:0-2,9'), [{ step: 7, kept: [0, 1, 2, 9] }]);
  });
});
