import { describe } from '../kit/suite.ts';
import { complaint, figureLine, isGood, runCell } from './cell.ts';
import { refusal, SMOKE } from './cells.ts';
import { Scene } from './scene.ts';

/** Gentle: other tests run at the same time. */
const PER_SECOND = 60;

describe('faults, a few of them, under load', (test) => {
  test('nothing acknowledged is lost, nothing deleted comes back, and it is writable again', async (t) => {
    const scene = await Scene.open({ perSecond: PER_SECOND });
    if (typeof scene === 'string') throw new Error(scene);
    t.defer(() => scene.close());
    for (const cell of SMOKE) {
      const refused = refusal(cell, scene);
      if (refused !== undefined) {
        process.stdout.write(`\nSKIPPED ${cell.name}: ${refused}\n`);
        continue;
      }
      const result = await runCell(cell, scene);
      process.stdout.write(`\n${figureLine(result)}\n`);
      if (!isGood(result)) throw new Error(`${complaint(result)}\n${scene.cluster.logs()}`);
    }
  });
}, 230_000);
