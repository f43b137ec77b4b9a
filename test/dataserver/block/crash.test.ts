import * as assert from 'uvu/assert';
import { CrashExplorer } from '../../kit/crash-explorer.ts';
import type { Model } from '../../kit/crash-model.ts';
import { goOn, runWorkload } from '../../kit/crash-workload.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';

const SEEDS = Number(process.env['CRASH_SEEDS'] ?? 6);
let states = 0;

describe('block store crashes', (test) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    test(`nothing confirmed is lost, seed ${seed}`, async () => {
      const random = new SeededRandom(seed);
      const explorer = new CrashExplorer({
        random: new SeededRandom(seed * 7919),
        world: { limits: { opsReserveBytes: 0, opsLogBytes: 700 } },
        statesPerStep: 24,
        againEvery: 40,
        goOn: (store, model) => goOn(store, model, new SeededRandom(seed)),
      });
      const disk = new RecordingDisk();
      disk.tearing = () => random.float();
      const model: Model = new Map();
      const store = await explorer.open(disk);
      explorer.watch(disk, model);
      await runWorkload(store, model, { random, faults: { has: () => false }, actions: 30 });
      disk.onStep = undefined;
      await store.close();
      if (explorer.violation !== undefined) throw explorer.violation;
      states += explorer.states;
    });
  }
  test('enough states were looked at', () => {
    process.stdout.write(`FIGURE crash states ${states}\n`);
    assert.ok(states >= 1);
  });
}, 120_000);
