import * as assert from 'uvu/assert';
import { type BlockId, blockId, epochOf } from '../../common/ids.ts';
import {
  OPEN_BLOCK_AGE_MS_MAX,
  OPEN_BLOCK_OVERDUE_MS,
  OPENING_MS_MAX,
  PRIMARY_SILENT_MS_MAX,
  SMALL_BLOCK_MS,
} from '../../common/limits.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { ODD_MS_MIN, PRIMARY_ABSENT_MS_MAX, Sweep } from '../../nameserver/sweep.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';

const B = blockId(0x2_0000);

class World {
  readonly map = new BlockMap();
  readonly away = new Set<number>();
  readonly leaving = new Set<number>();
  fullSet = true;
  nowMs = 0;
  sealed: [BlockId, string][] = [];
  readonly sweep = new Sweep({
    unsettled: this.map.unsettled,
    facts: (block) => this.map.facts(block),
    isCurrent: (server) => !this.away.has(server),
    isLeaving: (server) => this.leaving.has(server),
    isFullSetPossible: () => this.fullSet,
    enqueue: (block, why) => this.sealed.push([block, why]),
    isQueued: (block) => this.sealed.some(([queued]) => queued === block),
  });

  report(states: Record<number, BlockState>, members = [1, 2, 3]): void {
    for (const [server, state] of Object.entries(states))
      this.map.report(servers(Number(server))[0]!, entryOf({ state, members }));
  }

  /** Sweeps every 500 ms. @returns ms until a seal was asked for, or undefined */
  until(ms: number): number | undefined {
    for (let passed = 0; passed <= ms; passed += 500) {
      this.sweep.run(this.nowMs);
      if (this.sealed.length > 0) return passed;
      this.nowMs += 500;
    }
    return undefined;
  }
}

