import * as assert from 'uvu/assert';
import type { z } from 'zod';
import { decodeControl, encodeControl } from '../../../common/wire/control.ts';
import { zJobsReply, zPauseJobsReply, zPlanReply, zWhyReply } from '../../../common/wire/job-questions.ts';
import { zTakeJobReply } from '../../../common/wire/jobs.ts';
import { Op } from '../../../common/wire/messages.ts';
import { jobsText, planText, whyText } from '../../../tools/jobs/texts.ts';
import { MemoryQueues } from '../../kit/memory-queues.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import type { FakeDataServer } from '../fake-dataserver.ts';
import { World } from '../world.ts';

/** Four DataServers, a sealed block on three of them, one of those silent for longer than a leader waits. */
class Asked {
  readonly world: World;
  readonly queues: MemoryQueues;
  block = 0;
  spare!: FakeDataServer;
  /** A member of the block. */
  victim!: FakeDataServer;

  private constructor(world: World) {
    this.world = world;
    this.queues = new MemoryQueues(world.clock);
  }

  /** @param silence of the victim */
  static async start(t: TestContext, { silence = true } = {}): Promise<Asked> {
    const world = new World(t, { dataservers: 4 });
    const asked = new Asked(world);
    const { queues } = asked;
    await world.startNameServer({
      deadMs: 20_000,
      jobs: { queues, bytesPerSecond: 1e6, clusterBytesPerSecond: undefined },
    });
    for (const server of world.data) {
      await server.start();
      world.alive.add(server);
    }
    await world.pass(3000);
    const [one] = world.data as [FakeDataServer];
    const { block, members } = await world.settle(one.openBlock(world.data));
    asked.block = block;
    one.put({ ...one.blocks.get(block)!, length: 5_000_000 });
    await world.settle(one.endSession(block));
    await world.pass(3000);
    const isMember = ({ id }: FakeDataServer) => members.some((member) => member.id === id);
    asked.spare = world.data.find((server) => !isMember(server))!;
    asked.victim = world.data.filter(isMember).at(-1)!;
    if (!silence) return asked;
    world.alive.delete(asked.victim);
    await world.pass(30_000);
    return asked;
  }

  async ask<T>(op: number, message: object, schema: z.ZodType<T>): Promise<T> {
    const { header } = await this.world.ask('operator', op, encodeControl(message));
    return decodeControl(schema, header, 'answer');
  }
}

