import * as assert from 'uvu/assert';
import { epochOf, type ServerId, serverId } from '../../common/ids.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { planConfiguration } from '../../nameserver/configuration-plan.ts';
import { planDrop } from '../../nameserver/drop-plan.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';

const B = entryOf().block;
const VERSION = (n: number) => ({ epoch: epochOf(1), n });

/** A sealed block on 1, 2, 3 whose sequencer is 1. */
class Scene {
  readonly map = new BlockMap();
  readonly down = new Set<number>();
  readonly dangerous = new Set<number>();
  readonly drained = new Set<number>();
  readonly readOnly = new Set<number>();
  domains: Record<number, string> = {};
  domainsInAll = 4;
  minWrite = 2;

  constructor(state: BlockState = BlockState.SEALED) {
    for (const server of servers(1, 2, 3)) this.map.report(server, entryOf({ state }));
  }

  plan(...failed: number[]) {
    return planConfiguration({
      facts: this.map.facts(B)!,
      failed: new Set(servers(...failed)),
      minWrite: this.minWrite,
      domainsInAll: this.domainsInAll,
      sight: (server: ServerId) => ({
        reachable: !this.down.has(server),
        domain: this.domains[server] ?? `d${server}`,
        drained: this.drained.has(server),
        writable: !this.readOnly.has(server),
        harmless: !this.dangerous.has(server),
      }),
    });
  }

  /** Members 2 and 3 have gone on without 1. */
  without1(): this {
    for (const server of servers(2, 3))
      this.map.report(server, entryOf({ state: BlockState.SEALED, n: 2, members: [2, 3], seq: 2 }));
    return this;
  }
}

