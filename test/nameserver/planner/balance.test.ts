import * as assert from 'uvu/assert';
import type { BlockId, ServerId } from '../../../common/ids.ts';
import { BALANCE_PERCENT_MAX, FULLER_PERCENT_MIN } from '../../../common/limits.ts';
import { type DropSight, planDrop } from '../../../nameserver/drop-plan.ts';
import { surplusOf } from '../../../nameserver/planner/balance.ts';
import { planBlock } from '../../../nameserver/planner/plan-block.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';
import { servers as idsOf } from '../entries.ts';
import { B, PlannedWorld, SUSPECT } from './planned-world.ts';

const CAPACITY_BYTES = 1e9;
const BLOCK_BYTES = 1e6;

/** Servers with blocks of a megabyte, whose disks are as full as what lies on them. */
class Disks {
  readonly world: PlannedWorld;
  readonly #count: number;
  readonly #held = new Map<BlockId, number[]>();
  moves = new Map<number, number>();

  /** @param disks those that have blocks; others follow */
  constructor(disks: number, blocks: number, { capacity = {} as Record<number, number>, more = 0 } = {}) {
    this.#count = disks + more;
    this.world = new PlannedWorld(this.#count);
    const random = new SeededRandom(3);
    for (let i = 0; i < blocks; i++) {
      const all = Array.from({ length: disks }, (_, k) => k + 1);
      const chosen = all.sort(() => random.float() - 0.5).slice(0, 3);
      this.#hold((B + i) as BlockId, chosen);
    }
    for (let id = 1; id <= this.#count; id++)
      this.world.server(id, { capacityBytes: capacity[id] ?? CAPACITY_BYTES });
    this.measure();
  }

  #hold(block: BlockId, members: number[]): void {
    this.#held.set(block, members);
    this.world.map.forget(block);
    const replicas = Object.fromEntries(members.map((id) => [id, { length: BLOCK_BYTES }]));
    this.world.block(replicas, { block });
  }

  usedPercent(id: number): number {
    const bytes = [...this.#held.values()].filter((members) => members.includes(id)).length * BLOCK_BYTES;
    return (100 * bytes) / this.world.servers.get(id as ServerId)!.capacityBytes;
  }

  measure(): void {
    for (let id = 1; id <= this.#count; id++) this.world.server(id, { usedPercent: this.usedPercent(id) });
  }

  get percents(): number[] {
    return Array.from({ length: this.#count }, (_, i) => this.usedPercent(i + 1));
  }

  get spread(): number {
    return Math.max(...this.percents) - Math.min(...this.percents);
  }

  /** A round: a few jobs on each server, and of each block the copy too many goes. @returns how many were moved */
  round(jobsPerServer = 4): number {
    const taken = new Map<number, number>();
    let moved = 0;
    for (const block of [...this.#held.keys()]) {
      const { work } = planBlock(this.world.map.facts(block)!, this.world.sight);
      const [job] = work;
      if (job === undefined || (taken.get(job.target) ?? 0) >= jobsPerServer) continue;
      taken.set(job.target, (taken.get(job.target) ?? 0) + 1);
      this.#move(block, job.target);
      moved++;
    }
    this.measure();
    return moved;
  }

  #move(block: BlockId, target: number): void {
    const members = this.#held.get(block)!;
    this.world.map.forget(block);
    const replicas = Object.fromEntries([...members, target].map((id) => [id, { length: BLOCK_BYTES }]));
    this.world.block(replicas, { block, members });
    const sight: DropSight = {
      isCurrent: () => true,
      canWrite: () => true,
      isDrained: () => false,
      domainOf: (id) => `d${id}`,
      usedPercent: (id) => this.usedPercent(id),
    };
    const plan = planDrop(this.world.map.facts(block)!, sight);
    assert.ok(plan.kind === 'drop' || plan.kind === 'leave-out', plan.kind);
    assert.is.not(plan.server, target, 'what was moved stays');
    this.moves.set(target, (this.moves.get(target) ?? 0) + 1);
    this.#hold(block, [...members.filter((id) => id !== plan.server), target]);
  }
}

describe('balance', (test) => {
  test('nothing is moved between disks that are about as full', () => {
    const disks = new Disks(5, 100);
    assert.ok(disks.spread < BALANCE_PERCENT_MAX, `${disks.spread}`);
    assert.is(disks.round(), 0);
    assert.is(surplusOf(disks.world.servers.values()).size, 0);
  });

  test('a new disk is filled, a few blocks at a time, until all are as full within five per cent', () => {
    const disks = new Disks(4, 600, { more: 1 });
    assert.ok(disks.spread > 40);
    let rounds = 0;
    for (let moved = 1; moved > 0; rounds++) {
      moved = disks.round();
      assert.ok(moved <= 4 * 5, 'gently');
      assert.ok(rounds < 1000, 'it ends');
    }
    assert.ok(disks.spread <= 5, disks.percents.join());
    const total = [...disks.moves.values()].reduce((sum, n) => sum + n, 0);
    const needed = (600 * 3) / 5;
    assert.ok((disks.moves.get(5) ?? 0) > 0.95 * total, 'to the new disk and hardly anywhere else');
    assert.ok(total <= needed * 1.05, `${total} moves for ${needed}`);
  });

  test('disks of different sizes become equally full', () => {
    const disks = new Disks(4, 600, { capacity: { 1: 1e9, 2: 2e9, 3: 1e9, 4: 2e9, 5: 3e9 }, more: 1 });
    for (let rounds = 0; disks.round() > 0; rounds++) assert.ok(rounds < 1000, 'it ends');
    assert.ok(disks.spread <= 6, disks.percents.map(Math.round).join());
  });

  test('is for blocks that need nothing else', () => {
    const world = new PlannedWorld(4);
    for (const id of [1, 2, 3]) world.server(id, { usedPercent: 40 });
    world.server(4, { usedPercent: 34 });
    const all = Array.from({ length: 40 }, (_, i) => (B + i) as BlockId);
    const planned = () =>
      all.flatMap((block) => world.plan(block)).filter((line) => line.includes(' balance '));
    for (const block of all) world.block({ 1: {}, 2: {}, 3: {} }, { block });
    const some = planned();
    assert.ok(some.length > 5 && some.length < 40, `${some.length}: what is above the average, and not all`);
    assert.match(some[0]!, /^80 balance on 4: server \d is 40 % full and server 4 34 %$/);
    for (const block of all) world.making.set(block, idsOf(4));
    assert.equal(planned(), [], 'one copy at a time');
    world.making.clear();
    world.server(4, { refuses: 'its disk is slow' });
    assert.equal(planned(), []);
    world.server(4, { refuses: undefined, domain: 'd1' });
    assert.ok(
      planned().every((line) => line.includes('server 1 is')),
      'domains stay apart',
    );
    world.server(4, { domain: 'd4' });
    for (const block of all) world.block({ 1: SUSPECT, 2: {}, 3: {} }, { block });
    assert.equal(planned(), [], 'what is damaged is repaired first');
  });

  test('what it moves is not moved back', () => {
    assert.ok(FULLER_PERCENT_MIN < BALANCE_PERCENT_MAX);
  });
});
