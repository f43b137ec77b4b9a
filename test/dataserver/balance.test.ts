import * as assert from 'uvu/assert';
import { serverId } from '../../common/ids.ts';
import { FilledCluster, until } from '../kit/filled-cluster.ts';
import { describe } from '../kit/suite.ts';

describe('disks of different fullness', (test) => {
  test('an empty one is filled until all are about as full, and uploads and reads go on', async (t) => {
    const world = await FilledCluster.start(t, { capacityBytes: 60 << 20 });
    const { cluster } = world;
    const { drains, members } = cluster.nameserver;
    await drains.set({ server: serverId(4), drained: true });
    await until('one disk is empty', () => cluster.servers.get(4)!.store.blocks.length === 0, 40_000);
    const percents = () => [1, 2, 3, 4].map((id) => members.usedPercent(serverId(id)));
    const spread = () => Math.max(...percents()) - Math.min(...percents());
    await until('its heartbeats say so', () => spread() > 5);
    const before = cluster.nameserver.jobs.desk.stats.done;
    await drains.set({ server: serverId(4), drained: false });
    let isBusy = true;
    const busy = (async () => {
      while (isBusy) {
        await cluster.client.put(Buffer.from(`picture ${Math.random()}`));
        await world.readAll();
      }
    })();
    await until('they are even', () => spread() <= 5, 40_000);
    isBusy = false;
    await busy;
    assert.ok(cluster.nameserver.jobs.desk.stats.done > before, 'by moving blocks');
    await until('no copy is too many', () => world.blocks.every(({ replicas }) => replicas.length === 3));
    for (const { block } of world.blocks) await world.alike(block);
    assert.is(cluster.nameserver.jobs.desk.stats.failed, 0);
  });
}, 58_000);
