import * as assert from 'uvu/assert';
import { describe } from '../kit/suite.ts';
import { describePlan } from './plan.ts';
import { describeError } from './report.ts';
import { runSeed } from './run.ts';

// As in worker.ts.
Error.stackTraceLimit = 0;

/** As many files share the seeds of `npm test`: they run side by side. */
const MS_A_SEED_MAX = 60_000;

/** A test for each of these seeds: nothing goes wrong in it. */
export function seedsHold(from: number, count: number): void {
  describe(
    `simulated seeds ${from} to ${from + count - 1}`,
    (test) => {
      for (let seed = from; seed < from + count; seed++)
        test(`seed ${seed}`, async () => {
          const { error, plan } = await runSeed(seed);
          if (error === undefined) return;
          assert.unreachable(
            `${describePlan(plan)}\n${describeError(error)}\nnpm run sim -- --seed ${seed} --minimize`,
          );
        });
    },
    MS_A_SEED_MAX,
  );
}
