import * as assert from 'uvu/assert';
import { strayFiles } from '../kit/stray-files.ts';
import { describe } from '../kit/suite.ts';
import { COMPACTION_SCENE, COMPACTION_SWEEPS } from './compaction-points.ts';
import { verdict } from './figures/report.ts';
import { runPoint, type Sweep } from './kill-points.ts';
import { REPLICATION_SWEEPS } from './replication-points.ts';
import { Scene } from './scene.ts';

const PER_SECOND = 60;
const STRAYS_MS_MAX = 90_000;

/** A few of those of the figures `compaction-kills` and `replication-kills`. */
const POINTS: readonly (readonly [Sweep, string])[] = [
  [named(COMPACTION_SWEEPS, 'a member is killed before'), 'create N.1.idx.tmp'],
  [named(COMPACTION_SWEEPS, 'the leader is killed while the sequencer is before'), 'rename N.1.blk.tmp'],
  [named(REPLICATION_SWEEPS, 'the receiver is killed before'), 'rename N.0.blk.tmp'],
];

function named(sweeps: readonly Sweep[], name: string): Sweep {
  const sweep = sweeps.find((one) => one.name === name);
  if (sweep === undefined) throw new Error(`there is no "${name}"`);
  return sweep;
}

describe('kill -9 in the course of work on blocks, under load', (test) => {
  test('what was begun is finished, no name is lost, no purged one comes back, no file is left', async (t) => {
    const scene = await Scene.open({ ...COMPACTION_SCENE, perSecond: PER_SECOND });
    if (typeof scene === 'string') throw new Error(scene);
    t.defer(() => scene.close());
    const load = scene.startLoad();
    for (const [sweep, step] of POINTS) {
      const result = await runPoint(scene, sweep, step);
      assert.ok(result.step?.includes(step), `${sweep.name} "${step}": ${result.step}`);
      assert.is(result.wrong.length, 0, `${result.wrong.join('\n')}\n${scene.cluster.logs()}`);
    }
    await load.stop();
    const { wrong } = await verdict(scene, load, scene.faults);
    assert.is(wrong.length, 0, `${wrong.join('\n')}\n${scene.cluster.logs()}`);
    assert.equal(await strayFiles(scene, { withinMs: STRAYS_MS_MAX }), []);
  });
}, 230_000);
