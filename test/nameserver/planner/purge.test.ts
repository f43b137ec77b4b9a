import * as assert from 'uvu/assert';
import { BlockState } from '../../../common/wire/messages.ts';
import { purge } from '../../../nameserver/planner/purge.ts';
import { ServerTables } from '../../../nameserver/planner/rule.ts';
import { describe } from '../../kit/suite.ts';
import { B, PlannedWorld, type Reported } from './planned-world.ts';

/** Dead bytes are known in units of this. */
const UNIT = 65_536;
const LENGTH = 100 * UNIT;

function worldWith(others: Record<number, Reported> = {}, deadBytes = 0): PlannedWorld {
  const world = new PlannedWorld(4);
  const usual = { length: LENGTH, deadBytes };
  world.block({ 1: usual, 2: usual, 3: usual, ...others });
  return world;
}

const glance = (world: PlannedWorld): number =>
  purge.glance(world.map.page(B >>> 16)!, B & 0xffff, new ServerTables(world.sight));

describe('blocks with records that are to be erased', (test) => {
  test('come before everything else, on their sequencer, however little it is', () => {
    const world = worldWith({}, 50 * UNIT);
    assert.match(world.plan()[0]!, /^54 compact/);
    assert.is(glance(world), 0);
    world.erased.add(B);
    assert.equal(world.plan(), ['5 purge on 1: a picture in it is to be erased'], 'and no other compaction');
    assert.is(glance(world), 5);
  });

  test('wait until all members can take part, and it is said why', () => {
    const open = worldWith({ 2: { length: LENGTH, state: BlockState.OPEN } });
    open.erased.add(B);
    assert.equal(open.plan(), ['no purge: a picture in it is to be erased; it is not sealed everywhere']);
    const away = worldWith();
    away.erased.add(B);
    away.lose(3);
    assert.match(away.plan().join(), /no purge: .*; its replica on server 3 cannot be commanded now/);
    const behind = worldWith();
    behind.erased.add(B);
    behind.block({ 1: { length: 50 * UNIT, generation: 1 } }, { members: [1, 2, 3] });
    assert.match(behind.plan()[0]!, /no purge: .*; a compaction that was begun is finished first/);
  });

  test('not twice at once, and not for a while where it failed', () => {
    const world = worldWith();
    world.erased.add(B);
    world.underWay.add(`purge ${B} 1`);
    assert.equal(world.plan(), []);
    world.underWay.clear();
    world.parked.add(`purge ${B} 1`);
    assert.match(world.plan()[0]!, /^no purge: .* it failed on server 1 several times/);
  });
});
