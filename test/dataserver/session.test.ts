import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import type { BlockId, FileId } from '../../common/ids.ts';
import { MEMBER_ACK_MS_MAX, OPEN_BLOCK_AGE_MS_MAX, REAPPEND_MS_MAX } from '../../common/limits.ts';
import { BlockState, Op } from '../../common/wire/messages.ts';
import type { Stored } from '../../dataserver/session.ts';
import { LEADER, recordOf, SealWorld } from '../kit/seal-world.ts';
import { describe } from '../kit/suite.ts';

const TIMES = { patienceMs: 3000, deadMs: 20_000 };
const ALL = { offset: 0, length: 0xffff_ffff };

async function open(seed = 1): Promise<SealWorld> {
  const world = await SealWorld.open({ seed, times: TIMES });
  await world.pass(500);
  return world;
}

interface Upload {
  readonly payload: Buffer;
  /** Undefined until it is answered. */
  stored: Stored | undefined;
  error: unknown;
  readonly opId: Buffer;
}

function put(world: SealWorld, server: number, bytes = 500): Upload {
  const payload = world.random.bytes(bytes);
  const record = recordOf(world.random, payload);
  const upload: Upload = { payload, stored: undefined, error: undefined, opId: record.opId };
  world
    .life(server)
    .pool.append(record)
    .then(
      (stored) => {
        upload.stored = stored;
      },
      (error: unknown) => {
        upload.error = error;
      },
    );
  return upload;
}

const blockOf = (world: SealWorld, server: number): BlockId => world.life(server).pool.openBlocks[0]!;
const stateOf = (world: SealWorld, server: number, block: BlockId) =>
  world.life(server).store.info(block)?.state;

async function untilSealed(world: SealWorld, block: BlockId, servers = [1, 2, 3]): Promise<void> {
  for (let passedMs = 0; passedMs < 60_000; passedMs += 100) {
    if (servers.every((server) => stateOf(world, server, block) === BlockState.SEALED)) return;
    await world.pass(100);
  }
  throw new Error(`block ${block} is not sealed: ${servers.map((server) => stateOf(world, server, block))}`);
}

