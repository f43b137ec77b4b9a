import * as assert from 'uvu/assert';
import { BlockState } from '../../common/wire/messages.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { SimCluster } from './cluster.ts';
import { DISK_FAULTS } from './disk-faults.ts';
import { SimLoad } from './load.ts';
import { planOf } from './plan.ts';
import { Scheduler } from './scheduler.ts';

const ONLY = ['damaged-and-alone', 'lost-write'] as const;
const SEED = Array.from({ length: 1000 }, (_, seed) => seed).find(
  (seed) => planOf(seed, { only: ONLY }).victim !== undefined,
)!;

/** After some uploads, with the disk that faults hit. */
async function loaded() {
  const plan = planOf(SEED, { only: ONLY, operations: 60 });
  const scheduler = new Scheduler(SEED);
  const cluster = await SimCluster.open(plan, scheduler);
  const load = new SimLoad(cluster, { acked: () => undefined, changed: () => undefined });
  load.start();
  await scheduler.run(() => load.isOver);
  const happen = () =>
    DISK_FAULTS['damaged-and-alone']({
      cluster,
      random: new SeededRandom(1),
      replaced: () => undefined,
      between: (low) => low,
    });
  return { cluster, scheduler, victim: cluster.dataServer(plan.victim!)!, happen };
}

describe('faults of disks', (test) => {
  test('a server is left alone with what it was writing, damaged', async () => {
    const { cluster, victim, happen } = await loaded();
    assert.match(happen()?.what ?? 'nothing', new RegExp(`^${victim.node.name} blocks/\\d+\\.0\\.blk$`));
    assert.is(victim.medium.damaged.size, 1);
    for (const { node } of cluster.dataservers) assert.is(node.isHeld, node !== victim.node);
  });

  test('but not where its disk has lost a write: nobody could tell that one which never came is missing', async () => {
    const { cluster, scheduler, victim, happen } = await loaded();
    victim.medium.faults.lostWrites = { share: 1, path: /\.blk$/, times: 1 };
    for (let i = 0; victim.medium.damaged.size === 0 && i < 100; i++) {
      let isOver = false;
      const done = () => {
        isOver = true;
      };
      cluster.clients[0]!.client.put(Buffer.alloc(500, i)).then(done, done);
      await scheduler.run(() => isOver);
    }
    const [path] = victim.medium.damaged;
    const lost = victim.live!.store.entries().find(({ block }) => path === `blocks/${block}.0.blk`);
    assert.is(lost?.state, BlockState.OPEN, `${path} is being written`);
    assert.is(happen(), undefined);
    assert.ok(cluster.dataservers.every(({ node }) => !node.isHeld));
  });
});
