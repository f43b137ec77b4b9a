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

  add(content: OpContent, opId = random.bytes(16)): ReturnType<typeof foldOp> {
    const op = { ...content, version: this.version, seq: this.ops.length + 1, atMs: 0, opId } as Op;
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
    const commit = (generation: number): OpContent => ({
      type: OpType.GEN_COMMIT,
      generation,
      length: 10 * generation,
      slots: 1,
      digest: Buffer.alloc(32),
    });
    w.add(commit(2));
    w.add(commit(1));
    assert.is(w.state.generation!.length, 20);
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
