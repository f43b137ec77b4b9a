import * as assert from 'uvu/assert';
import { serverId } from '../../common/ids.ts';
import { FilledCluster, until } from '../kit/filled-cluster.ts';
import { describe } from '../kit/suite.ts';

describe('a disk that is lost for good', (test) => {
  test('what it held is copied to the others, serves, takes operations, and is read back from each of them', async (t) => {
    const world = await FilledCluster.start(t);
    const { cluster } = world;
    await cluster.stopServer(4);
    await until('what it was writing is sealed', () => world.isSealed([4]));
    await world.remove();
    await until(
      'every block has three copies',
      () => world.copies([4]).every((count) => count === 3),
      40_000,
    );
    for (const { block } of world.blocks) await world.alike(block);
    await world.readAll();
    await world.remove();
    // Each of the three alone can answer.
    await cluster.confirmed();
    await world.readAll();
    for (const server of cluster.servers.values())
      assert.is(server.store.blocks.length, server.store.totals().blocks);
    const { desk } = cluster.nameserver.jobs;
    assert.ok(desk.stats.done > 0);
    assert.is(desk.stats.failed, 0);
    assert.is(world.cluster.nameserver.jobs.planner.round?.wanted.length, 0);
  });

  test('without a queue only the last copies are made, at the word of the leader', async (t) => {
    const world = await FilledCluster.start(t);
    const { cluster } = world;
    world.queues.isDown = true;
    await cluster.stopServer(4);
    await until('what it was writing is sealed', () => world.isSealed([4]));
    // With two away nobody could be sure to know of every block.
    await cluster.nameserver.removal.remove({ server: serverId(4), force: false });
    await cluster.stopServer(3);
    await until('what it was writing is sealed', () => world.isSealed([4, 3]));
    assert.ok(world.copies([3, 4]).some((count) => count === 1));
    await until('no block has one copy', () => world.copies([3, 4]).every((count) => count === 2), 40_000);
    assert.ok(cluster.nameserver.jobs.direct.stats.started > 0);
    assert.is(cluster.nameserver.jobs.desk.stats.failed, 0);
    await world.readAll();
  });
}, 55_000);