describe('write sessions', (test) => {
  test('a lost connection ends every session with that peer at once, and only those', async () => {
    const world = await open();
    const blocks = [1, 2].map((server) => blockOf(world, server));
    world.kill(3);
    await world.pass(100, 2);
    for (const [i, server] of [1, 2].entries()) {
      const { pool } = world.life(server);
      assert.ok(pool.openBlocks.length > 0 && !pool.openBlocks.includes(blocks[i]!), 'another block is open');
      const grant = world.opened.find(({ block }) => block === pool.openBlocks[0])!;
      assert.equal(grant.members.map(({ id }) => id).sort(), [1, 2]);
      assert.is(stateOf(world, server, blocks[i]!), BlockState.FENCED);
    }
    assert.equal(
      world.ended.filter(({ failed }) => failed.includes(3 as never)).length,
      2,
      'the leader knows which member failed',
    );
    const [one] = world.life(1).pool.openBlocks;
    world.life(1).pool.peerLost({ host: 'ds', port: 1003 });
    assert.equal(world.life(1).pool.openBlocks, [one], 'a session without it goes on');
  });

  test('a batch that a member leaves unanswered is stored in another block, as the same request', async () => {
    const world = await open();
    const block = blockOf(world, 1);
    world.intercept = (from, to, op) => (from === 1 && to === 3 && op === Op.APPEND ? 'drop' : undefined);
    const upload = put(world, 1);
    await world.pass(MEMBER_ACK_MS_MAX - 200);
    assert.equal(world.life(1).pool.openBlocks, [block], 'not before its time');
    await world.pass(600);
    assert.equal([...upload.stored!.members].sort(), [1, 2]);
    assert.is.not(upload.stored!.block, block);
    const read = await world
      .life(2)
      .store.read(
        upload.stored!.block,
        upload.stored!.slot as number as FileId,
        upload.stored!.cookie,
        ALL,
        false,
      );
    assert.ok(read.header.opId.equals(upload.opId) && read.payload.equals(upload.payload));
    world.intercept = undefined;
    await untilSealed(world, block);
    assert.is(world.life(3).store.info(block)!.length, world.life(1).store.info(block)!.length);
  });

  test('what a member left unanswered is not sent to it once more in another open block', async () => {
    const world = await SealWorld.open({ seed: 1, times: TIMES, openBlocks: 2 });
    await world.pass(500);
    const blocks = world.life(1).pool.openBlocks;
    assert.is(blocks.length, 2);
    world.intercept = (from, to, op) => (from === 1 && to === 3 && op === Op.APPEND ? 'drop' : undefined);
    const upload = put(world, 1);
    await world.pass(MEMBER_ACK_MS_MAX + 500);
    assert.equal([...upload.stored!.members].sort(), [1, 2]);
    assert.ok(!world.life(1).pool.openBlocks.some((block) => blocks.includes(block)));
  });

  test('without anyone to write to, the gateway is told whom to avoid', async () => {
    const world = await open();
    world.kill(2);
    await world.pass(100, 2);
    world.kill(3);
    const upload = put(world, 1);
    await world.pass(REAPPEND_MS_MAX - 500);
    assert.is(upload.error, undefined);
    await world.pass(1000);
    const { error } = upload;
    assert.ok(isTfsError(error, 'RETRY_ELSEWHERE'));
    assert.equal([...(error.details!['avoid'] as number[])].sort(), [2, 3]);
  });

  test('overload ends no session', async () => {
    const world = await open();
    const block = blockOf(world, 1);
    let refusals = 0;
    world.intercept = (_, to, op) =>
      op === Op.APPEND && to === 2 && refusals++ < 5 ? 'overloaded' : undefined;
    const upload = put(world, 1);
    await world.pass(400);
    assert.is(upload.stored?.block, block);
    assert.ok(refusals > 5);
    assert.equal(world.ended, []);
  });

  test('a primary that slept through its answers acknowledges only what every replica of the seal has', async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const world = await open(seed);
      const block = blockOf(world, 1);
      const before = put(world, 1);
      await world.pass(200);
      assert.is(before.stored?.block, block);
      // The batch has left, or not; its answers come while the primary sleeps.
      const late = put(world, 1);
      await world.pass(2 * (seed % 3), 2);
      world.pause(1);
      await world.pass(40_000);
      await untilSealed(world, block, [2, 3]);
      world.resume(1);
      await world.pass(3000);
      await untilSealed(world, block);
      assert.ok(late.stored !== undefined, 'in the old block or in another one');
      for (const server of [1, 2, 3])
        for (const { stored, payload } of [before, late]) {
          const read = await world
            .life(server)
            .store.read(stored!.block, stored!.slot as number as FileId, stored!.cookie, ALL, false);
          assert.ok(read.payload.equals(payload), `server ${server}, seed ${seed}`);
        }
      assert.is(blockOf(world, 1) === block, false);
    }
  });

  test('a primary that was stopped does not take the others for slow', async () => {
    const world = await open();
    const block = blockOf(world, 1);
    const upload = put(world, 1);
    await world.pass(2, 2);
    world.pause(1);
    await world.pass(MEMBER_ACK_MS_MAX * 2);
    // The first that it sees is that the time of the answers is over.
    world.resume(1, 'reversed');
    await world.pass(500);
    assert.is.not(blockOf(world, 1), block);
    assert.equal(world.avoided, []);
    assert.ok(upload.stored !== undefined);
  });

  test('a session whose end no NameServer hears of is sealed all the same: its primary shows it', async () => {
    const world = await open();
    const block = blockOf(world, 1);
    put(world, 1);
    await world.pass(200);
    world.intercept = (_, __, op) => (op === Op.END_SESSION ? 'drop' : undefined);
    world.life(1).pool.peerLost({ host: 'ds', port: 1003 });
    await world.pass(50);
    assert.equal(
      [1, 2, 3].map((server) => stateOf(world, server, block)),
      [BlockState.FENCED, BlockState.OPEN, BlockState.OPEN],
    );
    world.elect();
    await untilSealed(world, block);
    assert.equal(world.ended, []);
  });

  test('every way for a session to end leads to a seal', async () => {
    const ways: Record<string, (world: SealWorld) => Promise<void> | void> = {
      full: async (world) => {
        for (let i = 0; i < 40; i++) {
          put(world, 1, 3000);
          await world.pass(20, 20);
        }
      },
      age: (world) => world.clock.leap(OPEN_BLOCK_AGE_MS_MAX + 1000),
      stop: (world) => void world.life(1).pool.close(),
      'restart of the primary': async (world) => {
        world.kill(1);
        await world.start(1, world.life(1).disk.fork());
      },
      'restart of a member': async (world) => {
        world.kill(2);
        await world.start(2, world.life(2).disk.fork());
      },
      'failed write': (world) => {
        world.life(1).disk.failure = { nth: 1, code: 'DISK_FULL', kinds: ['write'] };
        put(world, 1);
      },
      'failed write of a member': (world) => {
        world.life(2).disk.failure = { nth: 1, code: 'DISK_FULL', kinds: ['write'] };
        put(world, 1);
      },
      'another leader': (world) => {
        world.life(1).pool.peerLost({ host: 'ds', port: 1002 });
        world.elect();
      },
      'a damaged record': async (world) => {
        const { disk, store } = world.life(2);
        disk.corrupt(`blocks/${blockOf(world, 1)}.0.blk`, (bytes) => void bytes.fill(0, 4200, 4300));
        await store.read(blockOf(world, 1), 0 as FileId, undefined, ALL, false).catch(() => undefined);
      },
    };
    for (const [name, way] of Object.entries(ways)) {
      const world = await open();
      const block = blockOf(world, 1);
      put(world, 1);
      await world.pass(200);
      await way(world);
      await world.pass(1000);
      await untilSealed(world, block).catch((error: unknown) => {
        throw new Error(`${name}: ${String(error)}`);
      });
      await world.pass(500);
      const digests = [1, 2, 3].map((server) =>
        world.life(server).store.info(block)!.seal!.digest.toString('hex'),
      );
      assert.is(new Set(digests).size, 1, name);
      assert.ok(
        [1, 2, 3].every((server) => world.life(server).store.info(block)!.seal!.complete),
        `${name}: complete`,
      );
    }
  });

  test('a primary that no NameServer hears any more loses its blocks, and nothing else', async () => {
    const world = await open();
    const block = blockOf(world, 1);
    const first = put(world, 1);
    await world.pass(200);
    world.cuts.add(`1>${LEADER}`);
    world.cuts.add(`${LEADER}>1`);
    await world.pass(20_000);
    const second = put(world, 1);
    await world.pass(500);
    assert.equal([first.stored?.block, second.stored?.block], [block, block], 'it writes on for a while');
    await world.pass(40_000);
    await untilSealed(world, block, [2, 3]);
    const third = put(world, 1);
    await world.pass(REAPPEND_MS_MAX + 1000);
    assert.ok(isTfsError(third.error, 'RETRY_ELSEWHERE'));
    world.cuts.clear();
    await world.pass(5000);
    await untilSealed(world, block);
    assert.is(world.life(1).store.info(block)!.slots, 2);
  });
}, 60_000);
