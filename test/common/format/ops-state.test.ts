import * as assert from 'uvu/assert';
import {
  type AliasOp,
  cloneOpsState,
  decodeOpBody,
  emptyOpsState,
  encodeOpBody,
  foldOp,
  type MutationType,
  nameFlagsOf,
  type Op,
  type OpContent,
  type OpsState,
  OpType,
  purgeableSlots,
  sealInForce,
} from '../../../common/format/ops.ts';
import type { Cookie, Epoch, FileId, ServerId, Slot } from '../../../common/ids.ts';
import { ALIASES_PER_BLOCK_MAX, RECENT_OPS_MAX } from '../../../common/limits.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { unwrap } from '../../kit/formats.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';

const { DELETED, HIDDEN, PURGED } = NameFlag;
const random = new SeededRandom(5);
const SLOT = 3 as FileId;
const ALIAS = 0x8000_0007 as FileId;

/** A log being written: each operation gets the next seq and, unless it brings one, an op id of its own. */
class Writer {
  readonly state: OpsState = emptyOpsState();
  readonly ops: Op[] = [];
  version = { epoch: 1 as Epoch, n: 0 };

  atMs = 0;

  add(content: OpContent, opId = random.bytes(16)): ReturnType<typeof foldOp> {
    const { version, atMs } = this;
    const op = { ...content, version, seq: this.ops.length + 1, atMs, opId } as Op;
    this.ops.push(op);
    return foldOp(this.state, op);
  }

  mutate(type: MutationType, fileId: FileId = SLOT, opId?: Buffer): ReturnType<typeof foldOp> {
    return this.add({ type, fileId }, opId);
  }

  alias(target: number, aliasId: FileId = ALIAS): ReturnType<typeof foldOp> {
    return this.add({ type: OpType.ALIAS, aliasId, cookie: 99 as Cookie, target: target as Slot });
  }

  purge(...slots: number[]): ReturnType<typeof foldOp> {
    return this.add({ type: OpType.PURGE_INTENT, slots: slots as Slot[] });
  }

  flags(fileId: FileId = SLOT): number | undefined {
    return nameFlagsOf(this.state, fileId);
  }
}

