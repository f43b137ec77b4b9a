import * as assert from 'uvu/assert';
import type { BlockId } from '../../../common/ids.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import { Planner } from '../../../nameserver/planner/planner.ts';
import { describe } from '../../kit/suite.ts';
import { B, PlannedWorld, SUSPECT } from './planned-world.ts';

const HOUR_MS = 3600 * 1000;
const DAY_MS = 24 * HOUR_MS;

const overdue = (...replicas: (readonly [block: number, ageMs: number])[]) => ({
  overdue: new Map(replicas as [BlockId, number][]),
});

describe('replicas that were not read through for long', (test) => {
  test('are read through on the server that has them, one by one, and last of all', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: {}, 3: {} });
    assert.equal(world.plan(), []);
    world.server(2, overdue([B, 9.5 * DAY_MS], [B + 1, 20 * DAY_MS]));
    world.server(3, overdue([B, 30 * HOUR_MS]));
    assert.equal(world.plan(), [
      '90 scrub on 2: not read through for 9 days',
      '90 scrub on 3: not read through for 30 hours',
    ]);
    world.giveUp(1);
    assert.match(world.plan()[0]!, /^20 replicate on 4/);
  });

  test('not those that are damaged, under way, or fail', () => {
    const world = new PlannedWorld(3);
    world.server(1, overdue([B, 9 * DAY_MS]));
    world.block({ 1: SUSPECT, 2: {}, 3: {} });
    assert.equal(world.plan(), []);
    world.block({ 1: {} }, { members: [1, 2, 3] });
    assert.is(world.plan().length, 1);
    world.underWay.add(`scrub ${B} 1`);
    assert.equal(world.plan(), []);
    world.underWay.clear();
    world.parked.add(`scrub ${B} 1`);
    assert.match(world.plan()[0]!, /^no scrub: not read through for 9 days on server 1; it failed there/);
    world.parked.clear();
    world.lose(1);
    assert.match(world.plan()[0]!, /^no scrub: .* which is not there now/);
    world.block({ 2: { state: BlockState.OPEN } }, { block: B + 1, members: [2] });
    world.server(2, overdue([B + 1, 9 * DAY_MS]));
    assert.equal(world.plan((B + 1) as BlockId), []);
  });

  test('a round lists and counts what servers ask for, behind what the map shows, and bounded', () => {
    const world = new PlannedWorld(4);
    for (let i = 0; i < 6; i++) world.block({ 1: {}, 2: {}, 3: {} }, { block: B + i });
    const all = Array.from({ length: 6 }, (_, i) => [B + i, 9 * DAY_MS] as const);
    world.server(1, overdue(...all));
    // One that the map does not know.
    world.server(2, overdue(...all.slice(0, 2), [B + 77, 9 * DAY_MS]));
    const planner = new Planner({ map: world.map, sight: () => world.sight });
    assert.ok(planner.step());
    assert.equal(planner.round!.amounts.get('scrub'), { blocks: 8, bytes: 8 * 5000 });
    assert.equal(
      planner.round!.wanted.map(({ target }) => target),
      [1, 1, 1, 1, 1, 1, 2, 2],
    );
    const small = new Planner({ map: world.map, sight: () => world.sight, wantedMax: 3 });
    world.giveUp(3);
    small.step();
    assert.equal(
      small.round!.wanted.map(({ kind }) => kind),
      ['replicate', 'replicate', 'replicate'],
    );
    const few = new Planner({ map: world.map, sight: () => world.sight, blocksPerStepMax: 2 });
    while (!few.step());
    assert.is(few.round!.amounts.get('scrub')!.blocks, 2, 'the others are asked for again');
  });
});
