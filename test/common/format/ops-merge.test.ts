import * as fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  beginConfiguration,
  emptyOpsState,
  foldOp,
  type MemberLog,
  type MutationType,
  mergeLogs,
  nameFlagsOf,
  type Op,
  type OpContent,
  type OpsState,
  OpType,
  withoutFacts,
} from '../../../common/format/ops.ts';
import {
  type Cookie,
  epochOf,
  type FileId,
  type ServerId,
  type Slot,
  serverId,
} from '../../../common/ids.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';

const random = new SeededRandom(8);
const X = 3 as FileId;
const Y = 4 as FileId;
const MEMBERS = [1, 2, 3].map(serverId);
const at = (epoch: number, n: number) => ({ epoch: epochOf(epoch), n });
const next = (n: number, members: ServerId[] = MEMBERS) => ({
  version: at(7, n),
  members,
  opsPrimary: members[0]!,
  atMs: 5,
});

/** Ops that go on from a log. */
function grow(log: readonly Op[], version: Op['version'], ...contents: OpContent[]): Op[] {
  let seq = log.at(-1)?.seq ?? 0;
  return [
    ...log,
    ...contents.map(
      (content) => ({ ...content, version, seq: ++seq, atMs: 0, opId: random.bytes(16) }) as Op,
    ),
  ];
}

const cfg: OpContent = { type: OpType.CFG, members: MEMBERS, opsPrimary: MEMBERS[0]! };
const mutation = (type: MutationType, fileId: FileId): OpContent => ({ type, fileId });
const alias = (aliasId: number, target: number): OpContent => ({
  type: OpType.ALIAS,
  aliasId: aliasId as FileId,
  cookie: 9 as Cookie,
  target: target as Slot,
});
const START = grow([], at(1, 1), cfg);

/** Logs of servers 1, 2, … */
const held = (...logs: readonly (readonly Op[])[]): MemberLog[] =>
  logs.map((ops, i) => ({ server: serverId(i + 1), ops }));

function folded(log: readonly Op[]): OpsState {
  const state = emptyOpsState();
  for (const op of log) foldOp(state, op);
  return state;
}

const flags = (state: OpsState, fileId: FileId) => nameFlagsOf(state, fileId) ?? -1;

