import * as assert from 'uvu/assert';
import { BlockState } from '../../../common/wire/messages.ts';
import { compact } from '../../../nameserver/planner/compact.ts';
import { ServerTables } from '../../../nameserver/planner/rule.ts';
import { describe } from '../../kit/suite.ts';
import { B, PlannedWorld, type Reported, SUSPECT } from './planned-world.ts';

/** Dead bytes are known in units of this. */
const UNIT = 65_536;
const LENGTH = 100 * UNIT;

/** One block on servers 1, 2 and 3, of which so many per cent are deleted. */
function worldWith(percent: number, others: Record<number, Reported> = {}): PlannedWorld {
  const world = new PlannedWorld(4);
  const rich = { length: LENGTH, deadBytes: percent * UNIT };
  world.block({ 1: rich, 2: rich, 3: rich, ...others });
  return world;
}

function glance(world: PlannedWorld): number {
  const page = world.map.page(B >>> 16)!;
  return compact.glance(page, B & 0xffff, new ServerTables(world.sight));
}

describe('blocks that are worth compacting', (test) => {
  test('those with the share that is set, on their sequencer; the richer in garbage the sooner', () => {
    assert.equal(worldWith(14).plan(), []);
    assert.equal(worldWith(15).plan(), ['58 compact on 1: 15 % of it is deleted']);
    assert.equal(worldWith(50).plan(), ['54 compact on 1: 50 % of it is deleted']);
    assert.equal(worldWith(99).plan(), ['50 compact on 1: 99 % of it is deleted']);
    const world = worldWith(15);
    world.garbagePercent = 40;
    assert.equal(world.plan(), []);
    assert.is(glance(world), 0);
    world.garbagePercent = 1;
    assert.is(glance(world), 58);
  });

  test('not while it cannot be done safely, and why not', () => {
    const share = 'no compact: 50 % of it is deleted;';
    const damaged = worldWith(50, { 2: { length: LENGTH, deadBytes: 50 * UNIT, ...SUSPECT } });
    assert.equal(damaged.plan(), [`${share} its replica on server 2 is damaged`]);
    assert.is(glance(damaged), 0);
    const away = worldWith(50);
    away.lose(3);
    assert.equal(away.plan(), [`${share} its replica on server 3 cannot be commanded now`]);
    assert.is(glance(away), 0);
    const partial = worldWith(50);
    partial.viewComplete = false;
    assert.equal(partial.plan(), [`${share} not every known DataServer has reported`]);
    const few = new PlannedWorld(4);
    const rich = { length: LENGTH, deadBytes: 50 * UNIT };
    few.block({ 1: rich, 2: rich });
    assert.match(few.plan().at(-1)!, /no compact: 50 % of it is deleted; it has 2 members of the 3/);
    const open = worldWith(50, { 2: { length: LENGTH, state: BlockState.OPEN } });
    assert.equal(open.plan(), []);
  });

  test('not again at once where too little may go yet, where it failed, or while it is under way', () => {
    const world = worldWith(50);
    world.leftAlone.add(B);
    assert.match(world.plan()[0]!, /^no compact: .* too little of that may go yet/);
    assert.is(glance(world), 0, 'nor is it counted');
    world.leftAlone.clear();
    world.parked.add(`compact ${B} 1`);
    assert.match(world.plan()[0]!, /^no compact: .* it failed on server 1 several times/);
    world.parked.clear();
    world.underWay.add(`compact ${B} 1`);
    assert.equal(world.plan(), []);
    world.underWay.clear();
    world.making.set(B, [4] as never);
    assert.equal(world.plan(), [], 'a copy of it is being made');
    world.making.clear();
    assert.is(world.plan().length, 1);
  });

  test('what some replica has committed is finished without a queue', () => {
    const world = worldWith(50);
    world.block({ 1: { length: 50 * UNIT, generation: 1 } }, { members: [1, 2, 3] });
    assert.ok(world.map.outdated.has(B));
    assert.equal(world.plan(), []);
    assert.is(glance(world), 0);
  });
});
