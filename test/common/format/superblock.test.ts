import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32 } from '../../../common/crc.ts';
import { decodeSuperblock, encodeSuperblock, type Superblock } from '../../../common/format/superblock.ts';
import { BLOCK_BYTES_MAX, SUPERBLOCK_BYTES } from '../../../common/limits.ts';
import { EXAMPLE_SUPERBLOCK } from '../../kit/example-block.ts';
import { flipBit, hostileBytes, unwrap } from '../../kit/formats.ts';
import { readGolden } from '../../kit/golden.ts';
import { describe } from '../../kit/suite.ts';

const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((b) => Buffer.from(b));
const u32 = fc.nat(0xffff_ffff);
const anySuperblock = fc
  .record({
    clusterUuid: bytes(16).map((b) => b.toString('hex')),
    block: u32,
    generation: u32,
    session: fc.integer({ min: 1, max: 0xffff_ffff }),
    blockBytes: fc.integer({ min: SUPERBLOCK_BYTES + 1, max: BLOCK_BYTES_MAX }),
    targetReplicas: fc.integer({ min: 1, max: 8 }),
    slotCount: u32,
    createdAtMs: fc.double({ noNaN: true, noDefaultInfinity: true }),
    salt: bytes(16),
    members: fc.array(fc.record({ id: fc.integer({ min: 1, max: 0xffff }), incarnation: u32 }), {
      minLength: 1,
      maxLength: 8,
    }),
  })
  .map((s) => ({ ...s, members: s.members.map((member) => ({ ...member })) }) as unknown as Superblock);

describe('superblock', (test) => {
  test('is written as it was in the first version', () => {
    assert.equal(
      encodeSuperblock(EXAMPLE_SUPERBLOCK),
      readGolden('65537.0.blk').subarray(0, SUPERBLOCK_BYTES),
    );
  });

  test('comes back as it was written', () => {
    fc.assert(
      fc.property(anySuperblock, (s) => assert.equal(unwrap(decodeSuperblock(encodeSuperblock(s))), s)),
    );
  });

  test('one changed bit anywhere is found', () => {
    const good = encodeSuperblock(EXAMPLE_SUPERBLOCK);
    fc.assert(
      fc.property(fc.nat(good.length * 8 - 1), (bit) => {
        assert.not.ok(decodeSuperblock(flipBit(good, bit)).ok);
      }),
    );
  });

  test('a version from the future and an implausible field are named', () => {
    const rewritten = (change: (b: Buffer) => void): Buffer => {
      const b = encodeSuperblock(EXAMPLE_SUPERBLOCK);
      change(b);
      b.writeUInt32LE(crc32(b.subarray(0, SUPERBLOCK_BYTES - 4)), SUPERBLOCK_BYTES - 4);
      return b;
    };
    const why = (b: Buffer): string => {
      const decoded = decodeSuperblock(b);
      return decoded.ok ? 'no complaint' : decoded.why;
    };
    assert.match(why(rewritten((b) => b.writeUInt16LE(2, 4))), 'block format 2');
    assert.match(why(rewritten((b) => b.writeUInt8(9, 7))), '9 members');
    assert.match(why(rewritten((b) => b.writeUInt8(0, 7))), '0 members');
    assert.match(why(rewritten((b) => b.writeUInt32LE(0, 32))), 'session 0');
    assert.match(why(rewritten((b) => b.writeUInt32LE(0xffff_ffff, 36))), 'block bytes');
    assert.match(why(Buffer.alloc(SUPERBLOCK_BYTES)), 'not a block file');
    assert.match(why(Buffer.alloc(10)), 'cut');
  });

  test('any bytes get an answer', () => {
    fc.assert(
      fc.property(hostileBytes(encodeSuperblock(EXAMPLE_SUPERBLOCK)), (b) => {
        const decoded = decodeSuperblock(b);
        assert.ok(decoded.ok || decoded.why.length > 0);
      }),
      { numRuns: 500 },
    );
  });
});
