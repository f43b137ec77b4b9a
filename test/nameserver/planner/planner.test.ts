import fc from 'fast-check';
import * as assert from 'uvu/assert';
import type { BlockId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { surplusOf } from '../../../nameserver/planner/balance.ts';
import { planBlock } from '../../../nameserver/planner/plan-block.ts';
import { Planner } from '../../../nameserver/planner/planner.ts';
import { ServerTables } from '../../../nameserver/planner/rule.ts';
import { RULES } from '../../../nameserver/planner/rules.ts';
import type { Work } from '../../../nameserver/planner/work.ts';
import { describe } from '../../kit/suite.ts';
import type { FakeDataServer } from '../fake-dataserver.ts';
import { World } from '../world.ts';
import { B, PlannedWorld } from './planned-world.ts';

const SERVERS = 6;
const { SEALED, RECOVERED } = BlockState;

const zReplica = fc.record({
  server: fc.integer({ min: 1, max: SERVERS }),
  state: fc.constantFrom(SEALED, SEALED, SEALED, RECOVERED),
  flags: fc.constantFrom(0, 0, 0, BlockFlag.SUSPECT, BlockFlag.SUSPECT | BlockFlag.QUARANTINED),
});
const zServer = fc.record({
  domain: fc.constantFrom('a', 'b', 'c', 'd'),
  isCurrent: fc.boolean(),
  givenUp: fc.constantFrom(undefined, undefined, undefined, 'gone'),
  canWrite: fc.boolean(),
  refuses: fc.constantFrom(undefined, undefined, 'no'),
  usedPercent: fc.nat(100),
});
const zWorld = fc.record({
  servers: fc.array(zServer, { minLength: SERVERS, maxLength: SERVERS }),
  blocks: fc.array(
    fc.record({
      replicas: fc.uniqueArray(zReplica, { selector: ({ server }) => server, minLength: 1, maxLength: 5 }),
      members: fc.uniqueArray(fc.integer({ min: 1, max: SERVERS }), { minLength: 1, maxLength: 4 }),
      // So that a block may be compacted, which chance alone hardly ever makes.
      isEven: fc.boolean(),
      isLossy: fc.boolean(),
      deadBytes: fc.constantFrom(0, 500, 1000, 4000, 5000),
    }),
    { maxLength: 40 },
  ),
  viewComplete: fc.constantFrom(true, true, true, false),
  leftAlone: fc.nat(40),
});

function worldOf({
  servers,
  blocks,
  viewComplete,
  leftAlone,
}: typeof zWorld extends fc.Arbitrary<infer T> ? T : never): PlannedWorld {
  const world = new PlannedWorld(SERVERS);
  for (const [i, sight] of servers.entries()) world.server(i + 1, sight);
  world.viewComplete = viewComplete;
  world.leftAlone.add(idOf(leftAlone));
  blocks.forEach(({ replicas, members, isEven, isLossy, deadBytes }, i) => {
    if (isLossy) world.lossy.add(idOf(i));
    const reported = Object.fromEntries(
      replicas.map(({ server, ...rest }) => [server, isEven ? { deadBytes } : { ...rest, deadBytes }]),
    );
    world.block(reported, {
      block: B + 7 * i,
      members: isEven ? replicas.map(({ server }) => server) : members,
    });
  });
  return world;
}

const REASONS = {
  purge: /^a picture in it is to be erased$/,
  replicate: /^copies in \d of 3 wanted/,
  balance: /^server \d is \d+ % full and/,
  compact: /^\d+ % of it is deleted$/,
  scrub: /^not read through for \d days$/,
};
const idOf = (i: number): BlockId => (B + 7 * i) as BlockId;
const textOf = ({ kind, block, target, priority, reason }: Work): string =>
  `${priority} ${kind} ${block} on ${target}: ${reason}`;

describe('the planner', (test) => {
  test('lists what looking at each block by itself says: most urgent first, bounded, the same every time', () => {
    fc.assert(
      fc.property(
        zWorld,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 4 }),
        (shape, max, step) => {
          const world = worldOf(shape);
          const { map, sight } = world;
          const all = shape.blocks
            .flatMap((_, i) => planBlock(map.facts(idOf(i))!, sight).work)
            .sort((a, b) => a.priority - b.priority);
          const planner = new Planner({ map, sight: () => sight, wantedMax: max, blocksPerStepMax: step });
          const rounds: string[][] = [];
          while (rounds.length < 2) if (planner.step()) rounds.push(planner.round!.wanted.map(textOf));
          assert.ok(rounds[0]!.length <= max);
          assert.equal(rounds[0], all.slice(0, max).map(textOf));
          assert.equal(rounds[1], rounds[0]);
          for (const { kind, reason } of all) assert.match(reason, REASONS[kind]);
          const blocks = all.map(({ block }) => block);
          assert.is(new Set(blocks).size, blocks.length, 'one thing at a time for each block');
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a glance never misses what a closer look finds, and is as urgent', () => {
    fc.assert(
      fc.property(zWorld, (shape) => {
        const { map, sight } = worldOf(shape);
        const tables = new ServerTables(sight, surplusOf(sight.servers.values()));
        shape.blocks.forEach((_, i) => {
          const page = map.page(idOf(i) >>> 16)!;
          for (const rule of RULES) {
            const { work } = rule.plan(map.facts(idOf(i))!, sight);
            const priority = rule.glance(page, idOf(i) & 0xffff, tables);
            if (work.length > 0) assert.is(priority, work[0]!.priority);
          }
        });
      }),
      { numRuns: 500 },
    );
  });

  test('no copy is planned into a failure domain that has one, and none where one is', () => {
    fc.assert(
      fc.property(zWorld, (shape) => {
        const { map, sight } = worldOf(shape);
        shape.blocks.forEach((_, i) => {
          const facts = map.facts(idOf(i))!;
          for (const { kind, target } of planBlock(facts, sight).work) {
            // A copy that replaces another may lie beside it.
            if (kind !== 'replicate') continue;
            const at = sight.servers.get(target)!;
            assert.is(at.refuses, undefined);
            const counting = facts.replicas.filter(({ server, good }) => {
              const one = sight.servers.get(server)!;
              return one.givenUp === undefined && (good || one.canWrite);
            });
            assert.not(counting.some(({ server }) => sight.servers.get(server)!.domain === at.domain));
            assert.not(facts.replicas.some(({ server }) => server === target));
          }
        });
      }),
      { numRuns: 500 },
    );
  });

  test('a bounded number of rows at a time, and amounts of everything, listed or not', () => {
    const world = new PlannedWorld(4);
    for (let i = 0; i < 3000; i++) world.block({ 1: {}, 2: {}, 3: {} }, { block: B + i });
    world.giveUp(3);
    let looked = 0;
    const map = {
      page: (n: number) => world.map.page(n),
      nextPage: (from: number) => world.map.nextPage(from),
      facts: (block: BlockId) => {
        looked++;
        return world.map.facts(block);
      },
    };
    const planner = new Planner({ map, sight: () => world.sight, wantedMax: 100, rowsPerStepMax: 1000 });
    let steps = 1;
    while (!planner.step()) steps++;
    assert.ok(steps >= 3, `${steps}`);
    assert.is(looked, 100, 'no closer look at what has no place in the list');
    assert.is(planner.round!.wanted.length, 100);
    assert.equal([...planner.round!.amounts], [['replicate', { blocks: 3000, bytes: 15_000_000 }]]);
  });

  test('what becomes most urgent pushes the rest out of a full list', () => {
    const world = new PlannedWorld(4);
    for (let i = 0; i < 20; i++)
      world.block(i < 15 ? { 1: {}, 2: {}, 3: {} } : { 1: {}, 3: {} }, { block: B + i });
    world.giveUp(3);
    const planner = new Planner({ map: world.map, sight: () => world.sight, wantedMax: 8 });
    assert.ok(planner.step());
    const wanted = planner.round!.wanted.map(({ block, priority }) => [block - B, priority]);
    assert.equal(wanted, [
      [15, 10],
      [16, 10],
      [17, 10],
      [18, 10],
      [19, 10],
      [0, 20],
      [1, 20],
      [2, 20],
    ]);
  });
}, 30_000);

describe('a leading NameServer', (test) => {
  test('wants copies of what a server held, when that was silent for long, and of nothing in safe mode', async (t) => {
    const world = new World(t, { dataservers: 4 });
    await world.startNameServer({ deadMs: 20_000 });
    for (const server of world.data) {
      await server.start();
      world.alive.add(server);
    }
    await world.pass(3000);
    const [one, two, three, four] = world.data as [
      FakeDataServer,
      FakeDataServer,
      FakeDataServer,
      FakeDataServer,
    ];
    const { block, members } = await world.settle(one.openBlock(world.data));
    // Of one without a record nobody wants a copy.
    one.put({ ...one.blocks.get(block)!, length: 9000 });
    await world.settle(one.endSession(block));
    await world.pass(3000);
    const wanted = () =>
      world.ns.jobs.planner.round?.wanted.map(({ target, priority }) => [target, priority]);
    assert.equal(wanted(), []);
    const lost = [two, three, four].find(({ id }) => members.some((member) => member.id === id))!;
    const spare = [two, three, four].find(({ id }) => !members.some((member) => member.id === id))!;
    world.alive.delete(lost);
    await world.pass(15_000);
    assert.equal(wanted(), []);
    await world.pass(10_000);
    assert.equal(wanted(), [[spare.id, 20]]);
    world.alive.clear();
    await world.pass(10_000);
    assert.is(wanted(), undefined);
  });
}, 30_000);
