import * as assert from 'uvu/assert';
import type { PlantedBugName } from '../kit/planted-bugs.ts';
import { describe } from '../kit/suite.ts';
import { Hunt } from './hunt-table.ts';
import { type Trial, tryOne } from './trial.ts';

/** Of a seed and its control, on a machine that does much else. */
const TEST_MS_MAX = 75_000;

/** All others are looked for by `npm run sim:bugs`; these show soon, and by checks that are each of another kind. */
const SOON: readonly PlantedBugName[] = [
  'append-after-restart',
  'promise-not-persisted',
  'alias-takes-next-slot',
];
const SEEDS_MAX = 12;

describe(
  'simulator: bugs that are planted',
  (test) => {
    for (const bug of SOON)
      test(`${bug} is caught`, async () => {
        const tried: (string | undefined)[] = [];
        for (let seed = 1; seed <= SEEDS_MAX; seed++) {
          const { outcome, wrong } = await tryOne({ bug, seed });
          if (outcome === 'caught') return;
          tried.push(`${outcome} ${wrong ?? ''}`);
        }
        assert.unreachable(`not in ${SEEDS_MAX} seeds: ${tried.join('; ')}`);
      });
  },
  TEST_MS_MAX,
);

describe('simulator: the hunt for planted bugs', (test) => {
  const BUGS: readonly PlantedBugName[] = ['stale-404', 'eio-as-torn'];
  const trial = (bug: PlantedBugName, seed: number, outcome: Trial['outcome']): Trial => ({
    ...{ bug, seed, outcome, cpuMs: 1500 },
    wrong: outcome === 'good' ? undefined : `I1: of seed ${seed}`,
  });

  test('bugs take turns, until they are caught or have had their seeds', () => {
    const hunt = new Hunt(BUGS, { first: 7, seedsMax: 3 });
    const handed = [hunt.next(), hunt.next(), hunt.next()];
    assert.equal(handed, [
      { bug: 'stale-404', seed: 7 },
      { bug: 'eio-as-torn', seed: 7 },
      { bug: 'stale-404', seed: 8 },
    ]);
    hunt.done(trial('stale-404', 8, 'caught'));
    assert.equal(hunt.next(), { bug: 'eio-as-torn', seed: 8 });
    assert.equal(hunt.next(), { bug: 'eio-as-torn', seed: 9 });
    assert.is(hunt.next(), undefined);
    assert.is(hunt.caught, 1);
  });

  test('the table shows the first seed that caught it, and what fails without any bug', () => {
    const hunt = new Hunt(BUGS, { first: 7, seedsMax: 3 });
    for (let i = 0; i < 4; i++) hunt.next();
    hunt.done(trial('stale-404', 8, 'caught'));
    hunt.done(trial('stale-404', 7, 'caught'));
    hunt.done(trial('eio-as-torn', 8, 'fails-without'));
    hunt.done(trial('eio-as-torn', 7, 'good'));
    const table = hunt.table().join('\n');
    assert.match(table, '| stale-404 | 1 | I1: of seed 7 | 3 |');
    assert.match(table, '| eio-as-torn | not in 2 | – | 3 |');
    assert.match(table, 'npm run sim -- --aim eio-as-torn --seed 8\n  I1: of seed 8');
    assert.is(hunt.failedWithout.length, 1);
    assert.is(hunt.caught, 1);
  });
});
