import fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  DROP_ENTRY_BYTES,
  DROP_LOG_HEADER_BYTES,
  type DropEntry,
  DropReason,
  decodeDropLog,
  encodeDropEntry,
  encodeDropLogHeader,
  keptDrops,
} from '../../../common/format/drop-log.ts';
import { type BlockId, epochOf } from '../../../common/ids.ts';
import { buildDropLog, EXAMPLE_DROPS } from '../../kit/example-drops.ts';
import { flipBit, hostileBytes, unwrap } from '../../kit/formats.ts';
import { describe } from '../../kit/suite.ts';

const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true });
const entry: fc.Arbitrary<DropEntry> = record({
  block: fc.nat(0xffff_ffff).map((id) => id as BlockId),
  generation: fc.nat(0xffff_ffff),
  version: record({ epoch: fc.nat(0xffff_ffff).map((low) => epochOf(low * 65_536)), n: fc.nat(0xffff) }),
  reason: fc.constantFrom(...Object.values(DropReason)),
  atMs: fc.nat(2 ** 42),
});

describe('drop log', (test) => {
  test('gives back what was written', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        const bytes = buildDropLog(entries);
        const contents = unwrap(decodeDropLog(bytes));
        assert.equal(contents.entries, entries);
        assert.equal([contents.damaged, contents.goodLength], [0, bytes.length]);
      }),
    );
  });

  test('a torn end is cut; an entry that does not verify costs only itself', () => {
    const bytes = buildDropLog();
    for (let length = DROP_LOG_HEADER_BYTES; length < bytes.length; length++) {
      const { entries, goodLength, damaged } = unwrap(decodeDropLog(bytes.subarray(0, length)));
      const whole = Math.floor((length - DROP_LOG_HEADER_BYTES) / DROP_ENTRY_BYTES);
      assert.equal(entries, EXAMPLE_DROPS.slice(0, whole));
      assert.equal([goodLength, damaged], [DROP_LOG_HEADER_BYTES + whole * DROP_ENTRY_BYTES, 0]);
    }
    for (let bit = DROP_LOG_HEADER_BYTES * 8; bit < bytes.length * 8; bit++) {
      const { entries, damaged, goodLength } = unwrap(decodeDropLog(flipBit(bytes, bit)));
      const isFirst = bit < (DROP_LOG_HEADER_BYTES + DROP_ENTRY_BYTES) * 8;
      assert.equal(entries, [EXAMPLE_DROPS[isFirst ? 1 : 0]], `bit ${bit}`);
      assert.is(damaged, isFirst ? 1 : 0);
      assert.is(goodLength, isFirst ? bytes.length : bytes.length - DROP_ENTRY_BYTES);
    }
  });

  test('entries of another log do not verify in this one', () => {
    const header = encodeDropLogHeader('ff'.repeat(16));
    const foreign = Buffer.concat([header, buildDropLog().subarray(DROP_LOG_HEADER_BYTES)]);
    assert.equal(unwrap(decodeDropLog(foreign)).entries, []);
  });

  test('answers whatever the bytes are, and takes no header that was changed', () => {
    const bytes = buildDropLog();
    fc.assert(fc.property(hostileBytes(bytes), (noise) => void decodeDropLog(noise)));
    for (let bit = 0; bit < DROP_LOG_HEADER_BYTES * 8; bit++)
      assert.is(decodeDropLog(flipBit(bytes, bit)).ok, false, `bit ${bit}`);
  });

  test('an entry lies within one sector', () => {
    assert.is(512 % DROP_ENTRY_BYTES, 0);
    assert.is(DROP_LOG_HEADER_BYTES % DROP_ENTRY_BYTES, 0);
    const header = encodeDropLogHeader('00'.repeat(16));
    assert.is(encodeDropEntry(EXAMPLE_DROPS[0]!, header).length, DROP_ENTRY_BYTES);
  });
});

describe('what of a drop log is kept', (test) => {
  const at = (block: number, atMs: number, reason: DropReason = DropReason.EXCESS): DropEntry => ({
    ...EXAMPLE_DROPS[0]!,
    block: block as BlockId,
    atMs,
    reason,
  });
  const limits = { nowMs: 1000, keepMs: 500, entriesMax: 100 };
  const blocks = (entries: readonly DropEntry[], over = {}) =>
    keptDrops(entries, { ...limits, ...over }).map(({ block }) => block as number);

  test('the newest word about each block', () => {
    const kept = keptDrops([at(1, 900), at(2, 900), at(1, 950, DropReason.RETURNED)], limits);
    assert.equal(
      kept.map(({ block, reason }) => [block, reason]),
      [
        [2, DropReason.EXCESS],
        [1, DropReason.RETURNED],
      ],
    );
  });

  test('for a while, and so many; but always the highest id of each page', () => {
    assert.equal(blocks([at(7, 100), at(5, 499), at(6, 501)]), [7, 6]);
    assert.equal(blocks([at(9, 900), at(1, 901), at(2, 902), at(3, 903)], { entriesMax: 2 }), [9, 2, 3]);
    assert.equal(blocks([at(0x1_0009, 0), at(0x1_0008, 0), at(0x2_0001, 0)]), [0x1_0009, 0x2_0001]);
  });
});
