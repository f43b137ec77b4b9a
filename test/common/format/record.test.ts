import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32, crcOfChunks } from '../../../common/crc.ts';
import {
  blockSeed,
  checkChunks,
  checkPayload,
  chunkRange,
  type DecodedHeader,
  decodeRecordHeader,
  encodeRecordHeader,
  peekRecord,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordHeaderBytes,
  recordPadding,
  recordSpan,
} from '../../../common/format/record.ts';
import { SLOT_MAX } from '../../../common/ids.ts';
import { BLOCK_BYTES_MAX, CHUNK_BYTES } from '../../../common/limits.ts';
import { EXAMPLE_SUPERBLOCK, exampleBlock } from '../../kit/example-block.ts';
import { flipBit, hostileBytes } from '../../kit/formats.ts';
import { readGolden } from '../../kit/golden.ts';
import { describe } from '../../kit/suite.ts';

const seed = blockSeed(EXAMPLE_SUPERBLOCK);
const u32 = fc.nat(0xffff_ffff);
const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((b) => Buffer.from(b));
const anyOffset = fc.integer({ min: 512, max: BLOCK_BYTES_MAX / 8 - 1 }).map((n) => n * 8);
const anyHeader: fc.Arbitrary<RecordHeader> = fc
  .record({
    slot: fc.nat(SLOT_MAX),
    cookie: u32,
    size: fc.oneof(fc.nat(20_000), fc.nat(4 * CHUNK_BYTES), fc.constantFrom(CHUNK_BYTES, CHUNK_BYTES + 1)),
    dataCrc: u32,
    ackedLength: fc.nat(4096),
    flags: fc.constant(0),
    mediaType: fc.nat(0xffff),
    mtimeMs: fc.double({ noNaN: true }),
    opId: bytes(16),
    sha1: bytes(20),
    suffixHash: u32,
  })
  .chain((h) => {
    const chunks = h.size > CHUNK_BYTES ? Math.ceil(h.size / CHUNK_BYTES) : 0;
    return fc
      .array(u32, { minLength: chunks, maxLength: chunks })
      .map((crcs) => ({ ...h, chunkCrcs: Uint32Array.from(crcs) }) as unknown as RecordHeader);
  });

const why = (decoded: DecodedHeader): string => (decoded.ok ? 'no complaint' : decoded.why);

