import { createHash } from 'node:crypto';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { blockSeed, encodeRecordHeader } from '../../../common/format/record.ts';
import { slotFlags, slotOffset } from '../../../common/format/slot-word.ts';
import { type ByteSource, sourceOfBuffer } from '../../../common/format/source.ts';
import { type BlockWalk, type WalkOptions, walkBlock } from '../../../common/format/walk.ts';
import type { Session, Slot } from '../../../common/ids.ts';
import { SUPERBLOCK_BYTES, WALK_BUFFER_BYTES } from '../../../common/limits.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { type BuiltBlock, buildBlock, EXAMPLE_SUPERBLOCK } from '../../kit/example-block.ts';
import { describe } from '../../kit/suite.ts';

const walk = (bytes: Buffer, options?: WalkOptions, superblock = EXAMPLE_SUPERBLOCK): Promise<BlockWalk> =>
  walkBlock(sourceOfBuffer(bytes), superblock, options);

const payloads = (sizes: readonly number[]): Buffer[] =>
  sizes.map((size, i) => Buffer.alloc(size, `payload ${i} `));

/** Damages the header or the payload of a record. */
function damage(bytes: Buffer, block: BuiltBlock, slot: number, what: 'header' | 'payload'): void {
  const record = block.records[slot]!;
  bytes[record.offset + (what === 'header' ? 30 : record.headerBytes.length)]! ^= 0x40;
}

const prefixDigest = (block: BuiltBlock, slots: number): Buffer => {
  const hash = createHash('sha256');
  for (const record of block.records.slice(0, slots)) hash.update(record.headerBytes);
  return hash.digest();
};

