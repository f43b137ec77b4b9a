import * as assert from 'uvu/assert';
import { DropWorld } from '../kit/drop-world.ts';
import { describe } from '../kit/suite.ts';

const SEEDS = Number(process.env['TFS_DROP_SEEDS'] ?? 80);
const STEPS = 80;
const SEEDS_MAX = 400;

describe('copies too many, with two leaders, late orders and crashes', (test) => {
  test('as many as are wanted are always left, and no more in the end', async () => {
    let drops = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const result = await DropWorld.run(seed, STEPS);
      assert.is(result.wrong, undefined, `seed ${seed}`);
      drops += result.drops;
    }
    assert.ok(drops >= SEEDS, `${drops} replicas were let go of`);
  });

  // A DataServer that obeys only its promise, a leader that counts only what was said under it, and the configuration
  // that an order names: each of them protects the copies in most histories where the others are missing.
  test('planted bugs are caught: copies are counted, and dropped, at the word of anyone, however old', async () => {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      const { wrong } = await DropWorld.run(seed, STEPS, [
        'count-the-unpromised',
        'obey-anyone',
        'any-version',
      ]);
      if (wrong !== undefined) return;
    }
    assert.unreachable(`${SEEDS_MAX} seeds did not show it`);
  });
}, 50_000);
