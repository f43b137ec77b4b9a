import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { BullQueues } from '../../common/adapters/bull-queues.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import type { BlockId, Slot } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { FilledCluster, until } from '../kit/filled-cluster.ts';
import { RedisOfTest } from '../kit/redis-of-test.ts';
import { describe, type TestContext } from '../kit/suite.ts';

type Options = Parameters<typeof FilledCluster.start>[1];

async function start(t: TestContext, options: Options) {
  const redis = await RedisOfTest.open(t);
  redis.start();
  const queues = BullQueues.open({ url: redis.url, clusterUuid: 'cd'.repeat(16), log: silentLog });
  t.defer(() => queues.close());
  return { redis, world: await FilledCluster.start(t, { queues, ...options }) };
}

/** Deletes two pictures of three of a sealed block. */
async function makeGarbage(world: FilledCluster): Promise<BlockId> {
  await world.untilSealed();
  const block = world.blocks.find(({ whole }) => whole === Whole.SEALED)!.block;
  const there = world.pictures.filter(({ stored }) => stored.key.block === block);
  for (const [i, picture] of there.entries()) if (i % 3 > 0) await world.remove(picture);
  return block;
}

describe('work that can wait, with a real queue', (test) => {
  const withRedis = findRedisServer(process.env) === undefined ? test.skip : test;

  withRedis(
    'a block with much garbage is compacted because of a job; all else reads as before',
    async (t) => {
      const { world } = await start(t, { undeleteWindowMs: 0 });
      const { map, jobs, compaction } = world.cluster.nameserver;
      // So that nothing of it is begun before there is much of it.
      await jobs.pauses.set('compact', true);
      const block = await makeGarbage(world);
      await until(
        'it is wanted',
        () => jobs.answers.plan(100).work?.some((one) => one.block === block) === true,
      );
      assert.match(jobs.answers.why(block).work[0]!.reason, /% of it is deleted/);
      assert.is(compaction.stats.compacted, 0);
      await jobs.pauses.set('compact', false);
      await until('it is compacted', () => map.facts(block)?.generation === 1);
      await until('the job is over', () => jobs.desk.stats.done > 0);
      assert.ok(jobs.desk.stats.bytes > 0, 'because of the job');
      await until('everywhere', () => map.facts(block)!.replicas.every(({ outdated }) => !outdated));
      for (const { store } of world.cluster.servers.values())
        if (store.info(block) !== undefined) assert.equal((await store.verify(block)).problems, []);
      await world.readAll();
    },
  );

  withRedis('garbage is taken out while Redis is gone', async (t) => {
    const { redis, world } = await start(t, { undeleteWindowMs: 0 });
    const { map, jobs } = world.cluster.nameserver;
    await redis.kill();
    await until('it is noticed', () => jobs.dispatcher!.trouble !== undefined);
    const block = await makeGarbage(world);
    await until('it is compacted', () => map.facts(block)?.generation === 1);
    await world.readAll();
  });

  withRedis('an erasure that could not be done at once is done because of a job', async (t) => {
    const { world } = await start(t, {});
    const { map, jobs, erasure } = world.cluster.nameserver;
    await world.untilSealed();
    const { block, replicas } = world.blocks.find(({ whole }) => whole === Whole.SEALED)!;
    const picture = world.pictures.find(({ stored }) => stored.key.block === block)!;
    await world.remove(picture);
    await jobs.pauses.set('purge', true);
    const { store } = world.cluster.servers.get(replicas[1]!.server)!;
    const prepare = store.prepareCompaction.bind(store);
    store.prepareCompaction = () => Promise.reject(new TfsError('OVERLOADED', 'planted'));
    const slot = picture.stored.key.fileId as number as Slot;
    const ordered = erasure.erase({ block, slots: [{ slot, aliases: 0 }] });
    assert.ok(isTfsError(await ordered.catch((error: unknown) => error)));
    store.prepareCompaction = prepare;
    await until('it is planned', () => jobs.answers.plan(100).work?.[0]?.kind === 'purge');
    assert.is(map.facts(block)?.generation, 0, 'the kind is paused');
    await jobs.pauses.set('purge', false);
    await until('it is erased', () => erasure.stats.blocks > 0);
    await until('the job is over', () => jobs.desk.stats.done > 0);
    await until('everybody has said so', () => map.facts(block)?.generation === 1);
    for (const one of world.cluster.servers.values())
      if (one.store.info(block) !== undefined) assert.not.ok(await one.store.records.holdsAny(block, [slot]));
    await world.readAll();
  });

  withRedis(
    'a replica that was not read through for long is read because of a job, and rot in it found',
    async (t) => {
      // Overdue a quarter of a minute after it was made; the pass of the disk itself begins much later.
      const { world } = await start(t, { scrubPassMs: 12_000 });
      const { servers } = world.cluster;
      await world.untilSealed();
      const { block, replicas } = world.blocks.find(({ whole }) => whole === Whole.SEALED)!;
      const holder = servers.get(replicas[0]!.server)!;
      const path = join(world.cluster.mountPath(replicas[0]!.server), 'blocks', `${block}.0.blk`);
      const bytes = readFileSync(path);
      bytes[50_000]! ^= 4;
      writeFileSync(path, bytes, { flag: 'r+' });
      await until('it is overdue', () => holder.scrubber.overdue.length > 0, 60_000);
      await until('the damage is found', () => holder.scrubber.stats.damaged > 0, 60_000);
      assert.is(holder.scrubber.figures.pass, undefined, 'by no pass');
      assert.ok(holder.jobs!.stats.bytes > 0);
      await until('it is made whole', () => holder.store.totals().suspects === 0);
      await world.readAll();
    },
  );
}, 150_000);
