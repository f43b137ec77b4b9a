import * as assert from 'uvu/assert';
import { SUPERBLOCK_BYTES } from '../../../common/limits.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { planBlock } from '../../../nameserver/planner/plan-block.ts';
import { describe } from '../../kit/suite.ts';
import { servers } from '../entries.ts';
import { B, PlannedWorld, SUSPECT } from './planned-world.ts';

describe('what a block with too few copies needs', (test) => {
  test('nothing while it has all, while it is written, and while one may come back', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: {}, 3: {} });
    assert.equal(world.plan(), []);
    world.lose(3);
    assert.equal(world.plan(), []);
    const open = new PlannedWorld(4);
    const state = BlockState.OPEN;
    open.block({ 1: { state }, 2: { state }, 3: { state } });
    open.giveUp(3);
    assert.equal(open.plan(), [], 'its seal comes first');
  });

  test('a copy elsewhere for one on a server that is given up', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: {}, 3: {} });
    world.giveUp(3);
    assert.equal(world.plan(), [
      '20 replicate on 4: copies in 2 of 3 wanted failure domains (server 3: silent for long)',
    ]);
  });

  test('one for a server that was removed, and is known no more', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: {} }, { members: [1, 2, 3] });
    world.servers.delete(servers(3)[0]!);
    assert.equal(world.plan(), [
      '20 replicate on 4: copies in 2 of 3 wanted failure domains (server 3: no part of the cluster any more)',
    ]);
  });

  test('the last good copy is most urgent; without any there is nothing to copy', () => {
    const world = new PlannedWorld(5);
    world.block({ 1: {}, 2: {}, 3: {} });
    world.giveUp(2);
    world.giveUp(3);
    assert.match(world.plan()[0]!, /^10 replicate on [45]: copies in 1 of 3 wanted failure domains/);
    world.giveUp(1);
    assert.equal(world.plan(), [
      'no replicate: copies in 0 of 3 wanted failure domains (server 1: silent for long; server 2: silent for long; ' +
        'server 3: silent for long); no copy that could be copied can be had now',
    ]);
  });

  test('one that is alone because others are away for a while is urgent, as soon as one of them is given up', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: {}, 3: {} });
    world.lose(2);
    world.lose(3);
    assert.equal(world.plan(), []);
    world.giveUp(3);
    assert.match(world.plan()[0]!, /^10 replicate on 4/);
  });

  test('blocks begun with fewer members', () => {
    const world = new PlannedWorld(3);
    world.block({ 1: {}, 2: {} });
    assert.equal(world.plan(), ['20 replicate on 3: copies in 2 of 3 wanted failure domains']);
  });

  test('nothing for a block without a record, which is retired', () => {
    const world = new PlannedWorld(3);
    world.block({ 1: { length: SUPERBLOCK_BYTES }, 2: { length: SUPERBLOCK_BYTES } });
    assert.equal(world.plan(), []);
  });

  test('two copies in one failure domain count once', () => {
    const world = new PlannedWorld(4);
    world.server(2, { domain: 'd1' });
    world.block({ 1: {}, 2: {}, 3: {} });
    assert.equal(world.plan(), [
      '30 replicate on 4: copies in 2 of 3 wanted failure domains, 3 copies in all',
    ]);
  });

  test('damaged or missing copies are made whole in their place, unless the disk takes no writes', () => {
    const world = new PlannedWorld(4);
    world.block({ 1: {}, 2: SUSPECT }, { members: [1, 2, 3] });
    assert.equal(world.plan(), []);
    world.server(2, { canWrite: false, refuses: 'its disk takes no writes' });
    assert.equal(world.plan(), [
      '10 replicate on 4: copies in 2 of 3 wanted failure domains (server 2: damaged, on a disk that takes no writes)',
    ]);
  });

  test('what is left of a block is copied, too, once it is known that records verify on no copy', () => {
    const world = new PlannedWorld(4);
    const wanted = '20 replicate on 4: copies in 2 of 3 wanted failure domains (server 3: silent for long)';
    world.block({ 1: SUSPECT, 2: SUSPECT }, { members: [1, 2, 3] });
    world.giveUp(3);
    assert.match(world.plan()[0]!, /no copy that could be copied/, 'they may be made whole of each other');
    world.lossy.add(B);
    assert.equal(world.plan(), [wanted]);
    world.giveUp(2);
    assert.match(world.plan()[0]!, /^10 replicate on 4: copies in 1 of 3/, 'what is left is on one disk');
    world.giveUp(1);
    assert.match(world.plan()[0]!, /no copy that could be copied/);
    const unreadable = new PlannedWorld(4);
    unreadable.lossy.add(B);
    unreadable.block({ 1: { flags: BlockFlag.SUSPECT | BlockFlag.QUARANTINED } }, { members: [1, 2, 3] });
    unreadable.giveUp(3);
    assert.equal(unreadable.plan(), [], 'a person has to look at it');
    const good = new PlannedWorld(4);
    good.lossy.add(B);
    good.block({ 1: {}, 2: SUSPECT }, { members: [1, 2, 3] });
    good.giveUp(3);
    assert.match(good.plan()[0]!, /^10 replicate on 4/, 'one good copy, as always');
  });

  test('copies that are being made count, and their place is taken', () => {
    const world = new PlannedWorld(5);
    world.block({ 1: {}, 2: {}, 3: {} });
    world.giveUp(2);
    world.giveUp(3);
    world.making.set(B, servers(4));
    assert.match(world.plan()[0]!, /^10 replicate on 5: copies in 2 of 3/);
    world.making.set(B, servers(4, 5));
    assert.equal(world.plan(), []);
  });

  test('why nobody takes it', () => {
    const world = new PlannedWorld(3);
    world.block({ 1: {}, 2: {}, 3: {} });
    world.giveUp(3);
    const two = 'copies in 2 of 3 wanted failure domains (server 3: silent for long)';
    assert.equal(world.plan(), [`no replicate: ${two}; no other failure domain has a DataServer`]);
    world.server(4, { roomBytes: 100 });
    world.server(5, { refuses: 'it stops' });
    world.server(6);
    world.parked.add(`replicate ${B} 6`);
    world.server(7, { domain: 'd1' });
    assert.equal(world.plan(), [
      `no replicate: ${two}; no other failure domain takes it ` +
        '(server 4: too little room; server 5: it stops; server 6: it failed there several times)',
    ]);
  });

  test('the blocks of a lost disk go to all the others, by their room, and each always to the same', () => {
    const world = new PlannedWorld(6);
    world.server(4, { roomBytes: 3e9 });
    const counts = new Map<number, number>();
    for (let i = 0; i < 3000; i++) world.block({ 1: {}, 2: {}, 3: {} }, { block: B + i });
    world.giveUp(3);
    const targetOf = (i: number) =>
      planBlock(world.map.facts((B + i) as typeof B)!, world.sight).work[0]!.target;
    for (let i = 0; i < 3000; i++) {
      counts.set(targetOf(i), (counts.get(targetOf(i)) ?? 0) + 1);
      assert.is(targetOf(i), targetOf(i));
    }
    // Three fifths, one fifth, one fifth.
    assert.ok(Math.abs(counts.get(4)! - 1800) < 120, `${counts.get(4)}`);
    assert.ok(Math.abs(counts.get(5)! - 600) < 100, `${counts.get(5)}`);
    assert.ok(Math.abs(counts.get(6)! - 600) < 100, `${counts.get(6)}`);
  });
});
