import * as assert from 'uvu/assert';
import type { BlockId } from '../../../common/ids.ts';
import { OVERDUE_BLOCKS_MAX, OVERDUE_LOOK_MS } from '../../../common/limits.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { OverdueList, overdueIn } from '../../../dataserver/scrub/overdue.ts';
import type { Replica } from '../../../dataserver/scrub/pass.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { MADE_AT, replica } from '../../kit/scrubbed-replica.ts';
import { describe } from '../../kit/suite.ts';

const PASS_MS = 1_000_000;

describe('replicas that are overdue for a scrub', (test) => {
  const at = (ms: number, readAt: Record<number, number>, replicas: readonly Replica[], passMs = PASS_MS) =>
    overdueIn(replicas, (block) => readAt[block], MADE_AT + ms, passMs).map(({ block, ageMs }) => [
      Number(block),
      ageMs,
    ]);

  test('after a pass and a quarter, the one that was read longest ago first', () => {
    const all = [1, 2, 3].map((block) => replica(block));
    assert.equal(at(1_250_000, {}, all), []);
    assert.equal(at(1_250_001, {}, all.slice(1)), [
      [2, 1_250_001],
      [3, 1_250_001],
    ]);
    const readAt = { 1: MADE_AT + 20_000, 2: MADE_AT + 10_000, 3: MADE_AT + 900_000 };
    assert.equal(at(1_300_000, readAt, all), [
      [2, 1_290_000],
      [1, 1_280_000],
    ]);
    assert.equal(at(9_000_000, {}, all, 0), [], 'where nobody wants a disk to be read by itself');
  });

  test('no more than a message has room for, and none that a scrub leaves alone', () => {
    const many = Array.from({ length: OVERDUE_BLOCKS_MAX + 9 }, (_, i) => replica(i + 1));
    assert.is(at(2_000_000, {}, many).length, OVERDUE_BLOCKS_MAX);
    const others = [
      replica(1, { state: BlockState.OPEN, seal: undefined }),
      replica(2, { flags: BlockFlag.SUSPECT }),
    ];
    assert.equal(at(2_000_000, {}, others), []);
    assert.equal(at(1_000, { 1: MADE_AT + 9_000_000 }, [replica(1)]), [], 'a clock that was set back');
  });

  test('what was read since is told no more; all are looked at only now and then', () => {
    const clock = new ManualClock();
    clock.leap(MADE_AT + 2_000_000 - clock.now());
    const readAt = new Map<BlockId, number>();
    let looks = 0;
    const list = new OverdueList({
      clock,
      passMs: PASS_MS,
      replicas: () => {
        looks++;
        return [replica(1), replica(2)];
      },
      readAtMs: (block) => readAt.get(block),
    });
    assert.is(list.all.length, 2);
    readAt.set(1 as BlockId, clock.now());
    assert.equal(
      list.all.map(({ block }) => block),
      [2],
    );
    assert.is(looks, 1);
    clock.advance(OVERDUE_LOOK_MS);
    assert.is(list.all.length, 1);
    assert.is(looks, 2);
  });
});
