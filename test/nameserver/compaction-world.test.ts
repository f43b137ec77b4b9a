import * as assert from 'uvu/assert';
import type { FaultName } from '../../dataserver/block/faults.ts';
import { CompactionWorld } from '../kit/compaction-world.ts';
import { describe } from '../kit/suite.ts';

const SEEDS = Number(process.env['TFS_COMPACTION_SEEDS'] ?? 40);
const STEPS = 160;
const SEEDS_MAX = 300;
const PLANTED: readonly FaultName[] = ['purge-ignores-alias', 'ack-alias-of-purged'];

describe('compaction through crashes, cuts and changes of leader', (test) => {
  test('every name that lives reads the same, nothing else is left, and all replicas are the same bytes', async () => {
    const all = { commits: 0, halfDone: 0, repaired: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { wrong, seen } = await CompactionWorld.run(seed, STEPS);
      assert.is(wrong, undefined, `seed ${seed}`);
      for (const what of ['commits', 'halfDone', 'repaired'] as const) all[what] += seen[what];
    }
    assert.ok(all.commits > SEEDS && all.halfDone > 5 * SEEDS && all.repaired > 0, JSON.stringify(all));
  });

  for (const fault of PLANTED) {
    test(`a planted bug is caught: ${fault}`, async () => {
      for (let seed = 1; seed <= SEEDS_MAX; seed++)
        if ((await CompactionWorld.run(seed, STEPS, [fault])).wrong !== undefined) return;
      assert.unreachable(`${SEEDS_MAX} seeds did not show it`);
    });
  }
}, 120_000);