describe('merging of operations', (test) => {
  test('logs that end alike and have another operation in one place are put together', () => {
    const first = grow(START, at(1, 1), mutation(OpType.DELETE, X));
    const second = grow(START, at(1, 1), mutation(OpType.DELETE, Y));
    const begin = beginConfiguration(held(first, second, first), next(2));
    assert.is(begin.type, OpType.SNAPSHOT);
    for (const log of [first, second]) {
      const state = emptyOpsState();
      for (const op of [...log, begin]) foldOp(state, op);
      assert.equal([nameFlagsOf(state, X), nameFlagsOf(state, Y)], [NameFlag.DELETED, NameFlag.DELETED]);
    }
    assert.is(beginConfiguration(held(first, first), next(2)).type, OpType.CFG);
  });

  test('equal logs go on with a bare configuration', () => {
    const log = grow(START, at(1, 1), mutation(OpType.DELETE, X));
    const begin = beginConfiguration(held(log, [...log], log), next(2));
    assert.is(begin.type, OpType.CFG);
    assert.is(begin.seq, log.length + 1);
    assert.equal(begin.version, at(7, 2));
  });

  test('a log that is the beginning of another adds nothing, and undoes nothing', () => {
    const short = grow(START, at(1, 1), mutation(OpType.DELETE, X), alias(0x8000_0001, 3));
    const long = grow(short, at(1, 1), mutation(OpType.UNDELETE, X), mutation(OpType.HIDE, Y));
    for (const logs of [
      [short, long],
      [long, short],
      [short, long, START],
    ]) {
      const begin = beginConfiguration(held(...logs), next(1));
      assert.is(begin.type, OpType.SNAPSHOT);
      for (const log of logs) {
        const state = folded([...log, begin]);
        assert.is(flags(state, X), 0, 'a later undelete wins over the tombstone');
        assert.is(flags(state, Y), NameFlag.HIDDEN);
        assert.is(state.aliases?.count, 1);
        assert.equal(state.cfg, { members: MEMBERS, opsPrimary: MEMBERS[0] });
        assert.equal({ version: state.version, seq: state.seq }, { version: at(7, 1), seq: long.length + 1 });
      }
    }
  });

  test('what a sequencer that was left out kept to itself never happened', () => {
    const common = grow(START, at(1, 1), mutation(OpType.DELETE, Y));
    const leftOut = grow(
      common,
      at(1, 1),
      mutation(OpType.DELETE, X),
      mutation(OpType.HIDE, Y),
      alias(0x8000_0001, 3),
    );
    const others = grow(common, at(2, 1), cfg, mutation(OpType.UNDELETE, Y), alias(0x8000_0002, 4));
    for (const logs of [
      [leftOut, others],
      [others, leftOut],
      [leftOut, others, common],
    ]) {
      const state = folded([...logs[0]!, beginConfiguration(held(...logs), next(1))]);
      assert.is(flags(state, X), 0);
      assert.is(flags(state, Y), 0);
      assert.is(state.aliases?.count, 1);
      // Asked for again, it is to be done, not taken for done.
      const asked = leftOut.at(-1)!;
      assert.not(state.recentOps?.has(asked.opId.toString('hex')));
    }
  });

  test('an undelete that only a sequencer that was left out has does not come before the delete it followed', () => {
    // Both heard of the delete; the undelete came when the others had gone on.
    const remove = { opId: random.bytes(16) };
    const deleted = (log: Op[], version: Op['version']) => [
      ...log,
      { ...grow(log, version, mutation(OpType.DELETE, X)).at(-1)!, ...remove },
    ];
    const others = deleted(
      grow(START, at(1, 2), { ...cfg, members: MEMBERS.slice(1) } as OpContent),
      at(1, 2),
    );
    const leftOut = grow(deleted([...START], at(1, 1)), at(1, 1), mutation(OpType.UNDELETE, X));
    const undelete = leftOut.at(-1)!;
    const state = mergeLogs(held(leftOut, others, others));
    assert.is(flags(state, X), NameFlag.DELETED);
    assert.ok(state.recentOps?.has(remove.opId.toString('hex')));
    assert.not(state.recentOps?.has(undelete.opId.toString('hex')), 'it is still to be done');
  });

  test('what may have been acknowledged counts, in order: by all members of its version, or of a later one that began with it', () => {
    // Server 2 was told by nobody; the next version, of 1 and 3, began with the operation.
    const pair = { ...cfg, members: [MEMBERS[0]!, MEMBERS[2]!] } as OpContent;
    const begun = grow(grow(START, at(1, 1), mutation(OpType.HIDE, X)), at(1, 2), pair);
    const went = grow(
      START,
      at(3, 1),
      { ...cfg, members: [MEMBERS[1]!] } as OpContent,
      mutation(OpType.HIDE, Y),
    );
    const [hide] = begun.slice(START.length);
    for (const logs of [held(begun, went), held(begun, went, begun)]) {
      const state = mergeLogs(logs);
      assert.is(flags(state, X), NameFlag.HIDDEN);
      assert.is(flags(state, Y), NameFlag.HIDDEN);
      assert.not(state.recentOps?.has(hide!.opId.toString('hex')), 'the newest log does not know of it');
    }
    assert.is(flags(mergeLogs(held(begun, went, START)), X), 0, 'server 3 shows that it was not');
  });

  test('a request that reached two sequencers is what the later one made of it', () => {
    const [put, remove] = [{ opId: random.bytes(16) }, { opId: random.bytes(16) }];
    const told = 0x8000_0002 as FileId;
    const repeated = (log: Op[], op: OpContent, { opId }: { opId: Buffer }, version: Op['version']) => [
      ...log,
      { ...grow(log, version, op).at(-1)!, opId },
    ];
    let leftOut = repeated([...START], alias(0x8000_0001, 3), put, at(1, 1));
    leftOut = repeated(leftOut, mutation(OpType.DELETE, X), remove, at(1, 1));
    let others = repeated(grow(START, at(2, 1), cfg), alias(told, 3), put, at(2, 1));
    others = grow(others, at(2, 1), mutation(OpType.UNDELETE, X));
    others = repeated(others, mutation(OpType.DELETE, X), remove, at(2, 1));
    const state = mergeLogs(held(leftOut, others));
    assert.is(flags(state, told), 0, 'the name that the client was told is there');
    assert.is(flags(state, X), NameFlag.DELETED, 'the acknowledged delete came after the undelete');
    assert.equal(state.recentOps?.get(put.opId.toString('hex')), { type: OpType.ALIAS, fileId: told });
  });

  test('what two sequencers did under one version is in no order: a tombstone of either stays', () => {
    const common = grow(START, at(2, 1), cfg);
    const one = grow(common, at(2, 1), mutation(OpType.DELETE, X), mutation(OpType.HIDE, Y));
    const other = grow(
      common,
      at(2, 1),
      mutation(OpType.HIDE, Y),
      mutation(OpType.REVEAL, Y),
      mutation(OpType.UNDELETE, X),
    );
    for (const logs of [
      [one, other],
      [other, one],
    ]) {
      const state = mergeLogs(held(...logs));
      assert.is(flags(state, X), NameFlag.DELETED);
      assert.is(flags(state, Y), NameFlag.HIDDEN);
    }
    // A version that began later knew of both.
    const later = grow(other, at(2, 2), cfg, mutation(OpType.UNDELETE, X));
    assert.is(flags(mergeLogs(held(one, later)), X), 0);
  });

  test('a name that both deleted may be undeleted for as long as the later of them allows', () => {
    const common = grow(START, at(2, 1), cfg);
    const deletedAt = (log: readonly Op[], atMs: number): Op[] => [
      ...log,
      { ...grow(log, at(2, 1), mutation(OpType.DELETE, X)).at(-1)!, atMs },
    ];
    const [early, late] = [deletedAt(common, 5_000), deletedAt(common, 9_000)];
    for (const logs of [
      [early, late],
      [late, early],
    ]) {
      const state = mergeLogs(held(...logs));
      assert.is(flags(state, X), NameFlag.DELETED);
      assert.is(state.deletions?.secondsOf(X), 9);
    }
  });

  test('a purge that was acknowledged holds; one that a member kept to itself undoes nothing', () => {
    const purge = (slot: number): OpContent => ({ type: OpType.PURGE_INTENT, slots: [slot as Slot] });
    const second = 0x8000_0001 as FileId;
    const common = grow(START, at(1, 1), mutation(OpType.DELETE, X), mutation(OpType.DELETE, Y), purge(4), {
      ...mutation(OpType.DELETE, 5 as FileId),
    });
    const leftOut = grow(common, at(1, 1), purge(3), purge(5));
    const folding: Op = { ...leftOut.at(-1)!, type: OpType.SNAPSHOT, state: folded(leftOut), atMs: 8_000 };
    const others = grow(common, at(1, 2), cfg, mutation(OpType.UNDELETE, X), alias(second, 3));
    for (const logs of [
      [leftOut, others],
      [others, leftOut],
      [[folding], others],
      [others, [folding], others],
    ]) {
      const state = folded([...logs[0]!, beginConfiguration(held(...logs), next(1))]);
      assert.is(flags(state, X), 0, 'the undelete was acknowledged, the purge before it never');
      assert.is(flags(state, second), 0, 'and so was a second name');
      assert.is(flags(state, Y), NameFlag.DELETED | NameFlag.PURGED);
      assert.is(flags(state, 5 as FileId), NameFlag.DELETED);
      assert.ok((state.deletions?.secondsOf(5 as FileId) ?? 0) > 0, 'it may be purged once more');
    }
    // A member that is merely behind takes nothing back.
    assert.is(flags(mergeLogs(held(START, leftOut)), X), NameFlag.DELETED | NameFlag.PURGED);
    assert.is(
      flags(mergeLogs(held(common, grow(leftOut, at(1, 2), cfg))), X),
      NameFlag.DELETED | NameFlag.PURGED,
    );
  });

  test('a log that was folded stands for what it was folded from', () => {
    const before = grow(START, at(1, 1), mutation(OpType.DELETE, X), alias(0x8000_0001, 3));
    const after = grow(before, at(1, 1), mutation(OpType.UNDELETE, X));
    const last = after.at(-1)!;
    const snapshot: Op = { ...last, type: OpType.SNAPSHOT, state: folded(after) };
    const rewritten = grow([snapshot], at(1, 1), mutation(OpType.HIDE, Y));
    for (const logs of [
      [before, rewritten],
      [after, rewritten],
      [rewritten, before],
    ]) {
      const state = mergeLogs(held(...logs));
      assert.is(flags(state, X), 0);
      assert.is(flags(state, Y), NameFlag.HIDDEN);
      assert.is(state.aliases?.count, 1);
    }
  });

  test('what a snapshot in the middle of a log stands for is not taken for news', () => {
    const deleted = grow(START, at(1, 1), mutation(OpType.DELETE, X));
    // A version that one member alone began; the next one was made of all logs.
    const alone = grow(deleted, at(1, 2), cfg);
    const begin = beginConfiguration(held(deleted, alone), { ...next(3), version: at(1, 3) });
    const here = grow([...alone, begin], at(1, 3), mutation(OpType.HIDE, Y));
    const there = grow([...deleted, begin], at(1, 4), cfg, mutation(OpType.UNDELETE, X));
    for (const logs of [
      [here, there],
      [there, here],
    ])
      assert.is(flags(mergeLogs(held(...logs)), X), 0, 'nobody deleted it after the two parted');
  });

  test('a seal is a fact about one replica: no other gets it with the operations', () => {
    const log = grow(START, at(1, 1), mutation(OpType.DELETE, X));
    const state = folded(log);
    state.seal = { length: 4096, slots: 0, digest: Buffer.alloc(32), epoch: epochOf(1) };
    const snapshot: Op = { ...log.at(-1)!, type: OpType.SNAPSHOT, state };
    assert.is(mergeLogs(held([snapshot], START)).seal, undefined);
    const stripped = withoutFacts(snapshot);
    assert.is(stripped.type === OpType.SNAPSHOT && stripped.state.seal, undefined);
    assert.ok(state.seal, 'the own state keeps it');
    const own = folded(START);
    own.seal = state.seal;
    foldOp(own, beginConfiguration(held([snapshot], START), next(1)));
    assert.ok(own.seal, 'the operation that begins a configuration leaves it');
  });

  test('for any cut of one history, every member ends with the state of the longest log', () => {
    const content = fc.oneof(
      fc.record({
        type: fc.constantFrom<MutationType[]>(OpType.DELETE, OpType.UNDELETE, OpType.HIDE, OpType.REVEAL),
        fileId: fc.constantFrom(X, Y, 0x8000_0001 as FileId),
      }),
      fc.constant(alias(0x8000_0001, 3)),
    );
    fc.assert(
      fc.property(
        fc.array(content, { maxLength: 12 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 4 }),
        (contents, cuts) => {
          const whole = grow(START, at(1, 1), ...(contents as OpContent[]));
          const logs = [...cuts, 12].map((cut) => whole.slice(0, 1 + cut));
          const begin = beginConfiguration(held(...logs), next(1));
          const expected = folded(whole);
          for (const log of logs) {
            const state = folded([...log, begin]);
            for (const name of [X, Y, 0x8000_0001 as FileId])
              assert.is(nameFlagsOf(state, name), nameFlagsOf(expected, name));
          }
        },
      ),
    );
  });
});
