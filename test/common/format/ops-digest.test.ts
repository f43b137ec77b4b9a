import * as assert from 'uvu/assert';
import { emptyOpsState, foldOp, type Op, type OpsState, OpType } from '../../../common/format/ops.ts';
import { opsDigest } from '../../../common/format/ops-digest.ts';
import type { ServerId } from '../../../common/ids.ts';
import { aliasOp, MEMBERS, mutation, VERSION } from '../../kit/block-world.ts';
import { describe } from '../../kit/suite.ts';

const CFG = {
  type: OpType.CFG,
  version: VERSION,
  seq: 1,
  atMs: 0,
  opId: Buffer.alloc(16),
  members: MEMBERS,
  opsPrimary: 1 as ServerId,
} as Op;

const ALIAS = 0x8000_0007;

function folded(...ops: Op[]): OpsState {
  const state = emptyOpsState();
  for (const op of [CFG, ...ops]) foldOp(state, op);
  return state;
}

const digest = (...ops: Op[]): string => opsDigest(folded(...ops)).toString('hex');

describe('the digest of operations', (test) => {
  test('is of what they add up to: any difference in it shows', () => {
    const seen = new Set([
      digest(),
      digest(mutation(OpType.DELETE, 3, { seq: 2 })),
      digest(mutation(OpType.HIDE, 3, { seq: 2 })),
      digest(mutation(OpType.DELETE, 4, { seq: 2 })),
      digest(aliasOp(ALIAS, 5, 3, { seq: 2 })),
      digest(aliasOp(ALIAS + 1, 5, 3, { seq: 2 })),
      digest(aliasOp(ALIAS, 6, 3, { seq: 2 })),
      digest(aliasOp(ALIAS, 5, 4, { seq: 2 })),
      digest(aliasOp(ALIAS, 5, 3, { seq: 2 }), mutation(OpType.DELETE, ALIAS, { seq: 3 })),
      digest(mutation(OpType.HIDE, 3, { seq: 2 }), mutation(OpType.REVEAL, 3, { seq: 3 })),
    ]);
    assert.is(seen.size, 10);
  });

  test('how memory grew, which request it was and a SEAL make no difference', () => {
    const plain = folded(mutation(OpType.DELETE, 3, { seq: 2 }));
    const grown = folded(mutation(OpType.DELETE, 3, { seq: 2, opId: Buffer.alloc(16, 9) }));
    const wider = new Uint8Array(5000);
    wider.set(grown.slotFlags);
    grown.slotFlags = wider;
    grown.seal = { length: 1, slots: 1, digest: Buffer.alloc(32), epoch: VERSION.epoch };
    assert.ok(opsDigest(plain).equals(opsDigest(grown)));
    const copied = folded();
    foldOp(copied, {
      type: OpType.SNAPSHOT,
      version: VERSION,
      seq: 2,
      atMs: 0,
      opId: Buffer.alloc(16),
      state: plain,
    });
    assert.ok(opsDigest(copied).equals(opsDigest(plain)), 'a log that was folded');
  });
});