describe('ops state', (test) => {
  test('a block without operations keeps next to nothing', () => {
    const a = emptyOpsState();
    assert.is(a.slotFlags, emptyOpsState().slotFlags);
    assert.is(a.aliases, undefined);
    assert.is(a.recentOps, undefined);
    foldOp(a, {
      type: OpType.CFG,
      version: { epoch: 1 as Epoch, n: 0 },
      seq: 1,
      atMs: 0,
      opId: random.bytes(16),
      members: [1 as ServerId],
      opsPrimary: 1 as ServerId,
    });
    assert.is(a.aliases, undefined);
    assert.is(a.recentOps, undefined);
    assert.is(nameFlagsOf(a, SLOT), 0);
    assert.is(nameFlagsOf(a, ALIAS), undefined);
  });

  test('deleted and hidden are independent, and each can be taken back', () => {
    const w = new Writer();
    w.mutate(OpType.DELETE);
    assert.is(w.flags(), DELETED);
    w.mutate(OpType.HIDE);
    assert.is(w.flags(), DELETED | HIDDEN);
    w.mutate(OpType.UNDELETE);
    assert.is(w.flags(), HIDDEN);
    w.mutate(OpType.DELETE);
    w.mutate(OpType.REVEAL);
    assert.is(w.flags(), DELETED);
    w.mutate(OpType.UNDELETE);
    assert.is(w.flags(), 0);
    assert.is(w.flags(4 as FileId), 0);
  });

  test('an alias has a state of its own', () => {
    const w = new Writer();
    w.alias(SLOT);
    assert.is(w.flags(ALIAS), 0);
    w.mutate(OpType.DELETE, SLOT);
    assert.is(w.flags(ALIAS), 0);
    w.mutate(OpType.HIDE, ALIAS);
    assert.is(w.flags(ALIAS), HIDDEN);
    assert.is(w.flags(SLOT), DELETED);
    w.mutate(OpType.REVEAL, ALIAS);
    w.mutate(OpType.DELETE, ALIAS);
    assert.is(w.flags(ALIAS), DELETED);
    const at = w.state.aliases!.find(ALIAS);
    assert.is(w.state.aliases!.cookieAt(at), 99);
    assert.is(w.state.aliases!.targetAt(at), SLOT);
  });

  test('what is purged cannot be undeleted or named again', () => {
    const w = new Writer();
    w.alias(SLOT);
    w.mutate(OpType.DELETE, SLOT);
    w.mutate(OpType.DELETE, ALIAS);
    w.purge(SLOT, 9);
    w.mutate(OpType.UNDELETE, SLOT);
    w.mutate(OpType.UNDELETE, ALIAS);
    assert.is(w.flags(SLOT), DELETED | PURGED);
    assert.is(w.flags(ALIAS), DELETED | PURGED);
    const other = 0x8000_0008 as FileId;
    w.alias(SLOT, other);
    assert.is(w.flags(other), undefined);
    assert.is(w.flags(9 as FileId), PURGED);
  });

  test('an operation on an alias that is not there changes nothing', () => {
    const w = new Writer();
    assert.is(w.mutate(OpType.DELETE, ALIAS), 'applied');
    assert.is(w.flags(ALIAS), undefined);
    w.alias(SLOT);
    assert.is(w.flags(ALIAS), 0);
  });

  test('an op id that is in the log already changes nothing but the seq', () => {
    const w = new Writer();
    const opId = random.bytes(16);
    assert.is(w.mutate(OpType.DELETE, SLOT, opId), 'applied');
    w.mutate(OpType.UNDELETE);
    assert.is(w.mutate(OpType.DELETE, SLOT, opId), 'duplicate');
    assert.is(w.flags(), 0);
    assert.is(w.state.seq, 3);
    assert.equal(w.state.recentOps!.get(opId.toString('hex')), { type: OpType.DELETE, fileId: SLOT });
  });

  test('operations without an op id are not mistaken for one another', () => {
    const w = new Writer();
    const none = Buffer.alloc(16);
    assert.is(w.mutate(OpType.DELETE, 1 as FileId, none), 'applied');
    assert.is(w.mutate(OpType.DELETE, 2 as FileId, none), 'applied');
    assert.is(w.flags(2 as FileId), DELETED);
  });

  test('what is not after the last operation is old', () => {
    const w = new Writer();
    w.version = { epoch: 5 as Epoch, n: 1 };
    w.mutate(OpType.DELETE);
    const late = (epoch: number, n: number, seq: number): string =>
      foldOp(w.state, {
        type: OpType.UNDELETE,
        version: { epoch: epoch as Epoch, n },
        seq,
        atMs: 0,
        opId: random.bytes(16),
        fileId: SLOT,
      });
    assert.is(late(5, 1, 1), 'old');
    assert.is(late(5, 0, 9), 'old');
    assert.is(late(4, 9, 9), 'old');
    assert.is(w.flags(), DELETED);
    assert.is(late(6, 0, 1), 'applied');
    assert.is(w.flags(), 0);
    assert.equal(w.state.version, { epoch: 6, n: 0 });
    assert.is(w.state.seq, 1);
  });

  test('the configuration is the last one, the seal that of the newest epoch', () => {
    const w = new Writer();
    const seal = (epoch: number, length: number): OpContent => ({
      type: OpType.SEAL,
      length,
      slots: 1,
      digest: Buffer.alloc(32, epoch),
      epoch: epoch as Epoch,
    });
    w.add({ type: OpType.CFG, members: [1, 2] as ServerId[], opsPrimary: 1 as ServerId });
    w.add({ type: OpType.CFG, members: [2] as ServerId[], opsPrimary: 2 as ServerId });
    assert.equal(w.state.cfg, { members: [2], opsPrimary: 2 });
    w.add(seal(7, 100));
    w.add(seal(6, 50));
    assert.is(w.state.seal!.length, 100);
    w.add(seal(8, 60));
    assert.is(w.state.seal!.length, 60);
    const commit = (generation: number, epoch: number): OpContent => ({
      type: OpType.GEN_COMMIT,
      generation,
      length: 10 * generation,
      slots: 1,
      epoch: epoch as Epoch,
      digest: Buffer.alloc(32, epoch),
    });
    assert.is(sealInForce(w.state)!.length, 60);
    w.add(commit(2, 9));
    w.add(commit(1, 10));
    assert.is(w.state.generation!.length, 20);
    assert.equal(sealInForce(w.state), {
      length: 20,
      slots: 1,
      epoch: 9,
      digest: Buffer.alloc(32, 9),
      complete: true,
    });
    w.add(commit(2, 8));
    assert.is(w.state.generation!.epoch, 9);
    w.add(commit(2, 11));
    assert.is(w.state.generation!.epoch, 11, 'two leaders made the same generation: the later one counts');
  });

  test('seals and generations take no place in the sequence and survive a snapshot from elsewhere', () => {
    const w = new Writer();
    w.mutate(OpType.DELETE);
    const fact = (epoch: number): Op => ({
      type: OpType.SEAL,
      version: { epoch: 0 as Epoch, n: 0 },
      seq: 0,
      atMs: 0,
      opId: Buffer.alloc(16),
      length: epoch,
      slots: 1,
      digest: Buffer.alloc(32),
      epoch: epoch as Epoch,
    });
    const snapshotOf = (state: OpsState): Op => unwrap(decodeOpBody(bytesOf(state)));
    assert.is(foldOp(w.state, fact(3)), 'applied');
    assert.is(foldOp(w.state, fact(2)), 'old');
    assert.is(w.state.seq, 1);
    const ahead = new Writer();
    ahead.mutate(OpType.DELETE);
    ahead.mutate(OpType.HIDE);
    assert.is(foldOp(w.state, snapshotOf(ahead.state)), 'applied');
    assert.is(w.state.seal?.length, 3);
    assert.is(w.flags(), DELETED | HIDDEN);
    ahead.mutate(OpType.REVEAL);
    foldOp(ahead.state, fact(4));
    foldOp(w.state, snapshotOf(ahead.state));
    assert.is(w.state.seal?.length, 4);
  });

  test('remembers a bounded number of op ids, the newest', () => {
    const w = new Writer();
    const first = random.bytes(16);
    w.mutate(OpType.HIDE, SLOT, first);
    for (let i = 0; i < RECENT_OPS_MAX; i++) w.mutate(OpType.HIDE);
    assert.is(w.state.recentOps!.size, RECENT_OPS_MAX);
    assert.not.ok(w.state.recentOps!.has(first.toString('hex')));
  });

  test('a snapshot stands for everything before it', () => {
    for (let round = 0; round < 30; round++) {
      const w = randomLog(400);
      const cut = 1 + random.below(w.ops.length - 1);
      const before = emptyOpsState();
      for (const op of w.ops.slice(0, cut)) foldOp(before, op);
      const { version, seq } = before;
      const body = encodeOpBody({
        type: OpType.SNAPSHOT,
        version,
        seq,
        atMs: 0,
        opId: Buffer.alloc(16),
        state: before,
      });
      const resumed = emptyOpsState();
      assert.is(foldOp(resumed, unwrap(decodeOpBody(body))), 'applied');
      assert.equal(bytesOf(resumed), bytesOf(before));
      for (const op of w.ops.slice(cut)) foldOp(resumed, op);
      assert.equal(bytesOf(resumed), bytesOf(w.state));
    }
  });

  test('a copy does not change with the original', () => {
    const w = randomLog(200);
    const copy = cloneOpsState(w.state);
    const before = bytesOf(copy);
    w.mutate(OpType.DELETE, 77 as FileId);
    w.alias(78, 0xffff_fff0 as FileId);
    assert.equal(bytesOf(copy), before);
    assert.not.equal(bytesOf(w.state), before);
  });

  test('aliases stay in order and below 13 bytes each, and stop at the limit', () => {
    const w = new Writer();
    const ids = new Set<number>();
    while (ids.size < 5000) ids.add((0x8000_0000 | random.u32()) >>> 0);
    for (const id of ids) w.alias(id % 1000, id as FileId);
    const table = w.state.aliases!;
    assert.is(table.count, 5000);
    for (let i = 1; i < table.count; i++) assert.ok(table.idAt(i - 1) < table.idAt(i));
    for (const id of ids) assert.is(table.targetAt(table.find(id as FileId)), id % 1000);
    assert.ok(table.bytes / table.count < 13, `${table.bytes / table.count} bytes an alias`);
    assert.not.ok(table.insert(table.idAt(0), 1 as Cookie, 1 as Slot), 'no second one of an id');
    for (let id = 0x9000_0000; table.count < ALIASES_PER_BLOCK_MAX; id++)
      table.insert(id as FileId, 0 as Cookie, 0 as Slot);
    assert.not.ok(table.insert(0xffff_ffff as FileId, 0 as Cookie, 0 as Slot), 'full');
  });
});

