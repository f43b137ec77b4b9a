import * as assert from 'uvu/assert';
import { runCampaign, type Trouble } from '../../kit/crash-campaign.ts';
import { describe } from '../../kit/suite.ts';

/** More seeds in a long run. */
const SEEDS = Number(process.env['CRASH_SEEDS'] ?? 4);
const STATES_MIN = 20_000;
let states = 0;

// Most of the time would go into stack traces of errors that are expected.
Error.stackTraceLimit = 1;

const campaigns: readonly { trouble: Trouble; statesPerStep: number; what: string }[] = [
  { trouble: 'none', statesPerStep: 20, what: 'the power fails' },
  { trouble: 'damage', statesPerStep: 4, what: 'acknowledged bytes change' },
  { trouble: 'unreadable', statesPerStep: 4, what: 'the disk cannot read' },
  { trouble: 'index-ahead', statesPerStep: 3, what: 'index files say too much' },
  { trouble: 'recycled', statesPerStep: 12, what: 'spares hold old records' },
  { trouble: 'failed-sync', statesPerStep: 12, what: 'a sync fails' },
];

describe('block store crashes', (test) => {
  for (const { trouble, statesPerStep, what } of campaigns) {
    test(`nothing confirmed is lost when ${what}`, async () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const result = await runCampaign({ seed, trouble, statesPerStep, actions: 30, againEvery: 40 });
        if (result.violation !== undefined) throw new Error(`seed ${seed}: ${result.violation.message}`);
        states += result.states;
      }
    });
  }

  test('enough states were looked at', () => {
    process.stdout.write(`FIGURE crash states ${states}\n`);
    assert.ok(states >= STATES_MIN, `${states} states`);
  });
}, 200_000);
