import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { type BlockId, epochOf, incarnationOf, type ServerId, serverId } from '../../common/ids.ts';
import { COMPACT_AGAIN_MS } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { CommitGeneration, PreparedGenerationFact } from '../../common/wire/compaction.ts';
import type { Member } from '../../common/wire/control.ts';
import type { ErasedSlot } from '../../common/wire/erase.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Compaction, type CompactionSettings } from '../../nameserver/compaction.ts';
import type { CompactionCommands } from '../../nameserver/compaction-commands.ts';
import { planCompaction } from '../../nameserver/compaction-plan.ts';
import { decideVote } from '../../nameserver/compaction-vote.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';

const BLOCK = 0x2_0001 as BlockId;
const IDS = [1, 2, 3].map(serverId);
const VERSION = { epoch: epochOf(4), n: 1 };
const REIGN = { epoch: epochOf(7), nameserver: 1 };
const MIB = 1 << 20;
const fact = (digit: string, length = 900): PreparedGenerationFact => ({
  length,
  slots: 9,
  digest: digit.repeat(64),
});

const entry = (changes: Partial<BlockEntry> = {}): BlockEntry => ({
  block: BLOCK,
  generation: 0,
  state: BlockState.SEALED,
  flags: 0,
  length: 4 * MIB,
  seq: 5,
  version: VERSION,
  opsPrimary: IDS[0]!,
  targetReplicas: 3,
  members: IDS,
  deadBytes: 2 * MIB,
  ...changes,
});

const memberOf = (id: ServerId): Member => ({
  id,
  incarnation: incarnationOf(1),
  address: { host: 'x', port: id },
});

/** A leader with a map, and members that do as they are told, unless a test says otherwise. */
class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly told: string[] = [];
  readonly away = new Set<ServerId>();
  viewComplete = true;
  leads = true;
  made = new Map<ServerId, PreparedGenerationFact | TfsError>(IDS.map((id) => [id, fact('a')]));
  commitFails = new Map<ServerId, TfsError>();
  purgeBytes = 2 * MIB;
  notBeforeMs = 0;
  commits: CommitGeneration[] = [];
  readonly compaction: Compaction;

  constructor(settings: CompactionSettings = {}) {
    this.report();
    const commands: CompactionCommands = {
      purge: async ({ id }, { bytesMin }) => {
        this.told.push(`purge ${id}`);
        return this.purgeBytes < bytesMin
          ? { bytes: this.purgeBytes, notBeforeMs: this.notBeforeMs }
          : { bytes: this.purgeBytes, barrier: { version: VERSION, seq: 6 } };
      },
      prepare: async ({ id }, { generation, seq }) => {
        this.told.push(`prepare ${id} ${generation} ${seq}`);
        const made = this.made.get(id)!;
        if (made instanceof TfsError) throw made;
        return made;
      },
      commit: async ({ id }, order) => {
        this.told.push(`commit ${id} ${order.digest[0]}`);
        const failure = this.commitFails.get(id);
        if (failure !== undefined) throw failure;
        this.commits.push(order);
      },
      abandon: async ({ id }) => {
        this.told.push(`abandon ${id}`);
      },
      blockHead: async () => ({
        generation: this.map.facts(BLOCK)!.generation,
        state: BlockState.SEALED,
        seal: { ...fact('b'), epoch: epochOf(6) },
      }),
    };
    this.compaction = new Compaction({
      map: this.map,
      clock: this.clock,
      time: { earliest: () => (this.knowsTime ? this.clock.now() : undefined) },
      log: silentLog,
      commands,
      reign: () => (this.leads ? REIGN : undefined),
      reachable: (id) => (this.away.has(id) ? undefined : memberOf(id)),
      ...this.sight,
      ...settings,
    });
  }

  knowsTime = true;
  paused = false;
  queued = false;

  readonly sight = {
    isPaused: () => this.paused,
    isQueued: () => this.queued,
    isViewComplete: () => this.viewComplete,
    isCurrent: (id: ServerId) => !this.away.has(id),
    canWrite: () => true,
  };

  report(changes: Partial<BlockEntry> = {}, ids: readonly ServerId[] = IDS): void {
    for (const id of ids) this.map.report(id, entry(changes));
  }

  async run(): Promise<string> {
    return this.compaction.request(BLOCK).then(
      ({ generation, freedBytes }) => `${generation} ${freedBytes}`,
      (error: unknown) => (isTfsError(error) ? error.code : String(error)),
    );
  }

  plan() {
    return planCompaction(this.map.facts(BLOCK)!, this.sight);
  }
}

