import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { type BlockId, blockId, epochOf, incarnationOf, type ServerId } from '../../common/ids.ts';
import { DIGEST_CHECK_AGAIN_MS, DIGEST_CHECKS_RUNNING_MAX } from '../../common/limits.ts';
import type { BlockDigestsReply, Member } from '../../common/wire/control.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { DigestCheck } from '../../nameserver/digest-check.ts';
import { judgeDigests } from '../../nameserver/digest-judgement.ts';
import { captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = blockId(0x2_0000);
const SEAL = { length: 5000, slots: 3, digest: 'ab'.repeat(32), epoch: epochOf(1) };

const answer = (overrides: Partial<BlockDigestsReply> = {}): BlockDigestsReply => ({
  generation: 0,
  seal: SEAL,
  version: { epoch: epochOf(1), n: 1 },
  seq: 4,
  ops: '11'.repeat(32),
  ...overrides,
});

const judged = (...answers: Partial<BlockDigestsReply>[]) =>
  judgeDigests(answers.map((each, i) => ({ server: (i + 1) as ServerId, ...answer(each) })));

describe('whether replicas are the same', (test) => {
  test('the same seal and the same operations; the epoch and completeness of a seal do not matter', () => {
    assert.is(judged({}, {}, {}), undefined);
    assert.is(judged({}, { seal: { ...SEAL, epoch: epochOf(9), complete: true } }), undefined);
    assert.is(judged({}), undefined);
  });

  test('another digest, length or number of records', () => {
    for (const seal of [{ digest: 'cd'.repeat(32) }, { length: 6000 }, { slots: 4 }]) {
      const found = judged({}, { seal: { ...SEAL, ...seal } }, {})!;
      assert.equal([found.seals, found.ops], [true, false]);
      assert.match(found.text, /server 1, 3: 5000 bytes/);
      assert.match(found.text, /server 2: /);
    }
  });

  test('other operations that end with the same one; but not of a log that is behind', () => {
    const other = { ops: '22'.repeat(32) };
    assert.equal([judged({}, other)!.seals, judged({}, other)!.ops], [false, true]);
    assert.is(judged({}, { ...other, seq: 3 }), undefined);
    assert.is(judged({}, { ...other, version: { epoch: epochOf(2), n: 1 } }), undefined);
  });

  test('of an older generation nothing is said, nor of what waits for its seal', () => {
    assert.is(
      judged({ generation: 1 }, { seal: { ...SEAL, length: 6000 }, ops: '22'.repeat(32) }),
      undefined,
    );
    const { seal: _, ...unsealed } = answer();
    assert.is(
      judgeDigests([
        { server: 1 as ServerId, ...answer() },
        { server: 2 as ServerId, ...unsealed },
      ]),
      undefined,
    );
  });
});

class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly log = captureLog();
  readonly answers = new Map<number, BlockDigestsReply | Error>();
  readonly asked: string[] = [];
  readonly sealed: BlockId[] = [];
  readonly merged: BlockId[] = [];
  readonly down = new Set<number>();
  leads = true;
  mostRunning = 0;
  #running = 0;
  readonly check = new DigestCheck({
    map: this.map,
    clock: this.clock,
    log: this.log,
    reign: () => (this.leads ? reignOf(1) : undefined),
    isCurrent: (server) => !this.down.has(server),
    reachable: (id) => ({ id, incarnation: incarnationOf(1), address: addressOf(id) }),
    seal: (block) => this.sealed.push(block),
    mergeOps: async (block) => void this.merged.push(block),
    ask: async ({ id }: Member, block: BlockId) => {
      this.asked.push(`${id}/${block - B}`);
      this.mostRunning = Math.max(this.mostRunning, ++this.#running);
      await turns(1);
      this.#running--;
      const reply = this.answers.get(id);
      if (reply instanceof Error) throw reply;
      return reply ?? answer();
    },
  });

  constructor() {
    this.report(0);
  }

  report(n: number, flags = 0, state: BlockState = BlockState.SEALED): void {
    for (const server of servers(1, 2, 3))
      this.map.report(
        server,
        entryOf({ block: B + n, state, length: 5000, flags: server === 3 ? flags : 0 }),
      );
  }

  async noted(...blocks: number[]): Promise<void> {
    this.check.noted(blocks.map((n) => blockId(B + n)));
    await turns(20);
  }
}

describe('the comparison of replicas', (test) => {
  test('all holders are asked when one was scrubbed, once for several heartbeats that say so', async () => {
    const world = new World();
    await world.noted(0);
    await world.noted(0);
    assert.equal(world.asked.sort(), ['1/0', '2/0', '3/0']);
    assert.equal([world.check.stats.checked, world.check.disagreeing], [1, 0]);
    world.clock.advance(DIGEST_CHECK_AGAIN_MS);
    await world.noted(0);
    assert.is(world.check.stats.checked, 2);
  });

  test('who is away, damaged or waits for its seal is not asked, and one alone is not compared', async () => {
    const world = new World();
    world.report(0, BlockFlag.SUSPECT);
    await world.noted(0);
    assert.equal(world.asked.sort(), ['1/0', '2/0']);
    world.down.add(1);
    world.report(1, BlockFlag.SUSPECT);
    await world.noted(1);
    world.report(2, 0, BlockState.FENCED);
    await world.noted(2);
    assert.is(world.asked.length, 2);
    assert.is(world.check.stats.checked, 1);
  });

  test('seals that differ are decided anew, operations that differ are merged; both until they are the same', async () => {
    const world = new World();
    world.answers.set(2, answer({ seal: { ...SEAL, digest: 'cd'.repeat(32) }, ops: '22'.repeat(32) }));
    await world.noted(0);
    assert.equal([world.sealed, world.merged], [[B], [B]]);
    assert.equal([world.check.disagreeing, world.check.stats.disagreements], [1, 1]);
    assert.is(world.log.lines.filter(({ level }) => level === 'error').length, 1);
    // Nobody has scrubbed it again: it is looked at all the same.
    world.clock.advance(DIGEST_CHECK_AGAIN_MS);
    world.check.pump();
    await turns(20);
    assert.is(world.sealed.length, 2);
    assert.is(world.check.stats.disagreements, 1, 'still the same one');
    world.clock.advance(DIGEST_CHECK_AGAIN_MS);
    world.check.pump();
    await turns(20);
    assert.is(world.sealed.length, 2, 'later each time');
    world.answers.delete(2);
    world.clock.advance(DIGEST_CHECK_AGAIN_MS);
    world.check.pump();
    await turns(20);
    assert.equal([world.check.disagreeing, world.sealed.length], [0, 2]);
  });

  test('an answer that does not come says nothing', async () => {
    const world = new World();
    world.answers.set(3, new TfsError('CONNECTION_LOST', 'planted'));
    await world.noted(0);
    assert.equal([world.check.stats.checked, world.sealed, world.merged], [0, [], []]);
  });

  test('a few at a time, and none while it does not lead', async () => {
    const world = new World();
    const many = Array.from({ length: 40 }, (_, n) => n);
    for (const n of many) world.report(n);
    world.leads = false;
    await world.noted(...many);
    assert.equal(world.asked, []);
    world.leads = true;
    world.check.pump();
    await turns(200);
    assert.is(world.check.stats.checked, 40);
    assert.ok(world.mostRunning <= DIGEST_CHECKS_RUNNING_MAX * 3, `${world.mostRunning}`);
  });
});