describe('the undelete window', (test) => {
  const WINDOW_MS = 10_000;
  const OTHER = 0x8000_0008 as FileId;
  const due = (w: Writer, nowMs: number) => purgeableSlots(w.state, nowMs, WINDOW_MS);

  /** Deletes names, each at its time. */
  function deleted(...names: [FileId, number][]): Writer {
    const w = new Writer();
    w.alias(SLOT, ALIAS);
    w.alias(SLOT, OTHER);
    for (const [fileId, atMs] of names) {
      w.atMs = atMs;
      w.mutate(OpType.DELETE, fileId);
    }
    return w;
  }

  test('a record may go when every name of it has been deleted for as long as the window', () => {
    const w = deleted([SLOT, 5_000], [ALIAS, 9_000]);
    assert.equal(due(w, 1e9), [], 'one name lives');
    w.atMs = 7_000;
    w.mutate(OpType.DELETE, OTHER);
    assert.equal(due(w, 18_999), []);
    assert.equal(due(w, 19_000), [SLOT]);
    w.mutate(OpType.DELETE, 8 as FileId);
    assert.equal(due(w, 19_000), [SLOT, 8]);
  });

  test('a fraction of a second is rounded in favour of the name', () => {
    const w = deleted([9 as FileId, 5_001]);
    assert.equal(due(w, 15_999), []);
    assert.equal(due(w, 16_000), [9]);
  });

  test('undeleting ends it, deleting once more begins it anew, the same again does not shorten it', () => {
    const w = deleted([9 as FileId, 5_000]);
    w.mutate(OpType.UNDELETE, 9 as FileId);
    assert.equal(due(w, 1e9), []);
    w.atMs = 30_000;
    w.mutate(OpType.DELETE, 9 as FileId);
    w.atMs = 20_000;
    w.mutate(OpType.DELETE, 9 as FileId);
    assert.equal(due(w, 39_999), []);
    assert.equal(due(w, 40_000), [9]);
  });

  test('a hidden name is not deleted, and what is purged is not due again', () => {
    const w = deleted([SLOT, 0], [ALIAS, 0], [OTHER, 0]);
    w.mutate(OpType.HIDE, 9 as FileId);
    assert.equal(due(w, 1e9), [SLOT]);
    w.purge(SLOT);
    assert.equal(due(w, 1e9), []);
    assert.equal([...w.state.deletions!.entries()], [], 'nothing is kept of what is gone');
    w.mutate(OpType.DELETE, ALIAS);
    assert.equal([...w.state.deletions!.entries()], []);
  });

  test('a clock that is no clock purges nothing', () => {
    assert.equal(due(deleted([9 as FileId, Number.NaN]), 1e12), []);
    assert.equal(due(deleted([9 as FileId, Number.POSITIVE_INFINITY]), 1e12), []);
    assert.equal(due(deleted([9 as FileId, -1e9]), 20_000), [9]);
  });

  test('a snapshot carries the times; one of before there were times says when it was made', () => {
    const w = deleted([SLOT, 5_000], [ALIAS, 9_000], [OTHER, 3_000], [70 as FileId, 4_000]);
    const { version, seq } = w.state;
    const body = encodeOpBody({
      ...{ type: OpType.SNAPSHOT, version, seq, atMs: 77_000, opId: Buffer.alloc(16) },
      state: w.state,
    });
    const stateIn = (b: Buffer): OpsState => {
      const state = emptyOpsState();
      foldOp(state, unwrap(decodeOpBody(b)));
      return state;
    };
    const times = (state: OpsState) => [...state.deletions!.entries()];
    assert.equal(times(stateIn(body)), [
      [SLOT, 5],
      [70, 4],
      [ALIAS, 9],
      [OTHER, 3],
    ]);
    // As it was written before: the list is not there, and the mark for it is 0.
    const before = Buffer.from(body.subarray(0, body.length - 4 - 4 * 8));
    before[43] = 0;
    assert.equal(times(stateIn(before)), [
      [SLOT, 77],
      [70, 77],
      [ALIAS, 77],
      [OTHER, 77],
    ]);
    const unknown = Buffer.from(body);
    unknown[43] = 2;
    assert.not.ok(decodeOpBody(unknown).ok);
    const ofLive = Buffer.from(body);
    ofLive.writeUInt32LE(71, ofLive.length - 8);
    assert.not.ok(decodeOpBody(ofLive).ok, 'a time of a name that is not deleted');
  });

  test('a block without deletions keeps nothing for it, in memory or on the disk', () => {
    const w = new Writer();
    w.alias(SLOT);
    w.mutate(OpType.HIDE);
    assert.is(w.state.deletions, undefined);
    assert.is(bytesOf(w.state)[43], 0);
  });
});

