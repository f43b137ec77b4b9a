import * as assert from 'uvu/assert';
import type { FaultName } from '../../dataserver/block/store.ts';
import { faultsOf } from '../kit/block-world.ts';
import { describe } from '../kit/suite.ts';
import type { LetterName } from './alphabet.ts';
import { crashSequence } from './sequence.ts';
import { type Start, Starter } from './start.ts';
import { crashWalk } from './walk.ts';

Error.stackTraceLimit = 0;

type Case = readonly [Start, ...LetterName[]];

const EFFORT = { seed: 1, statesPerStep: 32, againEvery: 10, killEvery: 1 };

/** Each bug, sequences that have to show it, and how its discovery reads. */
const BUGS: readonly [FaultName, readonly Case[], RegExp][] = [
  [
    'skip-datasync',
    [
      ['open', 'put'],
      ['open', 'delete'],
    ],
    /records of \d+ confirmed|ops up to/,
  ],
  [
    'skip-directory-sync',
    [
      ['sealed', 'compact'],
      ['sealed', 'burst'],
      ['sealed', 'create'],
    ],
    /./,
  ],
  [
    'rename-before-datasync',
    [
      ['sealed', 'receive'],
      ['sealed', 'burst'],
      ['sealed', 'create'],
    ],
    /./,
  ],
  [
    'ack-op-before-datasync',
    [
      ['open', 'delete'],
      ['sealed', 'purge'],
      ['open', 'seal'],
    ],
    /confirmed/,
  ],
  ['commit-before-datasync', [['sealed', 'compact']], /flagged after a mere crash/],
  [
    'unlink-before-drop-log',
    [
      ['sealed', 'drop'],
      ['sealed', 'drop-full'],
    ],
    /./,
  ],
  ['promise-in-memory', [['sealed', 'promise']], /the promise/],
  ['append-after-restart', [['open', 'put']], /takes appends after a restart/],
  ['append-behind-fence', [['open', 'fence', 'put']], /records, \d+ were given/],
  [
    'trust-page-cache',
    [
      ['open', 'put-member', 'seal-short'],
      ['sealed', 'alias'],
    ],
    /confirmed/,
  ],
];

/** A sync of these that does nothing; sequences that have to show it. */
const SYNCS: readonly [RegExp, readonly Case[]][] = [
  [
    /^promise\.tfs\.tmp$/,
    [
      ['sealed', 'promise'],
      ['sealed', 'learn'],
      ['open', 'promise-full'],
    ],
  ],
  [/^nonces\.tfs\.tmp$/, [['sealed', 'nonce']]],
  [/^incarnation\.tfs\.tmp$/, [['sealed', 'restart']]],
  [
    /^\/$/,
    [
      ['sealed', 'promise'],
      ['sealed', 'nonce'],
      ['sealed', 'restart'],
      ['sealed', 'drop'],
    ],
  ],
  [
    /^drop\.log$/,
    [
      ['sealed', 'drop'],
      ['sealed', 'drop-full'],
    ],
  ],
  [
    /^blocks\/$/,
    [
      ['sealed', 'compact'],
      ['sealed', 'receive'],
      ['sealed', 'burst'],
      ['sealed', 'create'],
    ],
  ],
  [
    /^blocks\/\d+\.\d+\.blk$/,
    [
      ['open', 'put'],
      ['open', 'put-member'],
      ['open', 'put-large'],
    ],
  ],
  [
    /\.blk\.tmp$/,
    [
      ['sealed', 'compact'],
      ['sealed', 'receive'],
      ['sealed', 'repair'],
      ['sealed', 'create'],
    ],
  ],
  [
    /^blocks\/\d+\.\d+\.ops$/,
    [
      ['open', 'delete'],
      ['open', 'seal'],
      ['sealed', 'compact'],
      ['sealed', 'complete'],
    ],
  ],
  [
    /\.ops\.tmp$/,
    [
      ['sealed', 'burst'],
      ['sealed', 'receive'],
      ['sealed', 'create'],
    ],
  ],
];

const nameOf = ([start, ...letters]: Case): string => `${start}: ${letters.join(', ')}`;

describe('planted bugs are caught by crashed sequences', (test) => {
  for (const [fault, cases, finding] of BUGS)
    for (const each of cases)
      test(`${fault}, ${nameOf(each)}`, async () => {
        const faults = faultsOf(fault);
        const [start, ...letters] = each;
        const options = { ...EFFORT, faults };
        const { violation } = await crashSequence(new Starter(faults), { start, letters }, options);
        assert.match(violation?.message ?? 'nothing', finding);
        assert.is.not(violation, undefined);
      });

  test('fence-overtakes-append, in a walk', async () => {
    const faults = faultsOf('fence-overtakes-append');
    const starter = new Starter(faults);
    for (let seed = 1; seed < 400; seed++) {
      const options = { seed, statesPerStep: 4, againEvery: 0, killEvery: 0, faults };
      const { violation } = await crashWalk(starter, options);
      if (violation === undefined) continue;
      assert.match(violation.message, /behind a fence|records of \d+ confirmed|given/);
      return;
    }
    assert.unreachable('not caught');
  });
}, 120_000);

describe('a sync that does nothing is caught by crashed sequences', (test) => {
  const faults = faultsOf();
  const starter = new Starter(faults);
  for (const [pattern, cases] of SYNCS)
    for (const each of cases)
      test(`${pattern.source}, ${nameOf(each)}`, async () => {
        const [start, ...letters] = each;
        const options = { ...EFFORT, faults, ignoresSync: (path: string) => pattern.test(path) };
        const { violation } = await crashSequence(starter, { start, letters }, options);
        assert.is.not(violation, undefined, 'not caught');
      });
}, 120_000);
