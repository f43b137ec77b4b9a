import * as assert from 'uvu/assert';
import type { BlockId } from '../../../common/ids.ts';
import { JobsWorld, type JobsWorldOptions } from '../../kit/jobs-world.ts';
import { describe } from '../../kit/suite.ts';

const DAY_MS = 24 * 3600 * 1000;
const BAD_QUEUE = { loses: 25, repeats: 40, reorders: 50, delaysByADay: 15 };

/** Kills servers for good and for a while, changes leaders, flushes and stops the queue; then lets it come to rest. */
async function campaign(options: JobsWorldOptions): Promise<JobsWorld> {
  const world = new JobsWorld(options);
  const { random, servers, queues } = world;
  await world.pass(2000);
  const lost = random.pick(servers);
  world.kill(lost);
  for (let i = 0; i < 25; i++) {
    await world.pass(random.below(8000));
    const other = random.pick(servers.filter((server) => server !== lost));
    switch (random.below(6)) {
      case 0:
        world.lead();
        break;
      case 1:
        queues.flush();
        break;
      case 2:
        queues.isDown = !queues.isDown;
        break;
      case 3:
        // Back before it is given up.
        world.kill(other);
        await world.pass(random.below(10_000));
        world.restart(other);
        break;
      case 4:
        other.fails = !other.fails;
        break;
    }
    // Nobody may lose more than one disk at a time.
    assert.ok(world.blocks.every((block) => world.spread(block) >= 1));
  }
  queues.isDown = false;
  for (const server of servers) server.fails = false;
  // What was parked is tried again after its time.
  await world.until(() => world.isWhole && world.isLean, 40 * 60_000);
  return world;
}