describe('walk', (test) => {
  test('an intact block: every record, the length, the digest', async () => {
    const block = buildBlock(payloads([10, 0, 70_000, 5]));
    const seen: number[] = [];
    const result = await walk(block.bytes, {
      onRecord: ({ header, offset, payload, payloadOk, headerBytes }) => {
        const built = block.records[header.slot]!;
        assert.equal(header, built.header);
        assert.equal(payload, built.payload);
        assert.equal(headerBytes, built.headerBytes);
        assert.is(offset, built.offset);
        assert.ok(payloadOk);
        seen.push(header.slot);
      },
    });
    assert.equal(seen, [0, 1, 2, 3]);
    assert.is(result.validLength, block.length);
    assert.is(result.provenLength, block.records[3]!.offset);
    assert.is(result.slots, 4);
    assert.equal(
      [...result.words].map(slotOffset),
      block.records.map((record) => record.offset),
    );
    assert.equal(result.holes, []);
    assert.equal(result.digest, block.digest);
  });

  test('an empty block, with and without room behind it', async () => {
    const block = buildBlock([]);
    for (const room of [0, 8, 4096, 3 * WALK_BUFFER_BYTES]) {
      const result = await walk(Buffer.concat([block.bytes, Buffer.alloc(room)]));
      assert.is(result.validLength, SUPERBLOCK_BYTES);
      assert.is(result.slots, 0);
      assert.equal(result.digest, createHash('sha256').digest());
    }
  });

  test('a record larger than the buffer is verified piece by piece', async () => {
    const block = buildBlock(payloads([100, 3 * WALK_BUFFER_BYTES + 17, 100]));
    const seen: boolean[] = [];
    const onRecord: WalkOptions['onRecord'] = ({ header, payloadOk }) => {
      assert.equal(header, block.records[header.slot]!.header);
      seen.push(payloadOk);
    };
    const good = await walk(block.bytes, { onRecord });
    assert.equal(seen, [true, true, true]);
    assert.equal(good.digest, block.digest);
    const bytes = Buffer.from(block.bytes);
    bytes[block.records[1]!.offset + 2 * WALK_BUFFER_BYTES]! ^= 1;
    const bad = await walk(bytes, { onRecord });
    assert.equal(seen.slice(3), [true, false, true]);
    assert.is(bad.holes.length, 1);
  });

  test('a torn last record is dropped and everything before it is kept', async () => {
    const block = buildBlock(payloads([100, 200, 300]));
    const last = block.records[2]!;
    for (const length of [last.offset + 8, last.offset + 80, last.offset + 120, block.length - 8]) {
      const result = await walk(block.bytes.subarray(0, length));
      assert.is(result.validLength, last.offset, `cut at ${length}`);
      assert.is(result.slots, 2);
      assert.equal(result.holes, []);
      assert.equal(result.digest, prefixDigest(block, 2));
    }
  });

  test('a batch torn in its middle is dropped from there on, though later records of it arrived', async () => {
    const block = buildBlock(payloads([100, 200, 300, 400, 500]), { batch: 3 });
    const bytes = Buffer.from(block.bytes.subarray(0, block.records[3]!.offset));
    damage(bytes, block, 1, 'payload');
    const result = await walk(bytes);
    assert.is(result.validLength, block.records[1]!.offset);
    assert.is(result.slots, 1);
    assert.is(result.tornRecords, 1);
    assert.equal(result.holes, []);
  });

  test('damage below a watermark is a hole, and what follows stays', async () => {
    const block = buildBlock(payloads([100, 200, 300, 400]));
    for (const what of ['header', 'payload'] as const) {
      const bytes = Buffer.from(block.bytes);
      damage(bytes, block, 1, what);
      const result = await walk(bytes);
      const [, second, third] = block.records;
      assert.equal(result.holes, [{ start: second!.offset, end: third!.offset, firstSlot: 1, slots: 1 }]);
      assert.is(result.validLength, block.length);
      assert.is(result.slots, 4);
      assert.equal([...result.words].map(slotFlags), [0, NameFlag.LOST, 0, 0]);
      assert.is(result.digest, undefined);
    }
  });

  test('the first record may be the hole, and a hole may span many records', async () => {
    const block = buildBlock(payloads(Array.from({ length: 20 }, (_, i) => 10 * i)));
    const bytes = Buffer.from(block.bytes);
    bytes.fill(0, SUPERBLOCK_BYTES, block.records[15]!.offset);
    const result = await walk(bytes);
    assert.equal(result.holes, [
      { start: SUPERBLOCK_BYTES, end: block.records[15]!.offset, firstSlot: 0, slots: 15 },
    ]);
    assert.is(result.slots, 20);
    assert.is(slotOffset(result.words[15]!), block.records[15]!.offset);
  });

  test('damage that only damaged records prove ends where it was acknowledged', async () => {
    const block = buildBlock(payloads([100, 200, 300]));
    const bytes = Buffer.from(block.bytes);
    damage(bytes, block, 1, 'payload');
    damage(bytes, block, 2, 'payload');
    const result = await walk(bytes);
    const [, second, third] = block.records;
    assert.equal(result.holes, [{ start: second!.offset, end: third!.offset, firstSlot: 1, slots: 1 }]);
    assert.is(result.validLength, third!.offset);
    assert.is(result.slots, 2);
    assert.equal([...result.words].map(slotFlags), [0, NameFlag.LOST]);
  });

  test('what a seal proves is never a torn tail', async () => {
    const block = buildBlock(payloads([100, 200, 300]));
    const proven = { length: block.length, slots: 3 };
    const bytes = Buffer.from(block.bytes);
    damage(bytes, block, 2, 'header');
    const last = block.records[2]!;
    const hole = { start: last.offset, end: block.length, firstSlot: 2, slots: 1 };
    for (const some of [
      bytes,
      block.bytes.subarray(0, last.offset),
      block.bytes.subarray(0, last.offset + 90),
    ]) {
      const result = await walk(some, { proven });
      assert.equal(result.holes, [hole]);
      assert.is(result.validLength, block.length);
      assert.is(result.slots, 3);
      assert.is(slotFlags(result.words[2]!), NameFlag.LOST);
    }
  });

  test('records beyond the sealed length are not looked at', async () => {
    const block = buildBlock(payloads([100, 200, 300]));
    const end = block.records[2]!.offset;
    const result = await walk(block.bytes, { end, proven: { length: end, slots: 2 } });
    assert.is(result.validLength, end);
    assert.is(result.slots, 2);
    assert.equal(result.digest, prefixDigest(block, 2));
  });

  test('the tail alone can be read again', async () => {
    const block = buildBlock(payloads([100, 200, 300, 400]));
    const from = { offset: block.records[2]!.offset, slot: 2 };
    const result = await walk(block.bytes, { from });
    assert.is(result.validLength, block.length);
    assert.is(result.slots, 4);
    assert.is(result.words.length, 2);
    assert.is(result.digest, undefined);
  });

  test('old records of another block in a recycled file are not mistaken for its own', async () => {
    const old = buildBlock(payloads(Array.from({ length: 50 }, () => 100)), {
      superblock: { ...EXAMPLE_SUPERBLOCK, salt: Buffer.alloc(16, 9), session: 77 as Session },
    });
    const block = buildBlock(payloads([100, 100]));
    const bytes = Buffer.from(old.bytes);
    block.bytes.copy(bytes);
    const result = await walk(bytes);
    assert.is(result.validLength, block.length);
    assert.equal(result.holes, []);
  });

  test('a stored picture that is itself a block file confuses nothing, even behind damage', async () => {
    const inner = buildBlock(payloads([100, 100, 100]));
    const block = buildBlock([Buffer.alloc(50), inner.bytes, Buffer.alloc(60, 1), Buffer.alloc(70, 2)]);
    const bytes = Buffer.from(block.bytes);
    damage(bytes, block, 1, 'header');
    const result = await walk(bytes);
    assert.is(result.slots, 4);
    assert.equal(
      result.holes.map((hole) => [hole.firstSlot, hole.slots]),
      [[1, 1]],
    );
  });

  test('a valid header that claims an impossible slot is damage', async () => {
    const block = buildBlock(payloads([100, 100, 100]));
    const bytes = Buffer.from(block.bytes);
    const { header, offset } = block.records[1]!;
    for (const slot of [0, 2, 1000]) {
      const forged = encodeRecordHeader(
        { ...header, slot: slot as Slot },
        blockSeed(EXAMPLE_SUPERBLOCK),
        offset,
      );
      forged.copy(bytes, offset);
      const result = await walk(bytes);
      assert.is(result.holes.length, 1, `slot ${slot}`);
    }
  });

  test('damage hides at least one record, so a header behind it that says none is damage too', async () => {
    const block = buildBlock(payloads([100, 100, 100, 100]));
    const bytes = Buffer.from(block.bytes);
    damage(bytes, block, 1, 'header');
    const { header, offset } = block.records[2]!;
    encodeRecordHeader({ ...header, slot: 1 as Slot }, blockSeed(EXAMPLE_SUPERBLOCK), offset).copy(
      bytes,
      offset,
    );
    const result = await walk(bytes);
    assert.equal(
      result.holes.map((hole) => [hole.firstSlot, hole.slots]),
      [[1, 2]],
    );
  });

  test('many buffers full of records, which end anywhere', async () => {
    const sizes = Array.from({ length: 150 }, (_, i) => 12_000 + ((i * 7919) % 9000));
    const block = buildBlock(payloads(sizes));
    assert.ok(block.length > 2 * WALK_BUFFER_BYTES);
    const seen: number[] = [];
    const result = await walk(block.bytes, {
      onRecord: ({ header, payload }) => {
        assert.equal(header, block.records[header.slot]!.header);
        assert.ok(payload!.equals(block.records[header.slot]!.payload));
        seen.push(header.slot);
      },
    });
    assert.is(seen.length, 150);
    assert.equal(result.digest, block.digest);
    const headers = await walk(block.bytes, { checkPayloads: false });
    assert.equal(headers, result);
  });

  test('a compacted block leaves slots out: they are purged, not lost', async () => {
    const superblock = { ...EXAMPLE_SUPERBLOCK, generation: 1, slotCount: 10 };
    const block = buildBlock(payloads([100, 200, 300]), { superblock, slots: [2, 3, 7] });
    const result = await walk(block.bytes, undefined, superblock);
    assert.is(result.slots, 10);
    const p = NameFlag.PURGED;
    assert.equal([...result.words].map(slotFlags), [p, p, 0, 0, p, p, p, 0, p, p]);
    assert.equal(result.digest, block.digest);
    assert.is(slotOffset(result.words[9]!), block.length);
  });

  test('a read error is an error, never a torn tail', async () => {
    const block = buildBlock(payloads([100, WALK_BUFFER_BYTES, 100]));
    const memory = sourceOfBuffer(block.bytes);
    const failing: ByteSource = {
      size: memory.size,
      read: (target, position) =>
        position > WALK_BUFFER_BYTES / 2 ? Promise.reject(new Error('EIO')) : memory.read(target, position),
    };
    let message = '';
    await walkBlock(failing, EXAMPLE_SUPERBLOCK).catch((error: Error) => {
      message = error.message;
    });
    assert.is(message, 'EIO');
  });

  test('a header that does not read any more when its payload is read counts as it was verified', async () => {
    // Of the second the header, and 16 bytes of the payload, are at the end of the first buffer.
    const block = buildBlock(payloads([4096 - 80 - 80 - 16, 1000, 100]));
    const { offset, headerBytes } = block.records[1]!;
    assert.is(offset + headerBytes.length + 16, SUPERBLOCK_BYTES + 4096);
    const memory = sourceOfBuffer(block.bytes);
    const failing: ByteSource = {
      size: memory.size,
      read: async (target, position) => {
        const got = await memory.read(target, position);
        // Zeros for a sector that a disk fails to read, see tolerant-source.ts.
        if (position === offset) target.fill(0, 0, 16).fill(0, 56, 76);
        return got;
      },
    };
    const seen: number[] = [];
    const { digest, holes } = await walkBlock(failing, EXAMPLE_SUPERBLOCK, {
      windowBytes: 4096,
      onRecord: (record) => {
        const built = block.records[record.header.slot]!;
        assert.equal(record.header, built.header);
        assert.equal(record.headerBytes, built.headerBytes);
        assert.ok(record.payloadOk);
        seen.push(record.header.slot);
      },
    });
    assert.equal([seen, holes], [[0, 1, 2], []]);
    assert.equal(digest, block.digest);
  });

  test('agrees with the rule, record by record, for any damage', async () => {
    const damages = fc.array(fc.constantFrom('none', 'none', 'none', 'header', 'payload'), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(damages, fc.integer({ min: 1, max: 4 }), fc.boolean(), async (kinds, batch, room) => {
        const block = buildBlock(payloads(kinds.map((_, i) => 1 + ((i * 37) % 150))), { batch });
        const bytes = Buffer.concat([block.bytes, Buffer.alloc(room ? 5000 : 0)]);
        kinds.forEach((kind, slot) => {
          if (kind !== 'none') damage(bytes, block, slot, kind as 'header' | 'payload');
        });
        const headersOk = block.records.filter((_, i) => kinds[i] !== 'header');
        const proven = Math.max(0, ...headersOk.map((record) => record.header.ackedLength));
        // Runs of damaged records; the first that no watermark reaches into ends the block.
        const runs: { start: number; end: number }[] = [];
        kinds.forEach((kind, i) => {
          if (kind === 'none') return;
          const last = runs.at(-1);
          if (last?.end === i) last.end = i + 1;
          else runs.push({ start: i, end: i + 1 });
        });
        const offsetOf = (slot: number): number => block.records[slot]?.offset ?? block.length;
        const torn = runs.find((run) => offsetOf(run.start) >= proven);
        const result = await walk(bytes);
        const slots = torn?.start ?? kinds.length;
        const trailing = runs.at(-1);
        if (torn === undefined && trailing?.end === kinds.length) {
          // Nothing valid ends the last hole: it reaches as far as was acknowledged.
          assert.is(result.validLength, proven);
        } else {
          assert.is(result.validLength, offsetOf(slots));
          assert.is(result.slots, slots);
          assert.equal(
            [...result.words].map((word) => slotFlags(word) === NameFlag.LOST),
            kinds.slice(0, slots).map((kind) => kind !== 'none'),
          );
        }
        const holes = runs.filter((run) => offsetOf(run.start) < proven);
        assert.equal(
          result.holes.map((hole) => hole.start),
          holes.map((run) => offsetOf(run.start)),
        );
        assert.ok(result.provenLength <= result.validLength);
        if (holes.length === 0) assert.equal(result.digest, prefixDigest(block, slots));
        else assert.is(result.digest, undefined);
      }),
      { numRuns: 400 },
    );
  });

  test('any bytes behind a superblock are walked to their end', async () => {
    const block = buildBlock(payloads([100, 200, 300]));
    const noise = fc.uint8Array({ maxLength: 600 }).map((b) => Buffer.from(b));
    await fc.assert(
      fc.asyncProperty(noise, fc.nat(block.length), async (garbage, at) => {
        const bytes = Buffer.concat([block.bytes, Buffer.alloc(100)]);
        garbage.copy(bytes, at);
        const result = await walk(bytes);
        assert.ok(result.validLength <= bytes.length);
        assert.is(result.words.length, result.slots);
      }),
      { numRuns: 300 },
    );
  });
});
