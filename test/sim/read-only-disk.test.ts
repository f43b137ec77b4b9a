import * as assert from 'uvu/assert';
import { toTfsError } from '../../common/errors.ts';
import { describe } from '../kit/suite.ts';
import { SimCluster } from './cluster.ts';
import { SimLoad } from './load.ts';
import { planOf } from './plan.ts';
import { Scheduler } from './scheduler.ts';

/** As many hosts as copies, so that nothing can take the place of a copy; and one may be missing. */
const seedsOf = (count: number): number[] =>
  Array.from({ length: 1000 }, (_, seed) => seed)
    .filter((seed) => {
      const { hosts, replicas, minWrite } = planOf(seed, { only: [] });
      return hosts.length === 3 && new Set(hosts).size === 3 && replicas === 3 && minWrite === 2;
    })
    .slice(0, count);
/** How long it may take until the others go on without it, at the first operation on a block. */
const WITHOUT_MS_MAX = 9_000;

describe('a disk that takes no writes any more', (test) => {
  test('stops nobody from deleting: blocks go on without it, open or sealed, whoever ordered their operations', async () => {
    for (const seed of seedsOf(4)) {
      const scheduler = new Scheduler(seed);
      const cluster = await SimCluster.open(planOf(seed, { operations: 120, only: [] }), scheduler);
      const load = new SimLoad(cluster, { acked: () => undefined, changed: () => undefined });
      load.start();
      await scheduler.run(() => load.isOver);
      const { medium } = cluster.dataservers[seed % 3]!;
      medium.faults.isReadOnly = true;
      medium.faults.count('read-only');
      const failures: string[] = [];
      let isDone = false;
      const done = (async () => {
        for (const { name } of load.names) {
          const beganAtMs = scheduler.now;
          await cluster.clients[0]!.client.remove(name).catch((error: unknown) => {
            failures.push(`${name}: ${toTfsError(error).message}`);
          });
          if (scheduler.now - beganAtMs > WITHOUT_MS_MAX)
            failures.push(`${name} took ${scheduler.now - beganAtMs} ms`);
        }
      })().finally(() => {
        isDone = true;
      });
      await scheduler.run(() => isDone);
      await done;
      assert.ok(load.names.length > 20, `${load.names.length} names`);
      assert.equal(failures, [], `seed ${seed}`);
    }
  });
});