describe('which blocks are compacted by themselves', (test) => {
  const looks = async (settings: CompactionSettings, deadBytes: number): Promise<readonly string[]> => {
    const world = new World(settings);
    world.report({ deadBytes });
    world.purgeBytes = deadBytes;
    for (let i = 0; i < 3; i++) {
      world.compaction.pump();
      await turns(8);
    }
    await world.compaction.close();
    return world.told.map((line) => line.split(' ')[0]!);
  };

  test('those with as much garbage as the setting says', async () => {
    const some = MIB;
    const less = MIB / 2;
    assert.ok((await looks({}, some)).includes('commit'), 'a quarter is more than 15 %');
    assert.equal(await looks({}, less), []);
    assert.equal(await looks({ garbagePercent: 26 }, some), []);
    assert.ok((await looks({ garbagePercent: 12 }, less)).includes('commit'));
  });
});

describe('the plan of a compaction', (test) => {
  const why = (world: World): string => {
    const plan = world.plan();
    return plan.kind === 'refuse' ? plan.why : plan.kind;
  };

  test('all members make the next generation', () => {
    assert.equal(new World().plan(), { kind: 'begin', generation: 1, members: IDS, opsPrimary: IDS[0] });
  });

  const hindrances: Record<string, [(world: World) => unknown, RegExp]> = {
    'a view that is not complete': [(w) => Object.assign(w, { viewComplete: false }), /reported/],
    'a member that does not obey': [(w) => w.away.add(IDS[1]!), /server 2 cannot be commanded/],
    'fewer members than are wanted': [
      (w) => w.report({ members: [1, 2].map(serverId), version: { ...VERSION, n: 2 } }, [IDS[0]!, IDS[1]!]),
      /2 members of the 3/,
    ],
    'a damaged member': [(w) => w.report({ flags: BlockFlag.SUSPECT }, [IDS[2]!]), /damaged/],
    'a member that is behind': [(w) => w.report({ seq: 6 }, [IDS[0]!]), /behind/],
    'a member that waits for its seal': [
      (w) => w.report({ state: BlockState.RECOVERED }, [IDS[2]!]),
      /sealed/,
    ],
    'a member that has not reported it': [(w) => w.map.lose(IDS[2]!), /not sealed/],
    'a report that is not confirmed': [(w) => w.map.beginReport(IDS[1]!), /may lack/],
  };
  for (const [what, [hinder, reason]] of Object.entries(hindrances))
    test(`not with ${what}`, () => {
      const world = new World();
      hinder(world);
      assert.match(why(world), reason);
    });

  test('what some have committed the others get, whoever is missing', () => {
    const world = new World();
    world.report({ generation: 1, length: 900 }, [IDS[1]!]);
    world.viewComplete = false;
    world.away.add(IDS[0]!);
    assert.equal(world.plan(), { kind: 'finish', holders: [IDS[1]], behind: [IDS[0], IDS[2]] });
    assert.ok(world.map.outdated.has(BLOCK));
    world.report({ generation: 1, length: 900 });
    assert.match(why(world), /reported/, 'it is over');
  });
});

describe('the vote', (test) => {
  const votes = (...digits: string[]) =>
    digits.map((digit, i) => ({ server: serverId(i + 1), made: fact(digit) }));
  test('more than half of the members decide', () => {
    assert.equal(decideVote(votes('a', 'a', 'a')), { made: fact('a'), majority: IDS, minority: [] });
    assert.equal(decideVote(votes('a', 'b', 'a')), { made: fact('a'), majority: [1, 3], minority: [2] });
    assert.equal(decideVote(votes('a')).made, fact('a'));
    for (const split of [votes('a', 'b'), votes('a', 'b', 'c'), votes('a', 'a', 'b', 'b')])
      assert.is(decideVote(split).made, undefined);
    const longer = { server: serverId(2), made: fact('a', 901) };
    assert.is(decideVote([votes('a')[0]!, longer]).made, undefined, 'the length counts too');
  });
});