describe('record', (test) => {
  test('headers are written as they were in the first version', () => {
    const { records } = exampleBlock();
    const file = readGolden('65537.0.blk');
    for (const record of records.slice(0, 2)) {
      const end = record.offset + RECORD_HEADER_BYTES;
      assert.equal(record.headerBytes, file.subarray(record.offset, end));
      assert.equal(record.payload, file.subarray(end, end + record.header.size));
    }
    assert.equal(records[2]!.headerBytes, readGolden('large.record'));
  });

  test('a header comes back as it was written, wherever it lies in a buffer', () => {
    fc.assert(
      fc.property(anyHeader, anyOffset, fc.nat(64), (header, offset, at) => {
        const encoded = encodeRecordHeader(header, seed, offset);
        assert.is(encoded.length, recordHeaderBytes(header.size));
        const buffer = Buffer.concat([Buffer.alloc(at, 0xff), encoded, Buffer.alloc(3)]);
        const decoded = decodeRecordHeader(buffer, at, seed, offset);
        assert.equal(decoded, { ok: true, value: header });
        assert.is(peekRecord(buffer, at), header.size);
      }),
    );
  });

  test('a header is written into a buffer of the caller', () => {
    const { header, headerBytes, offset } = exampleBlock().records[2]!;
    const into = Buffer.alloc(200, 0xee);
    const written = encodeRecordHeader(header, seed, offset, into);
    assert.is(written.buffer, into.buffer);
    assert.equal(into.subarray(0, written.length), headerBytes);
    assert.ok(into.subarray(written.length).every((byte) => byte === 0xee));
  });

  test('spans are whole, aligned and add up', () => {
    assert.is(recordHeaderBytes(CHUNK_BYTES), 80);
    assert.is(recordHeaderBytes(CHUNK_BYTES + 1), 88);
    assert.is(recordHeaderBytes(2 * CHUNK_BYTES + 1), 96);
    assert.is(recordSpan(0), 80);
    assert.is(recordSpan(1), 88);
    fc.assert(
      fc.property(fc.nat(BLOCK_BYTES_MAX), (size) => {
        assert.is(recordSpan(size), recordHeaderBytes(size) + size + recordPadding(size));
        assert.is(recordSpan(size) % 8, 0);
        assert.ok(recordPadding(size) < 8);
      }),
    );
  });

  test('one changed bit of a header is found', () => {
    const { headerBytes, offset } = exampleBlock().records[2]!;
    for (let bit = 0; bit < headerBytes.length * 8; bit++)
      assert.not.ok(decodeRecordHeader(flipBit(headerBytes, bit), 0, seed, offset).ok, `bit ${bit}`);
  });

  test('a header of another place, block, generation, session or salt never passes', () => {
    const { headerBytes, offset } = exampleBlock().records[0]!;
    const s = EXAMPLE_SUPERBLOCK;
    assert.ok(decodeRecordHeader(headerBytes, 0, seed, offset).ok);
    fc.assert(
      fc.property(anyOffset, (other) => {
        if (other !== offset) assert.not.ok(decodeRecordHeader(headerBytes, 0, seed, other).ok);
      }),
    );
    const others = [
      { ...s, block: s.block + 1 },
      { ...s, generation: 1 },
      { ...s, session: s.session + 1 },
      { ...s, salt: flipBit(s.salt, 3) },
    ];
    for (const other of others)
      assert.match(why(decodeRecordHeader(headerBytes, 0, blockSeed(other as typeof s), offset)), 'checksum');
  });

  test('a watermark above its own record is not believed, though its checksum is right', () => {
    const { header, headerBytes, offset } = exampleBlock().records[0]!;
    const forged = Buffer.from(headerBytes);
    forged.writeUInt32LE(offset + 8, 24);
    const place = Buffer.alloc(4);
    place.writeUInt32LE(offset, 0);
    forged.writeUInt32LE(crc32(forged.subarray(8), crc32(place, seed)), 4);
    assert.match(why(decodeRecordHeader(forged, 0, seed, offset)), 'acked length');
    assert.throws(() => encodeRecordHeader({ ...header, ackedLength: offset + 8 }, seed, offset));
  });

  test('a cut header says how much is needed, a bad one does not', () => {
    const { headerBytes, offset } = exampleBlock().records[2]!;
    const short = (length: number): number => {
      const decoded = decodeRecordHeader(headerBytes.subarray(0, length), 0, seed, offset);
      return decoded.ok ? -1 : decoded.short;
    };
    assert.is(short(10), RECORD_HEADER_BYTES);
    assert.is(short(RECORD_HEADER_BYTES), 88);
    assert.is(short(88), -1);
    const bad = decodeRecordHeader(Buffer.alloc(100), 0, seed, offset);
    assert.is(bad.ok ? -1 : bad.short, 0);
  });

  test('any bytes get an answer', () => {
    const { headerBytes, offset } = exampleBlock().records[2]!;
    fc.assert(
      fc.property(hostileBytes(headerBytes), fc.nat(100), (b, at) => {
        const decoded = decodeRecordHeader(b, at, seed, offset);
        assert.ok(decoded.ok || decoded.why.length > 0);
        assert.ok(peekRecord(b, at) >= -1);
      }),
      { numRuns: 1000 },
    );
  });

  test('a payload is checked whole, and by chunks', () => {
    const payload = Buffer.alloc(3 * CHUNK_BYTES - 5, 'picture');
    const facts = { size: payload.length, ...crcOfChunks(payload) };
    assert.ok(checkPayload(facts, payload));
    assert.not.ok(checkPayload(facts, payload.subarray(1)));
    assert.not.ok(checkPayload({ ...facts, chunkCrcs: facts.chunkCrcs.map((crc) => crc ^ 1) }, payload));
    const damaged = flipBit(payload, 8 * (CHUNK_BYTES + 100));
    assert.not.ok(checkPayload(facts, damaged));
    assert.ok(checkChunks(facts, 0, damaged.subarray(0, CHUNK_BYTES)));
    assert.not.ok(checkChunks(facts, 1, damaged.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES)));
    assert.ok(checkChunks(facts, 2, damaged.subarray(2 * CHUNK_BYTES)));
    assert.not.ok(checkChunks(facts, 3, Buffer.from('x')), 'no such chunk');
    assert.not.ok(checkChunks(facts, 2, payload.subarray(2 * CHUNK_BYTES, -1)), 'half a chunk');
  });

  test('a range is verified by the whole chunks that it touches', () => {
    assert.equal(chunkRange(100, 10, 5), { first: 0, start: 0, end: 100 });
    const size = 3 * CHUNK_BYTES - 5;
    assert.equal(chunkRange(size, 0, 1), { first: 0, start: 0, end: CHUNK_BYTES });
    assert.equal(chunkRange(size, CHUNK_BYTES - 1, 2), { first: 0, start: 0, end: 2 * CHUNK_BYTES });
    assert.equal(chunkRange(size, size - 1, 1), { first: 2, start: 2 * CHUNK_BYTES, end: size });
  });
});