function randomLog(length: number): Writer {
  const w = new Writer();
  const aliases: AliasOp['aliasId'][] = [ALIAS];
  for (let i = 0; i < length; i++) {
    const fileId = random.below(3) === 0 ? random.pick(aliases) : (random.below(100) as FileId);
    const kind = random.below(12);
    if (kind < 8) {
      const types: MutationType[] = [OpType.DELETE, OpType.UNDELETE, OpType.HIDE, OpType.REVEAL];
      const again = random.below(5) === 0 ? w.ops[random.below(w.ops.length)]?.opId : undefined;
      w.mutate(random.pick(types), fileId, again);
    } else if (kind < 10) {
      const id = (0x8000_0000 + random.below(1 << 30)) as FileId;
      aliases.push(id);
      w.alias(random.below(100), id);
    } else if (kind === 10) w.purge(random.below(100));
    else {
      w.version = { epoch: w.version.epoch, n: w.version.n + 1 };
      w.add({ type: OpType.CFG, members: [1, 2] as ServerId[], opsPrimary: 1 as ServerId });
    }
  }
  return w;
}

function bytesOf(state: OpsState): Buffer {
  const { version, seq } = state;
  return encodeOpBody({ type: OpType.SNAPSHOT, version, seq, atMs: 0, opId: Buffer.alloc(16), state });
}