describe('planning of a configuration', (test) => {
  test('who is to take the place of an only member may join it for a while, also in its domain', () => {
    const one = entryOf({ state: BlockState.SEALED, members: [1], targetReplicas: 1 });
    const map = new BlockMap();
    for (const server of servers(1, 2)) map.report(server, one);
    const plan = (wanted?: number) =>
      planConfiguration({
        facts: map.facts(B)!,
        failed: new Set(),
        minWrite: 1,
        ...(wanted === undefined ? {} : { wanted, membersMin: wanted }),
        sight: () => ({ reachable: true, domain: 'same', drained: false, writable: true, harmless: true }),
      });
    assert.equal(plan(), { kind: 'keep' });
    assert.equal(plan(2), { kind: 'configure', members: servers(1, 2), opsPrimary: 1 });
    assert.is(plan(3).kind, 'refuse');
  });

  test('as long as everyone answers it stays', () => {
    assert.equal(new Scene().plan(), { kind: 'keep' });
  });

  test('a member that cannot be reached is left out; the sequencer stays or another takes its place', () => {
    const scene = new Scene();
    scene.down.add(2);
    assert.equal(scene.plan(), { kind: 'configure', members: servers(1, 3), opsPrimary: 1 as ServerId });
    scene.down.clear();
    assert.equal(scene.plan(3), { kind: 'configure', members: servers(1, 2), opsPrimary: 1 as ServerId });
    scene.down.add(1);
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 3), opsPrimary: 2 as ServerId });
  });

  test('a sequencer that cannot tell its configuration is left out where another takes its place, not without', () => {
    const scene = new Scene();
    const nothing = { version: { epoch: epochOf(0), n: 0 }, seq: 0, members: [], opsPrimary: 0 as ServerId };
    const unreadable = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
    const bad = { ...entryOf({ state: BlockState.SEALED, flags: unreadable }), ...nothing };
    scene.map.report(1 as ServerId, bad);
    scene.down.add(3);
    assert.is(scene.plan().kind, 'refuse', 'two members are needed');
    scene.map.report(4 as ServerId, entryOf({ state: BlockState.SEALED }));
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 4), opsPrimary: 2 as ServerId });
  });

  test('one that has come back on a disk that takes no writes stays outside: nothing could begin with it', () => {
    const scene = new Scene().without1();
    scene.readOnly.add(1);
    assert.equal(scene.plan(), { kind: 'keep' });
    scene.readOnly.clear();
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 3, 1), opsPrimary: 2 as ServerId });
  });

  test('a member on such a disk goes when anything changes, where the others are enough', () => {
    const scene = new Scene().without1();
    scene.readOnly.add(2);
    scene.dangerous.add(2);
    assert.equal(scene.plan(), { kind: 'wait', doubt: servers(2) }, '1 takes its place');
    scene.dangerous.clear();
    assert.equal(scene.plan(), { kind: 'configure', members: servers(3, 1), opsPrimary: 3 as ServerId });
    scene.down.add(1);
    assert.is(scene.plan().kind, 'refuse', 'nothing can begin on it');
  });

  test('never with fewer than minWrite', () => {
    const scene = new Scene();
    scene.down.add(1);
    assert.is(scene.plan(2).kind, 'refuse');
    scene.minWrite = 1;
    assert.equal(scene.plan(2), { kind: 'configure', members: servers(3), opsPrimary: 3 as ServerId });
  });

  test('one that may still think itself current is not left out yet', () => {
    const scene = new Scene();
    scene.down.add(1);
    scene.dangerous.add(1);
    assert.equal(scene.plan(), { kind: 'wait', doubt: servers(1) });
  });

  test('a returned replica joins once it is sealed like the others, not before and never as the only witness', () => {
    const scene = new Scene().without1();
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 3, 1), opsPrimary: 2 as ServerId });
    scene.map.report(servers(1)[0]!, entryOf({ state: BlockState.RECOVERED }));
    assert.equal(scene.plan(), { kind: 'keep' });
    scene.map.report(servers(1)[0]!, entryOf({ state: BlockState.SEALED, flags: BlockFlag.SUSPECT }));
    assert.equal(scene.plan(), { kind: 'keep' }, 'a damaged one is repaired first');
    const lossy = new Scene().without1();
    for (const server of servers(2, 3))
      lossy.map.report(
        server,
        entryOf({ state: BlockState.SEALED, n: 2, members: [2, 3], seq: 2, flags: BlockFlag.SUSPECT }),
      );
    const suspect = { state: BlockState.SEALED, flags: BlockFlag.SUSPECT };
    lossy.map.report(serverId(1), entryOf(suspect));
    assert.is(lossy.plan().kind, 'configure', 'where none is good it is as good as any');
    lossy.map.report(serverId(1), entryOf({ ...suspect, flags: BlockFlag.SUSPECT | BlockFlag.QUARANTINED }));
    assert.is(lossy.plan().kind, 'keep', 'but for one that cannot be read');
    scene.map.report(servers(1)[0]!, entryOf({ state: BlockState.SEALED }));
    scene.down.add(2);
    scene.down.add(3);
    scene.minWrite = 1;
    assert.is(scene.plan().kind, 'refuse', 'what it holds may lack something acknowledged');
    scene.down.delete(3);
    assert.equal(scene.plan(), { kind: 'configure', members: servers(3, 1), opsPrimary: 3 as ServerId });
  });

  test('where every member of the newest has an older one it was never in force, and all go on (seed 2100)', () => {
    const sealed = { state: BlockState.SEALED };
    const lacking = () => {
      const scene = new Scene().without1();
      for (const server of servers(2, 3)) scene.map.report(server, entryOf(sealed));
      return scene;
    };
    const isRefused = (scene: Scene, why: string) => assert.is(scene.plan().kind, 'refuse', why);
    assert.equal(lacking().plan(), {
      kind: 'configure',
      members: servers(2, 3, 1),
      opsPrimary: 2 as ServerId,
    });
    const away = lacking();
    away.down.add(3);
    isRefused(away, 'what one that is away holds now nobody knows');
    const gone = lacking();
    gone.map.absent(B, 3 as ServerId);
    isRefused(gone, 'nor what was on one that has none any more');
    const unreadable = lacking();
    unreadable.map.report(3 as ServerId, entryOf({ state: BlockState.SEALED, flags: BlockFlag.QUARANTINED }));
    isRefused(unreadable, 'nor what is on one that cannot be read');
    const open = lacking();
    open.map.report(3 as ServerId, entryOf({ state: BlockState.RECOVERED }));
    isRefused(open, 'one that waits for its seal is sealed first');

    // As in the seed: the other copies were let go of, and the only one was the only member.
    const map = new BlockMap();
    const one = { state: BlockState.SEALED, members: [2], opsPrimary: 2, targetReplicas: 1 };
    map.report(2 as ServerId, entryOf({ ...one, n: 2, seq: 5 }));
    map.report(2 as ServerId, entryOf({ ...one, seq: 4 }));
    const plan = planConfiguration({
      facts: map.facts(B)!,
      failed: new Set(),
      minWrite: 1,
      sight: (server) => ({
        reachable: true,
        domain: `d${server}`,
        drained: false,
        writable: true,
        harmless: true,
      }),
    });
    assert.equal(plan, { kind: 'configure', members: servers(2), opsPrimary: 2 as ServerId });
  });

  test('one that has gone back is a member like others beside one that has not; alone it shows nothing', () => {
    const back = (state: BlockState, ...ids: number[]) => {
      const scene = new Scene(state);
      for (const server of servers(...ids)) scene.map.report(server, entryOf({ state, seq: 0 }));
      return scene;
    };
    for (const state of [BlockState.SEALED, BlockState.RECOVERED]) {
      const scene = back(state, 1, 2);
      assert.equal(scene.plan(), { kind: 'configure', members: servers(1, 2, 3), opsPrimary: 1 as ServerId });
      scene.down.add(3);
      assert.is(scene.plan().kind, 'refuse', 'the third may have what they have lost');
      scene.map.lose(serverId(3));
      assert.equal(
        scene.plan(),
        { kind: 'configure', members: servers(1, 2), opsPrimary: 1 as ServerId },
        'it is gone for good',
      );
      scene.down.add(2);
      scene.minWrite = 1;
      assert.is(scene.plan().kind, 'refuse', 'the other one may have lost less');
    }
    const all = back(BlockState.SEALED, 1, 2, 3);
    assert.equal(all.plan(), { kind: 'configure', members: servers(1, 2, 3), opsPrimary: 1 as ServerId });
    all.map.beginReport(serverId(2));
    assert.is(all.plan().kind, 'refuse', 'it has yet to say what it has now');

    // One holds an older configuration: what the other two have lost it never had.
    const mixed = new Scene().without1();
    mixed.map.report(
      serverId(2),
      entryOf({ state: BlockState.SEALED, n: 2, members: [2, 3], opsPrimary: 2, seq: 0 }),
    );
    mixed.map.report(serverId(3), entryOf({ state: BlockState.SEALED }));
    const ofMembers = mixed.map.facts(B)!.replicas.filter(({ member }) => member);
    assert.equal(
      ofMembers.map(({ server, goneBack, stale }) => [server, goneBack, stale]),
      [
        [2, true, true],
        [3, false, true],
      ],
    );
    assert.is(mixed.plan().kind, 'configure', 'all members are there: nobody has more');
    mixed.down.add(3);
    assert.is(mixed.plan().kind, 'refuse');

    // A member that never had the operation is there: nobody was told that it is done.
    const never = new Scene();
    never.map.report(serverId(1), entryOf({ state: BlockState.SEALED, seq: 2 }));
    never.map.report(serverId(1), entryOf({ state: BlockState.SEALED, seq: 1 }));
    never.down.add(3);
    assert.equal(never.plan(), { kind: 'configure', members: servers(1, 2), opsPrimary: 1 as ServerId });
  });

  test('one domain, one member; the wanted number and no more', () => {
    const scene = new Scene().without1();
    scene.domains = { 1: 'd2' };
    assert.equal(scene.plan(), { kind: 'keep' });
    scene.domains = {};
    const [four] = servers(4);
    scene.map.report(four!, entryOf({ state: BlockState.SEALED }));
    const plan = scene.plan();
    assert.is(plan.kind === 'configure' && plan.members.length, 3);
  });

  test('copies beside others in their domains: all of use while no more domains are there, gone as soon as they are', () => {
    // Servers 2 and 3 have taken the places of 1 and 4, which are back.
    const scene = new Scene().without1();
    scene.domains = { 1: 'd2', 4: 'd3' };
    scene.map.report(servers(4)[0]!, entryOf({ state: BlockState.SEALED }));
    assert.equal(scene.plan(), { kind: 'keep' }, 'of four domains, one may get the third copy');
    scene.domainsInAll = 2;
    const all = scene.plan();
    assert.equal(all, { kind: 'configure', members: servers(2, 3, 1, 4), opsPrimary: 2 as ServerId });
    scene.down.add(4);
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 3, 1), opsPrimary: 2 as ServerId });

    // A third domain gets a copy; those that share one go, one after the other.
    scene.down.clear();
    scene.domainsInAll = 3;
    scene.map.configured(B, {
      version: VERSION(3),
      members: servers(2, 3, 1, 4),
      opsPrimary: serverId(2),
      seq: 2,
    });
    scene.map.report(serverId(5), entryOf({ state: BlockState.SEALED, n: 2, members: [2, 3], seq: 2 }));
    const steps: string[] = [];
    for (let n = 4; n < 12; n++) {
      const drop = planDrop(
        { ...scene.map.facts(B)!, length: 50_000 },
        {
          isCurrent: () => true,
          canWrite: () => true,
          isDrained: () => false,
          usedPercent: () => 50,
          domainOf: (server) => scene.domains[server] ?? `d${server}`,
        },
      );
      const plan = scene.plan(...(drop.kind === 'leave-out' ? [drop.server] : []));
      if (drop.kind === 'drop') {
        steps.push(`drop ${drop.server}`);
        scene.map.absent(B, drop.server);
      } else if (plan.kind === 'configure') {
        const { members, opsPrimary } = plan;
        steps.push(members.join());
        scene.map.configured(B, { version: VERSION(n), members, opsPrimary, seq: 2 });
      }
    }
    assert.equal(steps, ['1,2,3,5', 'drop 4', '1,3,5', 'drop 2']);
  });

  test('of an unsealed block members may leave, and none may join', () => {
    const scene = new Scene(BlockState.FENCED);
    scene.down.add(1);
    assert.equal(scene.plan(), { kind: 'configure', members: servers(2, 3), opsPrimary: 2 as ServerId });
    scene.map.configured(B, {
      version: { epoch: epochOf(1), n: 2 },
      members: servers(2, 3),
      opsPrimary: 2 as ServerId,
      seq: 2,
    });
    scene.down.clear();
    assert.equal(scene.plan(), { kind: 'keep' });
  });
});
