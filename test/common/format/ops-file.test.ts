import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32 } from '../../../common/crc.ts';
import {
  decodeOpsFileHeader,
  encodeOpBody,
  encodeOpsFileHeader,
  frameOp,
  frameSpan,
  OPS_HEADER_BYTES,
  type OpsFile,
  opsSeed,
  readOpsFile,
} from '../../../common/format/ops.ts';
import { buildOpsFile, EXAMPLE_SUPERBLOCK, exampleBlock, exampleOps } from '../../kit/example-block.ts';
import { flipBit, hostileBytes, unwrap } from '../../kit/formats.ts';
import { readGolden } from '../../kit/golden.ts';
import { describe } from '../../kit/suite.ts';

const ops = exampleOps(exampleBlock(2));
const file = buildOpsFile(ops);
const read = (bytes: Buffer): OpsFile => unwrap(readOpsFile(bytes));
/** Where each frame of the example starts, and where the last one ends. */
const starts = [OPS_HEADER_BYTES];
for (const op of ops) starts.push(starts.at(-1)! + frameSpan(encodeOpBody(op).length));

describe('ops file', (test) => {
  test('is written as it was in the first version', () => {
    assert.equal(file, readGolden('65537.0.ops'));
  });

  test('gives back its operations', () => {
    const result = read(file);
    assert.equal(result.ops, ops);
    assert.is(result.end, 'clean');
    assert.is(result.goodLength, file.length);
    assert.equal(result.beyond, []);
    assert.equal(read(file.subarray(0, OPS_HEADER_BYTES)).ops, []);
  });

  test('cut anywhere: torn there, and good up to there', () => {
    for (let length = OPS_HEADER_BYTES; length < file.length; length++) {
      const result = read(file.subarray(0, length));
      const whole = starts.filter((start) => start <= length).length - 1;
      assert.is(result.ops.length, whole, `cut at ${length}`);
      assert.is(result.goodLength, starts[whole]);
      assert.is(result.end, starts[whole] === length ? 'clean' : 'torn');
    }
    for (let length = 0; length < OPS_HEADER_BYTES; length++)
      assert.not.ok(readOpsFile(file.subarray(0, length)).ok);
  });

  test('zeros or garbage behind the end are a torn append', () => {
    for (const tail of [
      Buffer.alloc(8),
      Buffer.alloc(4096),
      Buffer.alloc(100, 0xff),
      file.subarray(64, 200),
    ]) {
      const result = read(Buffer.concat([file, tail]));
      assert.is(result.end, 'torn');
      assert.is(result.goodLength, file.length);
      assert.is(result.ops.length, ops.length);
    }
  });

  test('a bad frame before good ones is corruption, and the good ones are found', () => {
    for (let i = 0; i < ops.length - 1; i++) {
      const result = read(flipBit(file, starts[i]! * 8 + 90));
      assert.is(result.end, 'corrupt', `frame ${i}`);
      assert.equal(result.ops, ops.slice(0, i));
      assert.equal(result.beyond, ops.slice(i + 1));
      assert.is(result.goodLength, starts[i]);
      assert.equal(result.last, ops.at(-1), 'its end tells the newest one');
      for (const end of [file.subarray(0, file.length - 8), Buffer.concat([file, Buffer.alloc(8)])])
        assert.is(read(flipBit(end, starts[i]! * 8 + 90)).last, undefined, 'there may have been another');
    }
    assert.is(read(file).last, undefined);
    const last = read(flipBit(file, starts[ops.length - 1]! * 8 + 90));
    assert.is(last.end, 'torn');
  });

  test('operations written together: a good one behind a bad one of the same write proves nothing', () => {
    const grouped = buildOpsFile(ops, EXAMPLE_SUPERBLOCK, 0, [1, 3]);
    assert.equal(read(grouped).ops, ops);
    const torn = read(flipBit(grouped.subarray(0, starts[4]), starts[1]! * 8 + 90));
    assert.is(torn.end, 'torn');
    assert.equal(torn.ops, ops.slice(0, 1));
    assert.equal(torn.beyond, []);
    const corrupt = read(flipBit(grouped, starts[1]! * 8 + 90));
    assert.is(corrupt.end, 'corrupt', 'the next write began when this one was durable');
    assert.equal(corrupt.beyond, ops.slice(2));
  });

  test('one changed bit of a frame is found', () => {
    for (let bit = OPS_HEADER_BYTES * 8; bit < file.length * 8; bit++) {
      const result = read(flipBit(file, bit));
      const at = bit >>> 3;
      const frame = starts.findLastIndex((start) => start <= at);
      const padding = at >= starts[frame]! + 8 + encodeOpBody(ops[frame]!).length;
      assert.is(result.ops.length, padding ? ops.length : frame, `bit ${bit}`);
    }
  });

  test('a good operation of a kind that is not known is no torn end', () => {
    const header = { ...EXAMPLE_SUPERBLOCK, n: 0 };
    const body = encodeOpBody(ops[1]!);
    body[0] = 200;
    const result = read(Buffer.concat([file, frameOp(body, opsSeed(header), file.length)]));
    assert.is(result.end, 'corrupt');
    assert.is(result.goodLength, file.length);
    assert.match(result.why!, 'unknown operation type 200');
  });

  test('a frame of another log, block or offset never passes', () => {
    const frame = file.subarray(starts[1]!, starts[2]!);
    const moved = Buffer.concat([file.subarray(0, starts[3]!), frame]);
    assert.is(read(moved).ops.length, 3);
    assert.is(read(moved).end, 'torn');
    const s = EXAMPLE_SUPERBLOCK;
    for (const other of [
      buildOpsFile(ops, s, 1),
      buildOpsFile(ops, { ...s, block: s.block + 1 } as typeof s),
      buildOpsFile(ops, { ...s, salt: Buffer.alloc(16) }),
    ]) {
      const mixed = Buffer.concat([file.subarray(0, starts[2]!), other.subarray(starts[2]!)]);
      assert.is(read(mixed).ops.length, 2);
    }
  });

  test('a header is checked before anything is believed', () => {
    const header = { ...EXAMPLE_SUPERBLOCK, n: 3 };
    const encoded = encodeOpsFileHeader(header);
    const { clusterUuid, block, salt } = EXAMPLE_SUPERBLOCK;
    assert.equal(unwrap(decodeOpsFileHeader(encoded)), { clusterUuid, block, salt, n: 3 });
    for (let bit = 0; bit < encoded.length * 8; bit++)
      assert.not.ok(decodeOpsFileHeader(flipBit(encoded, bit)).ok);
    const future = Buffer.from(encoded);
    future.writeUInt16LE(2, 4);
    future.writeUInt32LE(crc32(future.subarray(0, 60)), 60);
    const decoded = decodeOpsFileHeader(future);
    assert.match(decoded.ok ? '' : decoded.why, 'format 2');
  });

  test('any bytes get an answer', () => {
    fc.assert(
      fc.property(hostileBytes(file), (b) => {
        const decoded = readOpsFile(b);
        assert.ok(decoded.ok ? decoded.value.goodLength <= b.length : decoded.why.length > 0);
      }),
      { numRuns: 500 },
    );
  });
});
