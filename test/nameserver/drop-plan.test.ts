import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { epochOf, type ServerId, serverId } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { BlockFacts, ReplicaFacts } from '../../nameserver/block-facts.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { type DropPlan, type DropSight, planDrop } from '../../nameserver/drop-plan.ts';
import { describe } from '../kit/suite.ts';

const replicaOf = (server: number, over: Partial<ReplicaFacts> = {}): ReplicaFacts => ({
  server: serverId(server),
  state: BlockState.SEALED,
  member: true,
  behind: false,
  confirmed: true,
  stale: false,
  goneBack: false,
  lost: false,
  good: true,
  outdated: false,
  readable: true,
  sealedAt: undefined,
  ...over,
});
const outside = (server: number, over: Partial<ReplicaFacts> = {}) =>
  replicaOf(server, { member: false, ...over });

const factsOf = (replicas: readonly ReplicaFacts[], over: Partial<BlockFacts> = {}): BlockFacts => ({
  block: 65_537 as BlockFacts['block'],
  whole: Whole.SEALED,
  generation: 0,
  length: 50_000,
  seq: 1,
  version: { epoch: epochOf(1), n: 1 },
  opsPrimary: serverId(1),
  targetReplicas: 3,
  deadBytes: 0,
  replicas,
  ...over,
});

interface Scene {
  readonly away?: readonly number[];
  readonly readOnly?: readonly number[];
  readonly drained?: readonly number[];
  readonly domains?: Readonly<Record<number, string>>;
  readonly used?: Readonly<Record<number, number>>;
}

const sightOf = ({
  away = [],
  readOnly = [],
  drained = [],
  domains = {},
  used = {},
}: Scene = {}): DropSight => ({
  isCurrent: (server) => !away.includes(server),
  canWrite: (server) => !readOnly.includes(server),
  isDrained: (server) => drained.includes(server),
  domainOf: (server) => domains[server] ?? `d${server}`,
  usedPercent: (server) => used[server] ?? 50,
});

const text = (plan: DropPlan): string =>
  plan.kind === 'keep'
    ? 'keep'
    : `${plan.kind} ${plan.kind === 'retire' ? plan.servers.join() : plan.server}`;
const plan = (replicas: readonly ReplicaFacts[], scene: Scene = {}, over: Partial<BlockFacts> = {}) =>
  text(planDrop(factsOf(replicas, over), sightOf(scene)));

const THREE = [replicaOf(1), replicaOf(2), replicaOf(3)];

