import fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  compareOps,
  decodeOpBodies,
  decodeOpBody,
  emptyOpsState,
  encodeOpBodies,
  encodeOpBody,
  foldOp,
  type Op,
  OpType,
  opTypeName,
} from '../../../common/format/ops.ts';
import { ALIAS_BIT, SLOT_MAX } from '../../../common/ids.ts';
import { exampleOps } from '../../kit/example-block.ts';
import { hostileBytes, unwrap } from '../../kit/formats.ts';
import { describe } from '../../kit/suite.ts';

const u32 = fc.nat(0xffff_ffff);
const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((b) => Buffer.from(b));
const slot = fc.nat(SLOT_MAX);
const alias = fc.nat(0x7fff_ffff).map((n) => n + ALIAS_BIT);
const server = fc.integer({ min: 1, max: 0xffff });
const epoch = fc.nat(2 ** 48 - 1);
const content = fc.oneof(
  fc.record({
    type: fc.constant(OpType.CFG),
    members: fc.array(server, { maxLength: 8 }),
    opsPrimary: server,
  }),
  fc.record({
    type: fc.constantFrom(OpType.DELETE, OpType.UNDELETE, OpType.HIDE, OpType.REVEAL),
    fileId: fc.oneof(slot, alias),
  }),
  fc.record({ type: fc.constant(OpType.ALIAS), aliasId: alias, cookie: u32, target: slot }),
  fc.record({ type: fc.constant(OpType.PURGE_INTENT), slots: fc.array(slot) }),
  fc.record({ type: fc.constant(OpType.SEAL), length: u32, slots: u32, digest: bytes(32), epoch }),
  fc.record({
    type: fc.constant(OpType.GEN_COMMIT),
    generation: u32,
    length: u32,
    slots: u32,
    epoch,
    digest: bytes(32),
  }),
);
const anyOp = fc
  .tuple(content, fc.record({ epoch, n: fc.nat(0xffff) }), u32, fc.double({ noNaN: true }), bytes(16))
  .map(
    ([c, version, seq, atMs, opId]) => ({ ...c, version: { ...version }, seq, atMs, opId }) as unknown as Op,
  );

/** The state after the example operations: something for a SNAPSHOT to carry. */
function exampleSnapshot(): Op {
  const state = emptyOpsState();
  for (const op of exampleOps()) foldOp(state, op);
  return {
    type: OpType.SNAPSHOT,
    version: state.version,
    seq: state.seq,
    atMs: 1,
    opId: Buffer.alloc(16),
    state,
  };
}

describe('op', (test) => {
  test('every kind comes back as it was', () => {
    fc.assert(
      fc.property(anyOp, (op) => assert.equal(unwrap(decodeOpBody(encodeOpBody(op))), op)),
      {
        numRuns: 500,
      },
    );
    const snapshot = exampleSnapshot();
    assert.equal(encodeOpBody(unwrap(decodeOpBody(encodeOpBody(snapshot)))), encodeOpBody(snapshot));
  });

  test('a list for the wire comes back too', () => {
    fc.assert(
      fc.property(fc.array(anyOp), (ops) => assert.equal(unwrap(decodeOpBodies(encodeOpBodies(ops))), ops)),
    );
    const list = encodeOpBodies(exampleOps());
    assert.not.ok(decodeOpBodies(list.subarray(0, -1)).ok);
    assert.not.ok(decodeOpBodies(Buffer.concat([list, Buffer.from([9])])).ok);
  });

  test('bodies with a wrong length, type or flag are refused', () => {
    for (const op of [...exampleOps(), exampleSnapshot()]) {
      const body = encodeOpBody(op);
      const refused = (b: Buffer): void => assert.not.ok(decodeOpBody(b).ok, opTypeName(op.type));
      refused(body.subarray(0, -1));
      refused(Buffer.concat([body, Buffer.alloc(1)]));
      for (const at of [1, 2, 3]) {
        const flagged = Buffer.from(body);
        flagged[at] = 1;
        refused(flagged);
      }
      const unknown = Buffer.from(body);
      unknown[0] = 11;
      refused(unknown);
    }
  });

  test('the order is by version, then by seq', () => {
    const place = (epoch: number, n: number, seq: number) => ({ version: { epoch, n }, seq }) as never;
    const sorted = [place(1, 0, 9), place(1, 1, 1), place(1, 1, 2), place(2, 0, 1)];
    assert.equal([...sorted].reverse().sort(compareOps), sorted);
    assert.is(compareOps(sorted[0]!, sorted[0]!), 0);
  });

  test('any bytes get an answer', () => {
    for (const op of [...exampleOps(), exampleSnapshot()]) {
      fc.assert(
        fc.property(hostileBytes(encodeOpBody(op)), (b) => {
          const decoded = decodeOpBody(b);
          assert.ok(decoded.ok || decoded.why.length > 0);
          const list = decodeOpBodies(b);
          assert.ok(list.ok || list.why.length > 0);
        }),
        { numRuns: 200 },
      );
    }
  });
});
