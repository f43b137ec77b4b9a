import * as assert from 'uvu/assert';
import { ClusterMapCache } from '../../client/cluster-map.ts';
import { NameServers } from '../../client/nameservers.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { silentLog } from '../../common/log.ts';
import { FakeCluster } from '../kit/fake-cluster.ts';
import { describe, type TestContext } from '../kit/suite.ts';

function open(t: TestContext, cluster: FakeCluster) {
  const nameservers = new NameServers(cluster, cluster.nameserverAddresses, nodeClock, nodeRandom);
  const map = ClusterMapCache.open({ nameservers, clock: nodeClock, log: silentLog });
  t.defer(() => map.close());
  return { nameservers, map };
}

describe('cluster map', (test) => {
  test('of two that claim to lead the one with the higher reign counts, whoever answers first', async (t) => {
    for (const late of [0, 1]) {
      const cluster = new FakeCluster({ nameservers: 2 });
      const current = cluster.nameservers[1]!;
      current.leader = true;
      current.epoch = 2;
      let wake: () => void = () => undefined;
      cluster.nameservers[late]!.stopped = new Promise((resolve) => {
        wake = resolve;
      });
      const { map, nameservers } = open(t, cluster);
      const first = await map.get();
      assert.is(first.reign.epoch, late === 0 ? 2 : 1);
      wake();
      await nodeClock.sleep(20);
      assert.is(map.current?.reign.epoch, 2);
      assert.is(nameservers.ordered[0], current.address);
      // From now on the old one is no leader, also where the new one does not answer.
      current.down = true;
      await map.refresh();
      assert.is(map.current?.reign.epoch, 1, 'its map is better than none');
      current.down = false;
      await map.refresh();
      assert.is(map.current?.reign.epoch, 2);
    }
  });

  test('without a leader the newest map counts', async (t) => {
    const cluster = new FakeCluster({ nameservers: 2 });
    cluster.nameservers[0]!.leader = false;
    const { map } = open(t, cluster);
    assert.not((await map.get()).leader);
  });
});