describe('which replica is dropped', (test) => {
  test('none while there are no more than are wanted', () => {
    assert.is(plan(THREE), 'keep');
    assert.is(plan([replicaOf(1), replicaOf(2), outside(4, { stale: true })]), 'keep');
  });

  test('the one that came back when others had taken its place', () => {
    assert.is(plan([...THREE, outside(4, { stale: true })]), 'drop 4');
    assert.is(plan([...THREE, outside(4)]), 'drop 4');
  });

  test('none where one of the others cannot be counted on', () => {
    const extra = outside(4);
    for (const [why, flaw] of Object.entries({
      damaged: { good: false },
      'behind in operations': { behind: true },
      'of an older configuration': { stale: true },
      'of an earlier generation': { outdated: true },
      'not confirmed since its server registered': { confirmed: false },
      'not reported at all': { state: 0 as const },
      'not sealed': { state: BlockState.RECOVERED },
    }))
      assert.is.not(plan([replicaOf(1), replicaOf(2), replicaOf(3, flaw), extra]), 'drop 4', why);
    assert.is(plan([...THREE, extra], { away: [3] }), 'keep', 'it has not promised to this leader');
    assert.is(
      plan([...THREE, extra], { readOnly: [3] }),
      'leave-out 3',
      'its disk fails: another takes its place',
    );
    assert.is(plan([...THREE, outside(4, { good: false })], { readOnly: [3] }), 'keep');
    assert.is(plan([...THREE, extra], { domains: { 2: 'd1' } }), 'leave-out 2', 'two fail together');
    assert.is(plan([...THREE, extra], { domains: { 2: 'd1', 4: 'd3' } }), 'keep');
  });

  test('none that cannot be commanded, or whose disk takes no writes', () => {
    assert.is(plan([...THREE, outside(4)], { away: [4] }), 'keep');
    assert.is(plan([...THREE, outside(4, { stale: true })], { readOnly: [4] }), 'keep');
  });

  test('none of a block that is not sealed everywhere, or whose configuration is not known', () => {
    const extra = [...THREE, outside(4)];
    for (const whole of [Whole.OPEN, Whole.UNSEALED, Whole.OPENING])
      assert.is(plan(extra, {}, { whole }), 'keep');
    assert.is(plan(extra, {}, { opsPrimary: undefined }), 'keep');
  });

  test('a member is first left out, when there is another to take its place', () => {
    const moved = [...THREE, outside(4)];
    assert.is(plan(moved, { used: { 2: 80 } }), 'leave-out 2', 'the fullest');
    assert.is(plan(moved, { used: { 2: 52 } }), 'drop 4', 'a small difference is not worth it');
    assert.is(plan([...THREE, outside(4, { good: false })], { used: { 2: 80 } }), 'drop 4');
    assert.is(plan([replicaOf(1), outside(2, { stale: true }), replicaOf(3), replicaOf(4)]), 'drop 2');
  });

  test('what is on a server that is to be emptied goes when it is elsewhere, and not before', () => {
    const drained = { drained: [2], used: { 1: 90 } };
    assert.is(plan(THREE, drained), 'keep');
    assert.is(plan([...THREE, outside(4)], drained), 'leave-out 2');
    assert.is(plan([replicaOf(1), outside(2), replicaOf(3), replicaOf(4)], drained), 'drop 2');
    assert.equal(
      planDrop(factsOf([replicaOf(1), outside(2), replicaOf(3), replicaOf(4)]), sightOf(drained)),
      { kind: 'drop', server: 2, reason: 'moved' },
    );
    assert.is(plan([...THREE, outside(4)], { drained: [2, 4] }), 'keep', 'neither counts');
  });

  test('one in a domain that others are in goes before one on a full disk', () => {
    const extra = [...THREE, outside(4)];
    assert.is(plan(extra, { domains: { 2: 'd1' }, used: { 3: 90 } }), 'leave-out 2');
    assert.is(plan([...extra, outside(5)], { domains: { 5: 'd3' }, used: { 1: 90 } }), 'drop 5');
  });

  test('an empty block goes as a whole, or not at all', () => {
    const empty = { length: 4096 };
    assert.is(plan(THREE, {}, empty), 'retire 1,2,3');
    assert.is(plan(THREE, { away: [3] }, empty), 'keep');
    assert.is(plan(THREE, { readOnly: [3] }, empty), 'keep');
    assert.is(plan([replicaOf(1), replicaOf(2, { state: 0 })], {}, empty), 'retire 1');
    assert.is(plan([replicaOf(1, { state: 0 })], {}, empty), 'retire ');
    assert.is(plan([replicaOf(1, { good: false })], {}, empty), 'keep');
    assert.is(plan(THREE, {}, { ...empty, generation: 1 }), 'keep', 'it had records once');
  });

  test('whatever is known, enough good ones are left in domains of their own', () => {
    const mostly = fc.nat(9).map((n) => n > 0);
    const seldom = fc.nat(9).map((n) => n === 0);
    const states = [BlockState.SEALED, BlockState.SEALED, BlockState.SEALED, BlockState.FENCED, 0 as const];
    const replica = fc.record({
      state: fc.constantFrom(...states),
      member: fc.nat(3).map((n) => n > 0),
      behind: seldom,
      confirmed: mostly,
      stale: seldom,
      good: mostly,
    });
    const server = fc.record({
      isCurrent: mostly,
      canWrite: mostly,
      isDrained: seldom,
      domain: fc.nat(5),
      used: fc.nat(100),
    });
    let dropped = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(replica, server), { minLength: 1, maxLength: 7 }),
        fc.integer({ min: 1, max: 3 }),
        (all, targetReplicas) => {
          const replicas = all.map(([facts], i) => replicaOf(i + 1, { ...facts, readable: facts.good }));
          const of = (id: ServerId) => all[id - 1]![1];
          const sight: DropSight = {
            isCurrent: (id) => of(id).isCurrent,
            canWrite: (id) => of(id).canWrite,
            isDrained: (id) => of(id).isDrained,
            domainOf: (id) => `d${of(id).domain}`,
            usedPercent: (id) => of(id).used,
          };
          const chosen = planDrop(factsOf(replicas, { targetReplicas }), sight);
          if (chosen.kind !== 'drop') return;
          dropped++;
          const victim = replicas[chosen.server - 1]!;
          assert.ok(!victim.member && victim.state === BlockState.SEALED && of(chosen.server).isCurrent);
          const left = replicas.filter(
            (one) =>
              one !== victim &&
              one.member &&
              one.state === BlockState.SEALED &&
              one.good &&
              !one.stale &&
              !one.behind &&
              one.confirmed &&
              of(one.server).isCurrent &&
              of(one.server).canWrite &&
              !of(one.server).isDrained,
          );
          assert.ok(new Set(left.map((one) => of(one.server).domain)).size >= targetReplicas);
        },
      ),
      { numRuns: 10_000, seed: 7 },
    );
    assert.ok(dropped > 100, `${dropped} drops`);
  });
});
