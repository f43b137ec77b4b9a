import * as assert from 'uvu/assert';
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
  await world.until(() => world.isWhole, 30 * 60_000);
  return world;
}

describe('jobs, with a queue that may do anything', (test) => {
  test('every block is whole again, no two copies share a failure domain, and nothing is made twice', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const world = await campaign({ seed, faults: seed % 3 === 0 ? {} : BAD_QUEUE, lostMessages: seed % 4 });
      assert.equal(world.broken, [], `seed ${seed}`);
      assert.is(new Set(world.made).size, world.made.length, `seed ${seed}`);
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
}, 55_000);
