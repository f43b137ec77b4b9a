import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { describe } from '../kit/suite.ts';

const statesOf = (cluster: LocalCluster, id: number): Set<BlockState | undefined> => {
  const { store } = cluster.servers.get(id)!;
  return new Set(store.blocks.map((block) => store.info(block)?.state));
};

describe('a DataServer that stops', (test) => {
  test('leaves sealed blocks behind, its own and those of others; no write fails meanwhile', async (t) => {
    const cluster = await LocalCluster.start(t, { mounts: 4 });
    const { client } = cluster;
    const stored: Stored[] = [];
    let isLoaded = true;
    const writers = Array.from({ length: 4 }, async () => {
      while (isLoaded) stored.push(await client.put(randomBytes(9_000)));
    });
    while (stored.length < 40) await new Promise(setImmediate);
    const before = stored.length;
    await cluster.stopServer(2);
    const during = stored.length;
    assert.ok(during > before, 'writing went on');
    while (stored.length < during + 40) await new Promise(setImmediate);
    isLoaded = false;
    await Promise.all(writers);
    assert.is(cluster.nameserver.members.stateOf(2 as never), 'down', 'it said so');

    // As it finds them when it comes back, before anybody can have sealed anything.
    const back = await cluster.startServer(2, { nameservers: [], openBlocks: 0 });
    assert.ok(back.store.blocks.length >= 2);
    assert.equal([...statesOf(cluster, 2)], [BlockState.SEALED]);
    for (const { key, members } of stored.slice(0, before).filter((one) => one.members.includes(2 as never)))
      for (const member of members) {
        const info = cluster.servers.get(member)!.store.info(key.block)!;
        assert.is(info.state, BlockState.SEALED);
        assert.equal(info.seal?.digest, back.store.info(key.block)?.seal?.digest);
      }
  });

  test('all at once leave sealed blocks behind', async (t) => {
    const cluster = await LocalCluster.start(t);
    await Promise.all(Array.from({ length: 30 }, () => cluster.client.put(randomBytes(5_000))));
    await Promise.all([1, 2, 3].map((id) => cluster.stopServer(id)));
    await cluster.stopNameServer();
    for (const id of [1, 2, 3]) {
      await cluster.startServer(id, { nameservers: [], openBlocks: 0 });
      assert.equal([...statesOf(cluster, id)], [BlockState.SEALED], `server ${id}`);
    }
    await cluster.startNameServer();
  });

  test('does not wait for a leader that is not there', async (t) => {
    const cluster = await LocalCluster.start(t);
    await cluster.client.put(randomBytes(5_000));
    await cluster.stopNameServer();
    await cluster.stopServer(1);
    await cluster.startServer(1, { nameservers: [], openBlocks: 0 });
    assert.ok(statesOf(cluster, 1).has(BlockState.RECOVERED));
    await cluster.startNameServer();
  });
}, 30_000);
