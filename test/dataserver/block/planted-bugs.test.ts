import * as assert from 'uvu/assert';
import type { FaultName } from '../../../dataserver/block/faults.ts';
import { runCampaign, type Trouble } from '../../kit/crash-campaign.ts';
import { describe } from '../../kit/suite.ts';

const SEEDS_MAX = 24;
Error.stackTraceLimit = 1;

/** Each bug, the trouble that shows it, and how its discovery reads. */
const bugs: readonly [FaultName, Trouble, RegExp][] = [
  ['skip-datasync', 'none', /confirmed/],
  ['skip-directory-sync', 'none', /confirmed|flagged after a mere crash/],
  ['rename-before-datasync', 'none', /confirmed|flagged after a mere crash/],
  ['ack-op-before-datasync', 'none', /holds ops up to \d+ of \d+ confirmed/],
  ['append-after-restart', 'none', /takes appends after a restart/],
  ['fence-overtakes-append', 'none', /has grown to \d+ behind a fence/],
  ['unsalted-checksum', 'recycled', /records, \d+ were given/],
  ['truncate-at-first-bad', 'damage', /records of \d+ confirmed/],
  ['trust-index-ahead', 'index-ahead', /answers for slot|records, \d+ were given/],
  ['eio-as-torn', 'unreadable', /it could not read|records of \d+ confirmed/],
  ['trust-page-cache', 'killed', /confirmed/],
  ['retry-after-failed-datasync', 'failed-sync', /records of \d+ confirmed/],
];

describe('planted bugs are caught by the crash explorer', (test) => {
  for (const [fault, trouble, finding] of bugs) {
    test(fault, async () => {
      let states = 0;
      for (let seed = 1; seed <= SEEDS_MAX; seed++) {
        const options = { seed, trouble, statesPerStep: 12, actions: 30, againEvery: 0, faults: [fault] };
        const { violation, ...result } = await runCampaign(options);
        states += result.states;
        if (violation === undefined) continue;
        assert.match(violation.message, finding);
        return;
      }
      assert.unreachable(`${states} states did not show it`);
    });
  }
}, 100_000);
