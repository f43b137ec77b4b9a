import * as assert from 'uvu/assert';
import type { FaultName } from '../../dataserver/block/faults.ts';
import { OpsWorld } from '../kit/ops-world.ts';
import { describe } from '../kit/suite.ts';

const SEEDS = Number(process.env['TFS_OPS_SEEDS'] ?? 60);
const STEPS = 120;
const SEEDS_MAX = 600;
const PLANTED: readonly FaultName[] = [
  'ack-op-on-some',
  'begin-without-merging',
  'ack-op-before-datasync',
  'ack-under-next-version',
  'purge-ignores-alias',
  'ack-alias-of-purged',
];

describe('operations through crashes, cuts and changes of configuration', (test) => {
  test('what was acknowledged last holds on every member, whatever happened', async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const wrong = await OpsWorld.run(seed, STEPS);
      assert.is(wrong, undefined, `seed ${seed}`);
    }
  });

  for (const fault of PLANTED) {
    test(`a planted bug is caught: ${fault}`, async () => {
      for (let seed = 1; seed <= SEEDS_MAX; seed++)
        if ((await OpsWorld.run(seed, STEPS, [fault])) !== undefined) return;
      assert.unreachable(`${SEEDS_MAX} seeds did not show it`);
    });
  }
}, 120_000);