describe('what an operator asks about jobs', (test) => {
  test('copies on a disk that refuses writes do not count, those on one that hangs only after the dead time', async (t) => {
    const asked = await Asked.start(t, { silence: false });
    const { world, victim } = asked;
    const reasons = async () => {
      const { work } = await asked.ask(Op.PLAN, { max: 10 }, zPlanReply);
      return work?.map(({ reason }) => reason);
    };
    victim.io = { healthy: false, readOnly: false, probeMs: 1, failed: true };
    await world.pass(3_000);
    assert.equal(await reasons(), [], 'a moment is nothing');
    await world.pass(6_000);
    assert.match((await reasons())!.join(), new RegExp(`server ${victim.id}: its disk has failed`));
    victim.io = { healthy: true, readOnly: false, probeMs: 1 };
    await world.pass(3_000);
    assert.equal(await reasons(), [], 'it is as good as before');
    victim.io = { healthy: false, readOnly: false, probeMs: 9_000, slow: true };
    await world.pass(15_000);
    assert.equal(await reasons(), []);
    await world.pass(10_000);
    assert.match(
      (await reasons())!.join(),
      new RegExp(`server ${victim.id}: its disk has hung for more than 20 s`),
    );
  });

  test('what is planned, why, what waits, and of one block everything', async (t) => {
    const asked = await Asked.start(t);
    const { block, spare } = asked;
    const plan = await asked.ask(Op.PLAN, { max: 10 }, zPlanReply);
    assert.equal(
      plan.work!.map((work) => [work.kind, work.block, work.server]),
      [['replicate', block, spare.id]],
    );
    assert.equal(plan.amounts, [{ kind: 'replicate', blocks: 1, bytes: 5_000_000 }]);
    assert.match(
      planText(plan),
      /replicate\s+\d+\s+\d\s+5 MiB\s+copies in 2 of 3 wanted failure domains \(server \d: silent/,
    );
    const jobs = await asked.ask(Op.JOBS, { max: 10 }, zJobsReply);
    assert.is(jobs.trouble, undefined);
    assert.is(jobs.queues.find(({ server }) => server === spare.id)!.waiting, 1);
    assert.match(jobsText(jobs), /Wanted {4}replicate: 1 blocks, 5 MiB\nJobs {6}0 running, 1 waiting/);
    const why = await asked.ask(Op.WHY, { block }, zWhyReply);
    assert.is(why.state, 'sealed');
    assert.match(whyText(why), /does not count: its server is silent for more than 20 s/);
    assert.match(whyText(why), new RegExp(`wanted: replicate on server ${spare.id}: copies in 2 of 3`));
    const none = await asked.world.code(asked.ask(Op.WHY, { block: 7 }, zWhyReply));
    assert.is(none, 'NOT_FOUND: no DataServer reports a block 7');
    const map = asked.world.ns.clusterMap().jobs!;
    assert.equal([map.wantedBlocks, map.wantedBytes, map.running, map.paused], [1, 5_000_000, 0, []]);
  });

  test('what cannot be ordered leaves nothing noted, and what is not wanted is said to be so', async (t) => {
    const asked = await Asked.start(t);
    const { world, block, spare } = asked;
    const ask = { kind: 'replicate', block, server: spare.id, incarnation: spare.incarnation, round: 1 };
    const { header } = await world
      .settle(
        world.peers('dataserver').call({ host: '127.0.0.1', port: 7510 }, Op.TAKE_JOB, encodeControl(ask)),
      )
      .catch((error: Error) => ({ header: Buffer.from(error.message) }));
    // Its sources, which hold no bytes here, cannot be asked for their seal: nothing is given, and nothing stays noted.
    assert.match(header.toString(), /BLOCK_HEAD|no source/);
    const jobs = await asked.ask(Op.JOBS, { max: 10 }, zJobsReply);
    assert.equal(jobs.running, []);
    const done = { ...ask, block: 7 };
    const other = await world.settle(
      world.peers('dataserver').call({ host: '127.0.0.1', port: 7510 }, Op.TAKE_JOB, encodeControl(done)),
    );
    const answer = decodeControl(zTakeJobReply, other.header, 'answer');
    assert.is(answer.answer, 'unwanted');
  });

  test('a pause lasts, over a restart too, and only an operator may ask and pause', async (t) => {
    const asked = await Asked.start(t);
    const { world } = asked;
    const paused = await asked.ask(Op.PAUSE_JOBS, { kind: 'replicate', paused: true }, zPauseJobsReply);
    assert.equal(paused.paused, ['replicate']);
    const { added } = asked.queues;
    const before = added.length;
    asked.queues.flush();
    await world.pass(10_000);
    assert.is(added.length, before);
    assert.match(jobsText(await asked.ask(Op.JOBS, { max: 10 }, zJobsReply)), /Paused {4}replicate/);
    await world.restartNameServer('synced');
    assert.equal(world.ns.jobs.pauses.all, ['replicate']);
    for (const role of ['gateway', 'dataserver'] as const)
      for (const op of [Op.JOBS, Op.PLAN, Op.WHY, Op.PAUSE_JOBS]) {
        const message = encodeControl({ max: 1, block: asked.block, kind: 'replicate', paused: false });
        assert.match(await world.code(world.ask(role, op, message)), /^PROTOCOL|^FORBIDDEN/);
      }
    assert.equal(world.ns.jobs.pauses.all, ['replicate']);
  });
}, 30_000);
