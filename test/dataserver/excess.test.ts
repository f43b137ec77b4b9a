import * as assert from 'uvu/assert';
import { serverId } from '../../common/ids.ts';
import { FilledCluster, until } from '../kit/filled-cluster.ts';
import { describe } from '../kit/suite.ts';

/** Servers that have a file of the block. */
const holdersOf = ({ cluster }: FilledCluster, block: number): number[] =>
  [...cluster.servers].filter(([, { store }]) => store.blocks.some((id) => id === block)).map(([id]) => id);

const areTrimmed = (world: FilledCluster): boolean =>
  world.blocks.every(({ block, replicas }) => holdersOf(world, block).length === 3 && replicas.length === 3);

describe('copies too many', (test) => {
  test('a server that comes back when others have taken its place keeps what is needed of it', async (t) => {
    const world = await FilledCluster.start(t, { deadMs: 3_000 });
    const { cluster } = world;
    await cluster.stopServer(4);
    await until('what it was writing is sealed', () => world.isSealed([4]));
    await until(
      'every block has three copies',
      () => world.copies([4]).every((count) => count === 3),
      30_000,
    );
    await world.remove();
    await cluster.startServer(4);
    await until('every block has exactly three', () => areTrimmed(world), 30_000);
    assert.ok(cluster.nameserver.dropper.stats.dropped > 0);
    assert.ok(world.copies([]).every((count) => count === 3));
    for (const { block } of world.blocks) await world.alike(block);
    await world.readAll();
  });

  test('a server that is to be emptied is empty in the end, and serves all the time', async (t) => {
    const world = await FilledCluster.start(t);
    const { cluster } = world;
    const { drains } = cluster.nameserver;
    assert.ok(cluster.servers.get(4)!.store.blocks.length > 0);
    await drains.set({ server: serverId(4), drained: true });
    const isEmpty = () => cluster.servers.get(4)!.store.blocks.length === 0;
    let isReading = true;
    const reading = (async () => {
      while (isReading) await world.readAll();
    })();
    await until('it is empty', isEmpty, 40_000);
    isReading = false;
    await reading;
    assert.ok(world.copies([4]).every((count) => count === 3));
    for (const { block } of world.blocks) await world.alike(block);
    assert.is(cluster.nameserver.clusterMap().servers.find(({ id }) => id === 4)!.drained, true);
    await world.remove();
    await drains.set({ server: serverId(4), drained: false });
    await until('it is written to again', () => !isEmpty());
  });
}, 55_000);
