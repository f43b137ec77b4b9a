import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import { type MutationType, OpType } from '../../common/format/ops.ts';
import { type BlockId, fileId, type Slot } from '../../common/ids.ts';
import { ClusterTime } from '../../dataserver/cluster-time.ts';
import { OpsSequencer } from '../../dataserver/ops-sequencer.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

describe('cluster time', (test) => {
  test('is the later one of this machine and the leader, and known when a leader has said so', () => {
    const clock = new ManualClock();
    const time = new ClusterTime(clock);
    assert.not(time.isKnown);
    assert.is(time.now(), clock.now());
    time.hear(clock.now() + 5_000);
    assert.ok(time.isKnown);
    assert.is(time.now(), clock.now() + 5_000);
    clock.advance(100);
    time.hear(clock.now() - 5_000);
    assert.is(time.now(), clock.now());
  });

  test('nothing is deleted by a clock that nobody else was asked about; all else goes on', async () => {
    const clock = new ManualClock();
    const time = new ClusterTime(clock);
    // Holds no block, which is found out when the turn of an operation has come.
    const store = { info: () => undefined };
    const ops = new OpsSequencer({ store, clock, isTimeKnown: () => time.isKnown } as never);
    const codeOf = (type: MutationType): Promise<string> =>
      ops.mutate(1 as BlockId, type, fileId(0 as Slot), Buffer.alloc(16)).then(
        () => 'done',
        (error: unknown) => (isTfsError(error) ? error.code : String(error)),
      );
    assert.is(await codeOf(OpType.DELETE), 'UNAVAILABLE');
    for (const type of [OpType.UNDELETE, OpType.HIDE, OpType.REVEAL] as const)
      assert.is(await codeOf(type), 'DONT_KNOW');
    time.hear(clock.now());
    assert.is(await codeOf(OpType.DELETE), 'DONT_KNOW');
  });
});
