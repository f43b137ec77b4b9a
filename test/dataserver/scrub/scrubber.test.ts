import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../../common/errors.ts';
import type { BlockId } from '../../../common/ids.ts';
import { SCRUB_BYTES_PER_SECOND_MIN, SCRUB_FIRST_MS } from '../../../common/limits.ts';
import { BlockFlag } from '../../../common/wire/messages.ts';
import { ScrubWorld } from '../../kit/scrub-world.ts';
import { describe } from '../../kit/suite.ts';

const SMALL = { count: 4, bytes: 20_000 };
const LARGE = { count: 3, bytes: 700_000 };

describe('the scrub of a disk', (test) => {
  test('a server that has just started leaves its disk alone; then all replicas are read, once in a pass', async (t) => {
    const world = await ScrubWorld.open(t, 4, SMALL);
    await world.pass(SCRUB_FIRST_MS - 100);
    assert.is(world.ledger.pass, undefined);
    await world.until(() => world.isOver, 60_000);
    const { pass, last, leftBytes, suspects } = world.scrubber.figures;
    assert.equal([pass!.replicas, pass!.damaged, leftBytes, suspects], [4, 0, 0, 0]);
    assert.equal(last, pass);
    assert.is(world.scrubber.stats.replicas, 4);
    assert.ok(pass!.bytes > 4 * 4 * 20_000);
    await world.pass(200_000);
    assert.is(world.scrubber.stats.replicas, 4, 'not again before the week is over');
  });

  test('the usual pace is a megabyte a second, not more', async (t) => {
    const world = await ScrubWorld.open(t, 3, LARGE);
    await world.begun();
    const tookMs = await world.until(() => world.isOver, 60_000);
    const bytes = world.ledger.pass!.bytes;
    assert.ok(bytes > 6 << 20);
    const shouldMs = (bytes * 1000) / SCRUB_BYTES_PER_SECOND_MIN;
    assert.ok(tookMs > shouldMs * 0.9 && tookMs < shouldMs * 2, `${tookMs} ms for ${bytes} bytes`);
  });

  test('what has rotted is found, told once and SUSPECT; replicas about to be repaired are left alone', async (t) => {
    const world = await ScrubWorld.open(t, 3, SMALL);
    const [, second, third] = world.blocks;
    world.flip(second!, 30_000);
    world.flip(second!, 60_000);
    await world.scrubber.begin('full-speed');
    await world.until(() => world.isOver, 1000);
    const { pass, suspects } = world.scrubber.figures;
    assert.equal([pass!.replicas, pass!.damaged, pass!.problems, suspects], [3, 1, 2, 1]);
    assert.is(world.store.info(second!)!.flags, BlockFlag.SUSPECT);
    assert.is(world.store.info(third!)!.flags, 0);
    assert.is(world.log.lines.filter(({ message }) => message === 'a scrub has found damage').length, 1);
    await world.scrubber.begin('full-speed');
    await world.until(() => world.isOver, 1000);
    assert.equal([world.ledger.pass!.replicas, world.ledger.pass!.damaged], [2, 0]);
    assert.is(world.scrubber.stats.damaged, 1);
  });

  test('a restart goes on where the pass was', async (t) => {
    const world = await ScrubWorld.open(t, 4, LARGE);
    await world.begun();
    await world.until(() => (world.ledger.pass?.replicas ?? 0) === 2, 60_000);
    const startedAtMs = world.ledger.pass!.startedAtMs;
    const readAtMs = world.blocks.map((block) => world.ledger.readAtMs(block));
    await world.restart();
    assert.is(world.ledger.pass!.startedAtMs, startedAtMs);
    await world.until(() => world.isOver, 120_000);
    assert.is(world.scrubber.stats.replicas, 2, 'the other two');
    assert.is(world.ledger.pass!.replicas, 4);
    world.blocks.forEach((block, i) => {
      if (readAtMs[i] !== undefined) assert.is(world.ledger.readAtMs(block), readAtMs[i]);
      else assert.ok(world.ledger.readAtMs(block)! > startedAtMs);
    });
  });

  test('a stop in the middle of a replica does not wait for it, and does not count it', async (t) => {
    const world = await ScrubWorld.open(t, 1, LARGE);
    await world.begun();
    await world.until(() => world.scrubber.stats.bytes > 500_000, 60_000);
    await world.scrubber.close();
    assert.is(world.ledger.readAtMs(world.blocks[0]!), undefined);
    assert.not(world.isOver);
    assert.is(world.store.info(world.blocks[0]!)!.flags, 0);
  });

  test('full speed waits for nothing, begins anew, and wakes a scrub that sleeps', async (t) => {
    const world = await ScrubWorld.open(t, 3, LARGE);
    await world.begun();
    await world.until(() => world.ledger.pass!.replicas === 1, 60_000);
    const before = world.ledger.pass!.startedAtMs;
    const stood = await world.scrubber.begin('pass');
    assert.is(stood.pass!.startedAtMs, before, 'one is under way');
    const { pass, leftReplicas } = await world.scrubber.begin('full-speed');
    assert.ok(pass!.startedAtMs > before && pass!.fullSpeed);
    assert.is(leftReplicas, 3, 'also what was read a moment ago: it may have rotted since');
    const tookMs = await world.until(() => world.isOver, 2000);
    assert.ok(tookMs <= 200, `${tookMs} ms`);
    assert.is(world.ledger.pass!.replicas, 3);
  });

  test('it rests when reads of pictures wait for it, and goes on when they do not', async (t) => {
    const world = await ScrubWorld.open(t, 5, LARGE);
    const { reads, clock } = world;
    const note = (ms: number): void => {
      const begunAtMs = clock.monotonic() - ms;
      reads.end(begunAtMs);
    };
    for (let i = 0; i < 100; i++) note(0);
    await world.begun();
    const readFor = async (ms: number, slow: boolean): Promise<number> => {
      const before = world.scrubber.stats.bytes;
      for (let spent = 0; spent < ms; spent += 500) {
        // Each meets a piece.
        if (slow) await reads.piece(async () => undefined);
        if (slow) for (let i = 0; i < 60; i++) note(30);
        await world.pass(500);
      }
      return world.scrubber.stats.bytes - before;
    };
    const disturbed = await readFor(8_000, true);
    assert.ok(world.scrubber.figures.restsForReads);
    assert.ok(disturbed < 3 << 20, `${disturbed} bytes in eight seconds`);
    await world.until(() => world.isOver, 120_000);
    assert.not(world.scrubber.figures.restsForReads);
    assert.is(world.ledger.pass!.replicas, 5);
  });

  test('what was read in the future, as a clock says that was set back, is read once more', async (t) => {
    const world = await ScrubWorld.open(t, 4, LARGE);
    await world.begun();
    await world.until(() => (world.ledger.pass?.replicas ?? 0) === 2, 60_000);
    for (const block of world.blocks) await world.ledger.read(block, world.clock.now() + 3_600_000);
    await world.until(() => world.isOver, 120_000);
    assert.is(world.scrubber.stats.replicas, 6, 'two before, and all of them since');
    for (const block of world.blocks) assert.ok(world.ledger.readAtMs(block)! <= world.clock.now());
  });

  test('what was read through is told for a while', async (t) => {
    const world = await ScrubWorld.open(t, 2, SMALL);
    assert.equal(world.scrubber.scrubbed, []);
    await world.scrubber.begin('full-speed');
    await world.until(() => world.isOver, 1000);
    assert.equal([...world.scrubber.scrubbed].sort(), world.blocks);
    await world.pass(4000);
    assert.equal(world.scrubber.scrubbed, []);
  });

  /** A job that may read as fast as it likes, until it is told otherwise. */
  const job = (world: ScrubWorld) => {
    let isLate = false;
    const pace = {
      bytes: 0,
      late: (): void => {
        isLate = true;
      },
      came: async (bytes: number): Promise<void> => {
        pace.bytes += bytes;
        await world.clock.sleep(1);
      },
      assertInTime: (): void => {
        if (isLate) throw new TfsError('DEADLINE', 'planted');
      },
    };
    return pace;
  };
  const ended = async (world: ScrubWorld, work: Promise<void>): Promise<string> => {
    let how: string | undefined;
    work.then(
      () => {
        how = 'done';
      },
      (error: unknown) => {
        how = isTfsError(error) ? error.code : String(error);
      },
    );
    await world.until(() => how !== undefined, 3600_000);
    return how!;
  };

  test('a job has one replica read through, which counts in the pass that is under way', async (t) => {
    const world = await ScrubWorld.open(t, 4, LARGE);
    await world.begun();
    const [, , third, last] = world.blocks;
    world.flip(last!, 30_000);
    await world.pass(100);
    const pace = job(world);
    assert.is(await ended(world, world.scrubber.readThrough(last!, pace)), 'done');
    assert.ok(pace.bytes > 3 * 700_000);
    assert.ok(world.ledger.readAtMs(last!)! >= world.ledger.pass!.startedAtMs);
    assert.equal(
      [world.ledger.pass!.replicas, world.ledger.pass!.damaged],
      [1, 1],
      'before the first of the pass',
    );
    assert.is(world.store.info(last!)!.flags, BlockFlag.SUSPECT);
    assert.ok(world.scrubber.scrubbed.includes(last!), 'the leader compares it');
    assert.is(await ended(world, world.scrubber.readThrough(third!, job(world))), 'done');
    await world.until(() => world.isOver, 120_000);
    assert.is(world.ledger.pass!.replicas, 4);
    assert.is(world.scrubber.stats.replicas, 4, 'none twice');
    assert.is(world.scrubber.figures.leftBytes, 0);
    const { pass } = world.ledger;
    await world.pass(5_000);
    assert.is(await ended(world, world.scrubber.readThrough(world.blocks[0]!, pace)), 'done');
    assert.equal(world.ledger.pass, pass, 'in no pass');
    assert.ok(world.ledger.readAtMs(world.blocks[0]!)! > pass!.endedAtMs!);
  });

  test('a job that is too late, or for what is not here, or is stopped, reads no more and counts nothing', async (t) => {
    const world = await ScrubWorld.open(t, 1, LARGE);
    const [block] = world.blocks as [BlockId];
    const late = job(world);
    late.late();
    assert.is(await ended(world, world.scrubber.readThrough(block, late)), 'DEADLINE');
    assert.is(await ended(world, world.scrubber.readThrough(7 as BlockId, job(world))), 'DONT_KNOW');
    const stopped = job(world);
    const work = world.scrubber.readThrough(block, stopped);
    await world.until(() => stopped.bytes > 0);
    const closed = world.scrubber.close();
    assert.is(await ended(world, work), 'CLOSED');
    await closed;
    assert.is(world.ledger.readAtMs(block), undefined);
  });

  test('a job gives way to reads of pictures, and up when they are always in the way', async (t) => {
    const world = await ScrubWorld.open(t, 1, { count: 10, bytes: 700_000 });
    const { reads, clock } = world;
    const note = (ms: number): void => reads.end(clock.monotonic() - ms);
    for (let i = 0; i < 100; i++) note(0);
    const work = world.scrubber.readThrough(world.blocks[0]!, job(world));
    let isOver = false;
    const outcome = ended(world, work).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      await reads.piece(async () => undefined);
      for (let i = 0; i < 60; i++) note(30);
      await world.pass(500);
    }
    assert.is(await outcome, 'UNAVAILABLE');
    assert.is(world.ledger.readAtMs(world.blocks[0]!), undefined);
  });

  test('what has just been made whole is as good as read', async (t) => {
    const world = await ScrubWorld.open(t, 2, SMALL);
    await world.scrubber.close();
    world.clock.leap(9 * 24 * 3600 * 1000);
    const overdue = () => world.scrubber.overdue.map(({ block }) => block);
    assert.equal(overdue(), world.blocks);
    world.scrubber.made(world.blocks[0]!);
    assert.equal(overdue(), world.blocks.slice(1));
  });
});
