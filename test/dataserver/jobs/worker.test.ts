import * as assert from 'uvu/assert';
import { TfsError } from '../../../common/errors.ts';
import { type BlockId, epochOf, incarnationOf, serverId } from '../../../common/ids.ts';
import type { CompactReply } from '../../../common/wire/compaction.ts';
import type { Repair } from '../../../common/wire/control.ts';
import type { EndJob, TakeJob, TakeJobReply } from '../../../common/wire/jobs.ts';
import { Op } from '../../../common/wire/messages.ts';
import { JobWorker } from '../../../dataserver/jobs/worker.ts';
import type { Pace } from '../../../dataserver/repair.ts';
import { captureLog } from '../../kit/capture-log.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { turns } from '../../kit/memory-net.ts';
import { MemoryQueues } from '../../kit/memory-queues.ts';
import { describe } from '../../kit/suite.ts';

const BLOCK = 65_537 as BlockId;
const JOB = { kind: 'replicate', block: BLOCK, round: 4 };
const ORDER: Repair = {
  block: BLOCK,
  reign: { epoch: epochOf(3), nameserver: 0 },
  generation: 0,
  seal: { length: 1_000_000, slots: 3, digest: 'ab'.repeat(32), epoch: epochOf(1) },
  version: { epoch: epochOf(1), n: 1 },
  sources: [{ id: serverId(2), incarnation: incarnationOf(1), address: { host: 'test', port: 1 } }],
  joins: true,
};

class World {
  readonly clock = new ManualClock();
  readonly log = captureLog();
  readonly asked: TakeJob[] = [];
  readonly ended: EndJob[] = [];
  readonly made: Repair[] = [];
  readonly scrubbed: BlockId[] = [];
  readonly compacted: object[] = [];
  compactReply: CompactReply | Error = { generation: 0, freedBytes: 0 };
  reply: TakeJobReply = { answer: 'replicate', order: ORDER, bytesPerSecond: 1_000_000, msMax: 60_000 };
  make: (pace: Pace) => Promise<void> = async () => undefined;
  endFails = false;
  readonly worker = new JobWorker({
    server: serverId(7),
    incarnation: incarnationOf(2),
    queues: new MemoryQueues(this.clock),
    concurrency: 2,
    nameservers: {
      callLeader: async <T>(op: number, message: object) => {
        if (op === Op.TAKE_JOB) {
          this.asked.push(message as TakeJob);
          return this.reply as T;
        }
        if (op === Op.COMPACT) {
          this.compacted.push(message);
          if (this.compactReply instanceof Error) throw this.compactReply;
          return this.compactReply as T;
        }
        if (this.endFails) throw new TfsError('CONNECTION_LOST', 'planted');
        this.ended.push(message as EndJob);
        return {} as T;
      },
    },
    repair: {
      make: async (order, pace) => {
        this.made.push(order);
        await this.make(pace!);
        return { whole: true, fetched: 1, lost: 0 };
      },
    },
    scrubber: {
      readThrough: async (block, pace) => {
        this.scrubbed.push(block);
        await this.make(pace);
      },
    },
    clock: this.clock,
    log: this.log,
  });

  handle(payload: unknown = JOB, progress: (percent: number) => void = () => undefined): Promise<string> {
    return this.worker.handle({ id: 'j-1', payload, progress });
  }
}

