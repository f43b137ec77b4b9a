import * as assert from 'uvu/assert';
import { runCampaign, type Trouble } from '../../kit/crash-campaign.ts';
import { describe } from '../../kit/suite.ts';

/** A long run has more. */
const ROUNDS = Number(process.env['CRASH_ROUNDS'] ?? 1);
/** Those that differ; test/crash looks at more. */
const STATES_MIN = 5_000;
let states = 0;

// Most of the time would go into stack traces of errors that are expected.
Error.stackTraceLimit = 0;

interface Plan {
  readonly trouble: Trouble;
  readonly what: string;
  readonly seeds: number;
  readonly statesPerStep: number;
}

const plans: readonly Plan[] = [
  { trouble: 'none', what: 'the power fails', seeds: 5, statesPerStep: 12 },
  { trouble: 'damage', what: 'acknowledged bytes change', seeds: 3, statesPerStep: 4 },
  { trouble: 'unreadable', what: 'the disk cannot read', seeds: 3, statesPerStep: 4 },
  { trouble: 'index-ahead', what: 'index files say too much', seeds: 2, statesPerStep: 3 },
  { trouble: 'recycled', what: 'spares hold old records', seeds: 6, statesPerStep: 6 },
  { trouble: 'killed', what: 'the process was killed before', seeds: 2, statesPerStep: 4 },
  { trouble: 'failed-sync', what: 'a sync fails', seeds: 6, statesPerStep: 6 },
];

describe('block store crashes', (test) => {
  for (const { trouble, what, seeds, statesPerStep } of plans) {
    test(`nothing confirmed is lost when ${what}`, async () => {
      for (let seed = 1; seed <= seeds * ROUNDS; seed++) {
        const result = await runCampaign({ seed, trouble, statesPerStep, actions: 24, againEvery: 100 });
        if (result.violation !== undefined) throw new Error(`seed ${seed}: ${result.violation.message}`);
        states += result.states;
      }
    });
  }

  test('enough states were looked at', () => {
    process.stdout.write(`\nFIGURE crash states ${states}\n`);
    assert.ok(states >= STATES_MIN, `${states} states`);
  });
}, 200_000);