describe('sweep', (test) => {
  test('an open and a sealed block are left alone', () => {
    const world = new World();
    world.report({ 1: BlockState.OPEN, 2: BlockState.OPEN, 3: BlockState.OPEN });
    assert.is(world.until(100_000), undefined);
    world.report({ 1: BlockState.SEALED, 2: BlockState.SEALED, 3: BlockState.SEALED });
    assert.is(world.until(100_000), undefined);
  });

  test('a block is sealed as soon as one of its members says that it stops', () => {
    const world = new World();
    world.report({ 1: BlockState.OPEN, 2: BlockState.OPEN }, [1, 2]);
    world.leaving.add(3);
    assert.is(world.until(20_000), undefined, 'not one of its members');
    world.leaving.add(2);
    assert.is(world.until(20_000), 0);
  });

  test('replicas in different states are sealed, and not while reports cross', () => {
    for (const odd of [BlockState.RECOVERED, BlockState.FENCED, BlockState.SEALED]) {
      const world = new World();
      world.report({ 1: BlockState.OPEN, 2: odd, 3: BlockState.OPEN });
      assert.is(world.until(20_000), ODD_MS_MIN);
      const crossing = new World();
      crossing.report({ 1: BlockState.OPEN, 2: odd, 3: BlockState.OPEN });
      assert.is(crossing.until(ODD_MS_MIN - 500), undefined);
      crossing.report({ 2: BlockState.OPEN });
      assert.is(crossing.until(20_000), undefined);
    }
  });

  test('the dead are not waited for, and nothing is done for them before they are back', () => {
    const world = new World();
    world.report({ 1: BlockState.FENCED, 2: BlockState.FENCED, 3: BlockState.OPEN });
    world.away.add(3);
    assert.is(world.until(20_000), ODD_MS_MIN);
    world.sealed = [];
    world.report({ 1: BlockState.SEALED, 2: BlockState.SEALED });
    assert.is(world.until(100_000), undefined);
    world.away.clear();
    world.report({ 3: BlockState.RECOVERED });
    assert.is(world.until(2000), 0);
  });

  test('a replica outside of the configuration is sealed too; one that cannot be read is not waited for', () => {
    const world = new World();
    world.report({ 1: BlockState.SEALED, 2: BlockState.SEALED }, [1, 2]);
    world.report({ 4: BlockState.RECOVERED }, [1, 2]);
    assert.is(world.until(20_000), ODD_MS_MIN);
    const bad = new World();
    bad.report({ 1: BlockState.SEALED, 2: BlockState.SEALED });
    bad.map.report(
      servers(3)[0]!,
      entryOf({ state: BlockState.RECOVERED, flags: BlockFlag.SUSPECT | BlockFlag.QUARANTINED }),
    );
    assert.is(bad.until(100_000), undefined);
    assert.is(bad.map.counts.suspect, 1);
  });

  test('replicas that are sealed at different lengths are sealed again, when two of them are there', () => {
    const world = new World();
    world.report({ 1: BlockState.SEALED, 2: BlockState.SEALED });
    world.map.report(servers(3)[0]!, entryOf({ state: BlockState.SEALED, length: 9000 }));
    world.away.add(3);
    assert.is(world.until(20_000), undefined);
    world.away.clear();
    assert.is(world.until(2000), 0);
  });

  test('an open block with a damaged replica is sealed at once, but not for one that is away', () => {
    const world = new World();
    world.report({ 1: BlockState.OPEN, 2: BlockState.OPEN });
    world.map.report(servers(3)[0]!, entryOf({ flags: BlockFlag.SUSPECT }));
    world.away.add(3);
    assert.is(world.until(20_000), undefined);
    world.away.clear();
    assert.is(world.until(1000), 0);
  });

  test('an open block that nobody ends is sealed at some age', () => {
    const world = new World();
    world.report({ 1: BlockState.OPEN, 2: BlockState.OPEN, 3: BlockState.OPEN });
    assert.is(world.until(3000), undefined);
    world.nowMs += OPEN_BLOCK_AGE_MS_MAX + OPEN_BLOCK_OVERDUE_MS;
    assert.is(world.until(1000), 0);
  });

  test('a block that all recovered is sealed', () => {
    const world = new World();
    world.report({ 1: BlockState.RECOVERED, 2: BlockState.RECOVERED, 3: BlockState.RECOVERED });
    assert.is(world.until(20_000), ODD_MS_MIN);
  });

  test('an open block that its primary has lost is sealed', () => {
    const world = new World();
    world.report({ 2: BlockState.OPEN, 3: BlockState.OPEN });
    world.away.add(1);
    assert.is(world.until(PRIMARY_SILENT_MS_MAX - 500), undefined, 'a primary that is away may have it');
    world.away.clear();
    assert.is(world.until(60_000), 0);
    const dead = new World();
    dead.report({ 1: BlockState.OPEN, 2: BlockState.OPEN, 3: BlockState.OPEN });
    dead.away.add(1);
    assert.is(dead.until(60_000), PRIMARY_SILENT_MS_MAX);
    const restless = new World();
    restless.report({ 1: BlockState.OPEN, 2: BlockState.OPEN, 3: BlockState.OPEN });
    for (let i = 0; i < 4; i++) {
      restless.away.add(1);
      assert.is(restless.until(PRIMARY_SILENT_MS_MAX - 1000), undefined);
      restless.away.clear();
      assert.is(restless.until(500), undefined);
    }
    const creating = new World();
    creating.report({ 2: BlockState.OPEN });
    assert.is(creating.until(60_000), PRIMARY_ABSENT_MS_MAX);
  });

  test('a block that nobody reports is asked about', () => {
    const world = new World();
    world.map.open(B, { version: { epoch: epochOf(1), n: 1 }, members: servers(1, 2), targetReplicas: 3 });
    assert.is(world.until(200_000), OPENING_MS_MAX);
  });

  test('a block with too few replicas is sealed when all could be had for a while', () => {
    const world = new World();
    world.fullSet = false;
    world.report({ 1: BlockState.OPEN, 2: BlockState.OPEN }, [1, 2]);
    assert.is(world.until(100_000), undefined);
    world.fullSet = true;
    assert.is(world.until(SMALL_BLOCK_MS - 500), undefined);
    world.fullSet = false;
    assert.is(world.until(500), undefined);
    world.fullSet = true;
    assert.is(world.until(100_000), SMALL_BLOCK_MS, 'without a break');
  });
});