describe('the worker of a DataServer', (test) => {
  test('asks the leader, does what it says, and tells it how that ended', async () => {
    const world = new World();
    assert.is(await world.handle(), 'done');
    assert.equal(world.asked, [
      { kind: 'replicate', block: BLOCK, server: 7, incarnation: 2, round: 4 } as unknown as TakeJob,
    ]);
    assert.equal(world.made, [ORDER]);
    assert.equal(
      world.ended.map(({ failure, bytes }) => [failure, bytes]),
      [[undefined, 0]],
    );
    assert.equal(world.worker.stats, { done: 1, unwanted: 0, failed: 0, bytes: 0 });
  });

  test('what is not wanted any more is not done', async () => {
    const world = new World();
    world.reply = { answer: 'unwanted', why: 'it has three copies' };
    assert.is(await world.handle(), 'not wanted: it has three copies');
    assert.equal(world.made, []);
    assert.equal(world.ended, []);
  });

  test('what is no job is said so once and gone, whatever it is', async () => {
    const world = new World();
    const payloads = [
      null,
      7,
      'replicate',
      {},
      { ...JOB, kind: 'format' },
      { ...JOB, block: -1 },
      { ...JOB, block: 2 ** 32 },
      { ...JOB, block: '65537' },
      { ...JOB, round: 1.5 },
    ];
    for (const payload of payloads) assert.is(await world.handle(payload), 'not a job');
    assert.equal(world.asked, []);
    assert.is(world.worker.stats.unwanted, payloads.length);
  });

  test('an order in the job itself changes nothing', async () => {
    const world = new World();
    await world.handle({ ...JOB, order: { ...ORDER, generation: 9 }, target: 1 });
    assert.equal(world.made, [ORDER]);
  });

  test('the same job twice at once is done once', async () => {
    const world = new World();
    let release = (): void => undefined;
    world.make = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const [one, two] = [world.handle(), world.handle()];
    await turns(3);
    assert.is(world.worker.running, 1);
    release();
    assert.equal([await one, await two], ['done', 'done']);
    assert.is(world.made.length, 1);
    assert.is(world.ended.length, 1);
  });

  test('a failure goes to the queue, which tries again, and to the leader', async () => {
    const world = new World();
    world.make = async () => {
      throw new TfsError('DISK_FULL', 'no room');
    };
    const error = await world.handle().catch((thrown: unknown) => thrown);
    assert.is((error as TfsError).code, 'DISK_FULL');
    assert.equal(
      world.ended.map(({ failure }) => failure),
      ['no room'],
    );
    assert.is(world.worker.running, 0);
    world.endFails = true;
    world.make = async () => undefined;
    assert.is(await world.handle(), 'done', 'the leader finds out by itself');
  });

  test('keeps to the rate that the leader gives it, and shows how far it is', async () => {
    const world = new World();
    world.make = async (pace) => {
      for (let i = 0; i < 10; i++) await pace.came(100_000);
    };
    const shown: number[] = [];
    const tookMs = await world.clock.spend(world.handle(JOB, (percent) => shown.push(percent)));
    assert.ok(Math.abs(tookMs - 1000) < 60, `${tookMs}`);
    assert.equal(shown, [10, 20, 30, 40, 50, 60, 70, 80, 90, 99]);
    assert.is(world.worker.stats.bytes, 1_000_000);
    assert.is(world.ended[0]!.bytes, 1_000_000);
  });

  test('gives up what takes longer than the leader waits, and everything when it stops', async () => {
    const world = new World();
    world.make = async (pace) => {
      await world.clock.sleep(59_000);
      pace.assertInTime();
      await world.clock.sleep(1_000);
      pace.assertInTime();
    };
    const late = world.handle();
    await world.clock.spend(late.catch(() => undefined));
    assert.is((await late.catch((error: TfsError) => error.code)) as string, 'DEADLINE');
    world.make = async (pace) => {
      await world.worker.close();
      pace.assertInTime();
    };
    const stopped = await world.handle().catch((error: TfsError) => error.code);
    assert.is(stopped, 'CLOSED');
  });

  test('a scrub is read through at the pace of all jobs, and what came of it counted', async () => {
    const world = new World();
    world.reply = { answer: 'scrub', block: BLOCK, bytes: 1000, bytesPerSecond: 1e6, msMax: 60_000 };
    world.make = async (pace) => pace.came(500);
    const percents: number[] = [];
    const handled = world.handle({ ...JOB, kind: 'scrub' }, (percent) => percents.push(percent));
    await turns(5);
    assert.equal(world.ended, [], 'half a millisecond has to pass');
    world.clock.advance(1);
    assert.is(await handled, 'done');
    assert.equal(world.scrubbed, [BLOCK]);
    assert.equal(world.made, []);
    assert.equal(percents, [50]);
    assert.is(world.ended[0]!.bytes, 500);
  });

  test('a compaction is asked for of the leader, for the usual share of garbage', async () => {
    const world = new World();
    world.reply = { answer: 'compact', block: BLOCK, bytes: 1000, bytesPerSecond: 1e6, msMax: 60_000 };
    const compact = { ...JOB, kind: 'compact' };
    assert.is(await world.handle(compact), 'done');
    assert.equal(world.compacted, [{ block: BLOCK, gain: 'share' }]);
    assert.is(world.ended[0]!.bytes, 0, 'nothing was to be gained');
    world.compactReply = { generation: 1, freedBytes: 400 };
    assert.is(await world.handle(compact), 'done');
    assert.is(world.ended[1]!.bytes, 1000);
    world.compactReply = new TfsError('UNAVAILABLE', 'planted');
    const failed = await world.handle(compact).catch((error: unknown) => error);
    assert.is((failed as Error).message, 'planted', 'the queue brings it again');
    assert.is(world.ended[2]!.failure, 'planted');
  });
});
