import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32 } from '../../../common/crc.ts';
import {
  decodeIdx,
  decodeIdxHeader,
  decodeIdxSha1s,
  decodeIdxSlots,
  encodeIdx,
  IDX_HEADER_BYTES,
  type IdxIdentity,
  idxLayout,
  SHA1_BYTES,
} from '../../../common/format/idx.ts';
import { buildIdx, EXAMPLE_SUPERBLOCK, exampleBlock } from '../../kit/example-block.ts';
import { flipBit, hostileBytes, unwrap } from '../../kit/formats.ts';
import { readGolden } from '../../kit/golden.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';

const identityOf = (slots: number): IdxIdentity => {
  const { clusterUuid, block, generation, session } = EXAMPLE_SUPERBLOCK;
  return { clusterUuid, block, generation, session, length: 4096 + 80 * slots, slots };
};

describe('idx', (test) => {
  test('is written as it was in the first version', () => {
    assert.equal(buildIdx(exampleBlock(2)), readGolden('65537.0.idx'));
  });

  test('comes back as it was written, whole or column by column', () => {
    const random = new SeededRandom(1);
    fc.assert(
      fc.property(fc.nat(50), (slots) => {
        const columns = {
          offsets: Uint32Array.from({ length: slots }, () => random.below(1 << 27)),
          flags: Uint8Array.from({ length: slots }, () => random.below(2)),
          sha1s: random.bytes(SHA1_BYTES * slots),
        };
        const encoded = encodeIdx(identityOf(slots), columns);
        const { header, columns: back } = unwrap(decodeIdx(encoded));
        assert.equal({ ...identityOf(slots) }, pick(header));
        assert.equal(back, columns);
        const layout = idxLayout(slots);
        assert.is(encoded.length, layout.bytes);
        // The file may lie anywhere in a pooled buffer.
        const shifted = Buffer.concat([Buffer.alloc(3), encoded]).subarray(3);
        const part = shifted.subarray(0, layout.flagsAt + slots);
        assert.equal(unwrap(decodeIdxSlots(part, unwrap(decodeIdxHeader(part)))), {
          offsets: columns.offsets,
          flags: columns.flags,
        });
        assert.equal(unwrap(decodeIdxSha1s(shifted.subarray(layout.sha1sAt), header)), columns.sha1s);
      }),
    );
  });

  test('columns start where they can be read as they lie', () => {
    for (let slots = 0; slots < 40; slots++) {
      const layout = idxLayout(slots);
      assert.is(layout.offsetsAt, IDX_HEADER_BYTES);
      for (const at of [layout.flagsAt, layout.sha1sAt, layout.bytes]) assert.is(at % 8, 0);
      assert.ok(layout.flagsAt >= layout.offsetsAt + 4 * slots && layout.sha1sAt >= layout.flagsAt + slots);
    }
  });

  test('one changed bit is found, unless it is in the padding', () => {
    const file = buildIdx(exampleBlock());
    const layout = idxLayout(3);
    const padding = (at: number): boolean =>
      (at >= layout.offsetsAt + 12 && at < layout.flagsAt) ||
      (at >= layout.flagsAt + 3 && at < layout.sha1sAt) ||
      at >= layout.sha1sAt + 60;
    for (let bit = 0; bit < file.length * 8; bit++)
      assert.is(decodeIdx(flipBit(file, bit)).ok, padding(bit >>> 3), `bit ${bit}`);
  });

  test('a cut file and a version from the future are named', () => {
    const file = buildIdx(exampleBlock());
    for (let length = 0; length < idxLayout(3).sha1sAt + 60; length++)
      assert.not.ok(decodeIdx(file.subarray(0, length)).ok, `cut at ${length}`);
    const future = Buffer.from(file);
    future.writeUInt16LE(2, 4);
    future.writeUInt32LE(crc32(future.subarray(0, 60)), 60);
    const decoded = decodeIdx(future);
    assert.match(decoded.ok ? '' : decoded.why, 'format 2');
  });

  test('any bytes get an answer', () => {
    fc.assert(
      fc.property(hostileBytes(buildIdx(exampleBlock())), (b) => {
        const decoded = decodeIdx(b);
        assert.ok(decoded.ok || decoded.why.length > 0);
      }),
      { numRuns: 500 },
    );
  });
});

function pick(header: IdxIdentity): IdxIdentity {
  const { clusterUuid, block, generation, session, length, slots } = header;
  return { clusterUuid, block, generation, session, length, slots };
}