describe('jobs, with a queue that may do anything', (test) => {
  test('every block is whole again, no two copies share a failure domain, and nothing is made twice', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const faults = seed % 3 === 0 ? {} : BAD_QUEUE;
      const world = await campaign({ seed, garbage: 15, faults, lostMessages: seed % 4 });
      assert.equal(world.broken, [], `seed ${seed}`);
      assert.is(new Set(world.made).size, world.made.length, `seed ${seed}`);
      assert.is(world.compacted.length, world.garbage.length, `seed ${seed}`);
      assert.is(new Set(world.compacted).size, world.compacted.length, `seed ${seed}`);
      // Jobs of yesterday, all at once: nobody wants them any more.
      const before = world.made.length;
      world.clock.leap(DAY_MS);
      await world.pass(60_000);
      assert.is(world.made.length, before, `seed ${seed}`);
      assert.equal(world.broken, [], `seed ${seed}`);
    }
  });

  test('several DataServers in one failure domain', async () => {
    for (let seed = 100; seed < 105; seed++) {
      const world = await campaign({ seed, servers: 9, domains: 4, faults: BAD_QUEUE, lostMessages: 3 });
      assert.equal(world.broken, [], `seed ${seed}`);
    }
  });

  test('a queue that works: two lost one after the other, and exactly as many copies as were lost', async () => {
    const world = new JobsWorld({ seed: 7, servers: 8, blocks: 200 });
    const [first, second] = world.servers as [(typeof world.servers)[0], (typeof world.servers)[0]];
    world.kill(first);
    await world.until(() => world.isWhole, 10 * 60_000);
    assert.is(world.made.length, first.held.size);
    const before = world.made.length;
    const due = world.blocks.filter((block) => second.held.has(block)).length;
    world.kill(second);
    await world.until(() => world.isWhole, 10 * 60_000);
    assert.is(world.made.length - before, due);
    assert.equal(world.broken, []);
    // To all the others, and not to one of them.
    const targets = new Set(world.made.map((made) => made.split(' ').at(-1)));
    assert.is(targets.size, 7);
  });

  test('an emptied queue is filled again within half a minute, and work goes on', async () => {
    const world = new JobsWorld({ seed: 9, blocks: 400 });
    world.kill(world.servers[0]!);
    await world.until(() => world.made.length > 10, 120_000);
    for (let i = 0; i < 5; i++) {
      world.queues.flush();
      const { added } = world.queues;
      const before = added.length;
      await world.until(() => added.length > before, 30_000);
    }
    await world.until(() => world.isWhole, 20 * 60_000);
    assert.equal(world.broken, []);
  });

  test('what a DataServer had taken when it died is queued for it again as soon as it is back', async () => {
    const world = new JobsWorld({ seed: 12, servers: 4, blocks: 40 });
    const [lost, worker] = world.servers as [(typeof world.servers)[0], (typeof world.servers)[0]];
    world.kill(lost);
    const isQueued = () => world.queues.added.some(({ server }) => server === worker.id);
    await world.until(isQueued, 20 * 60_000);
    world.queues.strand(worker.id);
    world.kill(worker);
    world.restart(worker);
    await world.until(() => world.isWhole, 2 * 60_000);
    assert.equal(world.broken, []);
  });

  test('without a queue, or with one that throws jobs away, the last copies are made all the same, and no others', async () => {
    for (const trouble of ['isDown', 'evicts'] as const) {
      const world = new JobsWorld({ seed: 11, servers: 6, blocks: 60 });
      world.queues[trouble] = true;
      const [first, second] = world.servers;
      world.kill(first!);
      await world.pass(60_000);
      assert.equal(world.made, [], 'two copies are left of each');
      world.kill(second!);
      const atRisk = world.blocks.filter((block) => world.spread(block) === 1);
      assert.ok(atRisk.length > 5);
      await world.until(() => atRisk.every((block) => world.spread(block) >= 2), 10 * 60_000);
      assert.is(world.made.length, atRisk.length);
      assert.ok(world.leader.dispatcher.trouble !== undefined);
      assert.not(world.isWhole);
      world.queues[trouble] = false;
      await world.until(() => world.isWhole, 10 * 60_000);
      assert.is(world.leader.dispatcher.trouble, undefined);
      assert.equal(world.broken, []);
    }
  });

  test('would wait for ever for jobs that were lost or failed if it used their ids again', async () => {
    const lost = (reusesIds: boolean) =>
      new JobsWorld({ seed: 5, blocks: 20, faults: { loses: 50 }, reusesIds });
    const world = lost(true);
    world.kill(world.servers[0]!);
    await world.pass(15 * 60_000);
    assert.not(world.isWhole, 'the planted bug is caught');
    const sound = lost(false);
    sound.kill(sound.servers[0]!);
    await sound.until(() => sound.isWhole, 15 * 60_000);
  });

  test('what an operator has paused is not begun, with a queue or without, and goes on when it is resumed', async () => {
    for (const isDown of [false, true]) {
      const world = new JobsWorld({ seed: 12, servers: 6, blocks: 60 });
      world.queues.isDown = isDown;
      world.kill(world.servers[0]!);
      world.kill(world.servers[1]!);
      world.paused.add('replicate');
      await world.pass(120_000);
      assert.equal(world.made, []);
      world.paused.clear();
      await world.until(() => world.made.length > 0, 60_000);
    }
  });

  test('garbage is taken out through the queue, each block once, though every job comes several times', async () => {
    const world = new JobsWorld({ seed: 21, garbage: 30, faults: { repeats: 60, reorders: 50 } });
    await world.until(() => world.isLean, 10 * 60_000);
    assert.is(world.compacted.length, 30);
    assert.is(world.compacted.length, new Set(world.compacted).size);
    assert.equal([...world.purged.values()], new Array(30).fill(1), 'and is asked for once');
    assert.equal(world.broken, []);
  });

  test('a block of which nothing may go yet is looked at now and then, by no more than one job at a time', async () => {
    const world = new JobsWorld({ seed: 22, garbage: 5 });
    for (const block of world.garbage) world.undeletable.add(block);
    await world.pass(9 * 60_000);
    assert.equal([...world.purged.values()], [1, 1, 1, 1, 1]);
    for (const block of world.garbage) world.undeletable.delete(block);
    await world.until(() => world.isLean, 10 * 60_000);
  });

  test('garbage is taken out without a queue too, and copies come first where there is one', async () => {
    const world = new JobsWorld({ seed: 23, blocks: 100, garbage: 20 });
    world.queues.isDown = true;
    await world.until(() => world.isLean, 10 * 60_000);
    const other = new JobsWorld({ seed: 24, blocks: 300, garbage: 300 });
    other.kill(other.servers[0]!);
    await other.until(() => other.isWhole, 10 * 60_000);
    const copied = other.clock.monotonic();
    assert.not(other.isLean);
    await other.until(() => other.isLean, 60 * 60_000);
    assert.ok(copied > 0);
    assert.equal(other.broken, []);
  });

  test('what is overdue for a scrub is read through, each replica about once, and copies do not wait for it', async () => {
    for (const faults of [{}, { loses: 10, repeats: 40, reorders: 50 }]) {
      const world = new JobsWorld({ seed: 31, blocks: 60, garbage: 5, faults });
      for (const server of world.servers)
        for (const block of [...server.held].slice(0, 15)) server.overdue.add(block);
      world.paused.add('replicate');
      world.kill(world.servers[0]!);
      // Queues that are full of what is not urgent, as they can be.
      await world.until(() => world.scrubbed.length > 5, 10 * 60_000);
      world.paused.clear();
      const scrubbed = world.scrubbed.length;
      await world.until(() => world.isWhole, 20 * 60_000);
      // A place beside the one that scrubs is always free for copies.
      const left = world.servers.reduce((sum, { overdue }) => sum + overdue.size, 0);
      assert.ok(left > 0, `${world.scrubbed.length - scrubbed} were scrubbed meanwhile`);
      world.servers[0]!.overdue.clear();
      await world.until(() => world.servers.every(({ overdue }) => overdue.size === 0), 3600_000);
      assert.is(new Set(world.scrubbed).size, world.scrubbed.length);
      assert.equal(world.broken, []);
    }
  });

  test('all jobs of all DataServers together move no more than the cluster may, and not much less', async () => {
    const most = 500_000;
    const world = new JobsWorld({ seed: 41, blocks: 400, clusterBytesPerSecond: most });
    const { servers, leader, clock } = world;
    for (const server of servers) for (const block of server.held) server.overdue.add(block);
    // They take no copies, and scrub all the same.
    for (const server of servers.slice(0, 2)) server.isFull = true;
    world.kill(servers[5]!);
    await world.until(() => leader.desk.grants.size > 0, 60_000);
    const begunAtMs = clock.monotonic();
    const allowed = () => (most * (clock.monotonic() - begunAtMs + 1000)) / 1000;
    for (let i = 0; i < 240; i++) {
      await world.pass(1000);
      assert.ok(world.bytesMoved <= allowed(), `${world.bytesMoved} bytes, and ${allowed()} are allowed`);
    }
    assert.ok(world.made.length > 20 && world.scrubbed.length > 20);
    assert.ok(world.bytesMoved > allowed() / 2, `${world.bytesMoved} bytes of ${allowed()}`);
  });

  test('an operator who pauses compactions stops all that looks for garbage, and finishes what is committed', async () => {
    for (const isDown of [false, true]) {
      const world = new JobsWorld({ seed: 25, garbage: 20 });
      world.queues.isDown = isDown;
      world.paused.add('compact');
      await world.pass(120_000);
      assert.equal(world.compacted, []);
      // As an operator asks for it; one of the members dies in the middle.
      const [block] = world.garbage as [BlockId];
      const asked = world.leader.compaction.request(block).catch(() => undefined);
      while (world.compacted.length === 0) await world.pass(250);
      await world.pass(120_000);
      await asked;
      assert.is(world.compacted.length, 1);
      world.paused.clear();
      await world.until(() => world.isLean, 10 * 60_000);
    }
  });

  test('a DataServer on which everything fails is left alone, and others do it', async () => {
    const world = new JobsWorld({ seed: 13, servers: 6, blocks: 60 });
    const sick = world.servers[1]!;
    sick.fails = true;
    world.kill(world.servers[0]!);
    await world.until(() => world.isWhole, 10 * 60_000);
    assert.ok(world.leader.desk.failures.parked.length > 0);
    assert.equal(world.broken, []);
    assert.not(world.made.some((made) => made.endsWith(` on ${sick.id}`)));
  });
}, 180_000);