describe('compaction by the leader', (test) => {
  test('purge, prepare on all, commit on all', async () => {
    const world = new World();
    assert.is(await world.run(), `1 ${2 * MIB}`);
    assert.equal(world.told, [
      ...['purge 1', 'prepare 1 1 6', 'prepare 2 1 6', 'prepare 3 1 6'],
      ...['commit 1 a', 'commit 2 a', 'commit 3 a'],
    ]);
    assert.is(world.commits[0]!.epoch, REIGN.epoch);
  });

  test('asked twice at once it runs once', async () => {
    const world = new World();
    const both = await Promise.all([world.run(), world.run()]);
    assert.is(both[0], both[1]);
    assert.is(world.told.filter((line) => line.startsWith('purge')).length, 1);
  });

  test('who does not lead does nothing', async () => {
    const world = new World();
    world.leads = false;
    assert.is(await world.run(), 'NOT_LEADER');
    world.compaction.pump();
    assert.equal(world.told, []);
  });

  test('who does not know what time it is orders no purge but of what somebody agreed to erase', async () => {
    const world = new World();
    world.knowsTime = false;
    assert.is(await world.run(), 'UNAVAILABLE');
    assert.equal(world.told, []);
    await world.compaction.erase(BLOCK, [{ slot: 0, aliases: 0 } as ErasedSlot]);
    assert.is(world.told[0], 'purge 1');
  });

  test('one member that cannot ends it: nothing is committed anywhere', async () => {
    for (const code of ['DISK_FULL', 'CONFLICT', 'CORRUPT'] as const) {
      const world = new World();
      world.made.set(IDS[1]!, new TfsError(code, 'planted'));
      assert.is(await world.run(), code === 'CORRUPT' ? 'CORRUPT' : 'UNAVAILABLE');
      assert.equal(world.told.slice(4).sort(), ['abandon 1', 'abandon 2', 'abandon 3']);
      assert.is(world.compaction.stats.alarms, code === 'CORRUPT' ? 1 : 0);
    }
  });

  test('a file that differs is not used; the others go on', async () => {
    const world = new World();
    world.made.set(IDS[2]!, fact('c'));
    assert.is(await world.run(), `1 ${2 * MIB}`);
    assert.equal(world.told.slice(4), ['abandon 3', 'commit 1 a', 'commit 2 a']);
    assert.is(world.compaction.stats.alarms, 1);
  });

  test('three different files: none is used', async () => {
    const world = new World();
    world.made = new Map(IDS.map((id, i) => [id, fact('abc'[i]!)]));
    assert.is(await world.run(), 'UNAVAILABLE');
    assert.equal(world.commits, []);
  });

  test('a commit that somebody missed is finished by whoever leads then', async () => {
    const world = new World();
    world.commitFails.set(IDS[2]!, new TfsError('DEADLINE', 'planted'));
    assert.is(await world.run(), 'UNAVAILABLE');
    assert.not.ok(
      world.told.some((line) => line.startsWith('abandon')),
      'what may be committed is not given up',
    );
    const next = new World();
    next.report({ generation: 1, length: 900 }, [IDS[0]!, IDS[1]!]);
    next.compaction.pump();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(next.told, ['commit 3 b'], 'by the state of the replicas alone');
    assert.is(next.commits[0]!.epoch, 6, 'of the leader that began it');
  });

  test('looks for garbage by itself, and leaves alone for a while what may not go yet', async () => {
    const world = new World();
    world.purgeBytes = MIB / 4;
    const pump = async () => {
      world.compaction.pump();
      await new Promise((resolve) => setImmediate(resolve));
    };
    await pump();
    await pump();
    await pump();
    assert.equal(world.told, ['purge 1'], 'asked once');
    world.clock.advance(COMPACT_AGAIN_MS);
    world.purgeBytes = 2 * MIB;
    await pump();
    await pump();
    assert.is(world.commits.length, 3);
    const brief = new World({ undeleteWindowMs: 30_000 });
    brief.purgeBytes = MIB / 4;
    for (const expected of [1, 1, 2]) {
      brief.compaction.pump();
      await new Promise((resolve) => setImmediate(resolve));
      assert.is(brief.told.length, expected, 'and sooner where they are gone for good sooner');
      brief.clock.advance(15_000);
    }
    const clean = new World();
    clean.report({ deadBytes: MIB / 4 });
    clean.compaction.pump();
    assert.equal(clean.told, [], 'too little garbage');
  });

  const pumped = async (world: World): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      world.compaction.pump();
      await turns(8);
    }
  };

  test('where garbage comes through a queue, or is not wanted, it is not looked for; what is committed is finished', async () => {
    for (const why of ['queued', 'paused'] as const) {
      const world = new World();
      world[why] = true;
      await pumped(world);
      assert.equal(world.told, []);
      world.report({ generation: 1, length: 900 }, [IDS[0]!, IDS[1]!]);
      world.compaction.pump();
      await turns(8);
      assert.equal(world.told, ['commit 3 b']);
    }
  });

  test('an operator is obeyed while it is paused, and not again and again where it fails', async () => {
    const world = new World();
    world.paused = true;
    world.made.set(IDS[1]!, new TfsError('DISK_FULL', 'planted'));
    assert.is(await world.run(), 'UNAVAILABLE');
    world.clock.advance(COMPACT_AGAIN_MS);
    await pumped(world);
    assert.is(world.told.filter((line) => line.startsWith('purge')).length, 1);
    world.made.set(IDS[1]!, fact('a'));
    assert.is(await world.run(), `1 ${2 * MIB}`);
  });

  test('a job has it done for the usual share, once however often it comes, and comes again by itself', async () => {
    const world = new World();
    world.queued = true;
    world.purgeBytes = MIB / 2;
    assert.equal(await world.compaction.request(BLOCK, 'share'), { generation: 0, freedBytes: 0 });
    assert.ok(world.compaction.isLeftAlone(BLOCK));
    world.clock.advance(COMPACT_AGAIN_MS);
    assert.not(world.compaction.isLeftAlone(BLOCK));
    world.purgeBytes = MIB;
    world.made.set(IDS[1]!, new TfsError('DISK_FULL', 'planted'));
    await world.compaction.request(BLOCK, 'share').catch(() => undefined);
    assert.is(world.compaction.waiting, 0);
    assert.not(world.compaction.isLeftAlone(BLOCK));
    world.made.set(IDS[1]!, fact('a'));
    world.told.length = 0;
    const all = await Promise.all([1, 2, 3].map(() => world.compaction.request(BLOCK, 'share')));
    assert.equal(all, new Array(3).fill({ generation: 1, freedBytes: MIB }));
    assert.is(world.told.length, 7, 'purge, prepare and commit on three');
  });

  test('a block is left alone for as long as its sequencer knows that too little is due, within bounds', async () => {
    const HOUR_MS = 3600_000;
    for (const [notBeforeMs, leftAloneMs] of [
      [0, COMPACT_AGAIN_MS],
      [HOUR_MS, HOUR_MS],
      [99 * HOUR_MS, 6 * HOUR_MS],
    ] as const) {
      const world = new World();
      world.queued = true;
      world.purgeBytes = 0;
      world.notBeforeMs = notBeforeMs;
      await world.compaction.request(BLOCK, 'share');
      world.clock.advance(leftAloneMs - 1);
      assert.ok(world.compaction.isLeftAlone(BLOCK));
      world.clock.advance(1);
      assert.not(world.compaction.isLeftAlone(BLOCK));
    }
  });

  test('a block that fails time and again does not stand in the way of others', async () => {
    const world = new World();
    world.made.set(IDS[0]!, new TfsError('DISK_FULL', 'planted'));
    for (let i = 0; i < 40; i++) {
      world.compaction.pump();
      await new Promise((resolve) => setImmediate(resolve));
      world.clock.advance(2_000);
    }
    const tries = world.told.filter((line) => line.startsWith('purge')).length;
    assert.ok(tries > 2 && tries < 10, `${tries} tries`);
  });
});
