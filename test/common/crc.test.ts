import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32, crc32Of, crcOfChunks, PayloadChecksum } from '../../common/crc.ts';
import { CHUNK_BYTES } from '../../common/limits.ts';
import { describe } from '../kit/suite.ts';

describe('crc', (test) => {
  test('is the CRC-32 that everybody knows', () => {
    assert.is(crc32(Buffer.from('123456789')), 0xcbf43926);
    assert.is(crc32(Buffer.alloc(0)), 0);
  });

  test('chains: the seed stands for the bytes before', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
        assert.is(crc32(b, crc32(a)), crc32(Buffer.concat([a, b])));
        assert.is(crc32Of([a, b]), crc32(Buffer.concat([a, b])));
      }),
    );
  });

  test('two seeds never give the same checksum of the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(0xffff_ffff), fc.nat(0xffff_ffff), (bytes, a, b) => {
        fc.pre(a !== b);
        assert.is.not(crc32(bytes, a), crc32(bytes, b));
      }),
    );
  });

  test('a payload of one chunk has no chunk table, a larger one an entry for each', () => {
    assert.is(crcOfChunks(Buffer.alloc(CHUNK_BYTES)).chunkCrcs.length, 0);
    const payload = Buffer.alloc(2 * CHUNK_BYTES + 1, 'x');
    const { dataCrc, chunkCrcs } = crcOfChunks(payload);
    assert.is(dataCrc, crc32(payload));
    assert.equal(
      [...chunkCrcs],
      [
        crc32(payload.subarray(0, CHUNK_BYTES)),
        crc32(payload.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES)),
        crc32(Buffer.from('x')),
      ],
    );
  });

  test('a payload in pieces has the same checksums, however it is cut', () => {
    const sizes = fc.constantFrom(0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES);
    fc.assert(
      fc.property(sizes, fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1 }), (size, cuts) => {
        const payload = Buffer.alloc(size, 'abc');
        const checksum = new PayloadChecksum();
        for (let at = 0, i = 0; at < size; i++) {
          const take = cuts[i % cuts.length]!;
          checksum.update(payload.subarray(at, at + take));
          at += take;
        }
        assert.is(checksum.size, size);
        assert.equal(checksum.finish(), crcOfChunks(payload));
      }),
      { numRuns: 50 },
    );
  });
});
