import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX } from '../../../common/limits.ts';
import { encodeFrame, FRAME_HEAD_BYTES, FrameKind, FrameParser } from '../../../common/wire/frame.ts';
import { describe } from '../../kit/suite.ts';

interface Frame {
  kind: number;
  op: number;
  callId: number;
  deadlineMs: number;
  header: Buffer;
  payload: Buffer;
}

/** Collects what a parser delivers. */
function collector(direction: 'requests' | 'replies') {
  const frames: Frame[] = [];
  const parser = new FrameParser(
    {
      onFrame: (kind, op, callId, deadlineMs, header, payload) =>
        void frames.push({ kind, op, callId, deadlineMs, header, payload }),
    },
    direction,
  );
  return { frames, parser };
}

const bytes = (f: Omit<Frame, 'payload'> & { payload: Buffer | Buffer[] }): Buffer => {
  const payload = Array.isArray(f.payload) ? f.payload : [f.payload];
  const pieces = encodeFrame(
    { kind: f.kind as FrameKind, op: f.op, callId: f.callId, deadlineMs: f.deadlineMs },
    f.header,
    payload,
  );
  assert.ok(pieces);
  return Buffer.concat(pieces);
};

const request = (callId: number, header: Buffer, payload: Buffer): Frame => ({
  kind: FrameKind.REQUEST,
  op: 2,
  callId,
  deadlineMs: 500,
  header,
  payload,
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const blob = (max: number) => fc.uint8Array({ maxLength: max }).map((a) => Buffer.from(a));
const frames = fc.array(
  fc.record(
    {
      kind: fc.constant(FrameKind.REQUEST),
      op: fc.integer({ min: 0, max: 255 }),
      callId: u32,
      deadlineMs: u32,
      header: blob(40),
      payload: blob(200),
    },
    { noNullPrototype: true },
  ),
  { minLength: 1, maxLength: 8 },
);

/** @returns `data` cut at the given places */
function cut(data: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((p) => p % (data.length + 1)))].sort((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const to of [...at, data.length]) {
    pieces.push(data.subarray(from, to));
    from = to;
  }
  return pieces;
}

describe('frame', (test) => {
  test('the layout on the wire does not change', () => {
    const frame = bytes({
      kind: FrameKind.REQUEST,
      op: 5,
      callId: 0x01020304,
      deadlineMs: 1000,
      header: Buffer.from('HEAD'),
      payload: [Buffer.from('pay'), Buffer.from('load')],
    });
    const golden = '1b000000 04030201 01 05 0000 e8030000 04000000 48454144 7061796c6f6164';
    assert.is(frame.toString('hex'), golden.replaceAll(' ', ''));
  });

  test('frames come out as they went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 30 }), (sent, places) => {
        const { frames: got, parser } = collector('requests');
        for (const piece of cut(Buffer.concat(sent.map(bytes)), places))
          assert.is(parser.push(piece), undefined);
        assert.equal(got, sent);
      }),
      { numRuns: 400 },
    );
  });

  test('a frame that arrives byte by byte comes out whole', () => {
    const { frames: got, parser } = collector('requests');
    const sent = [
      request(1, Buffer.from('h'), Buffer.from('payload')),
      request(2, Buffer.alloc(0), Buffer.alloc(0)),
    ];
    for (const byte of Buffer.concat(sent.map(bytes))) parser.push(Buffer.from([byte]));
    assert.equal(got, sent);
  });

  test('a contiguous frame is delivered as slices of what arrived, a straddling one as one buffer', () => {
    const { frames: got, parser } = collector('requests');
    const payload = Buffer.alloc(10_000, 9);
    const whole = Buffer.concat([
      bytes(request(1, Buffer.from('h'), payload)),
      bytes(request(2, Buffer.from('h'), payload)),
    ]);
    const first = Buffer.from(whole.subarray(0, 12_000));
    parser.push(first);
    parser.push(Buffer.from(whole.subarray(12_000)));
    assert.is(got[0]!.payload.buffer, first.buffer);
    assert.is.not(got[1]!.payload.buffer, first.buffer);
    assert.is(got[1]!.payload.buffer, got[1]!.header.buffer);
    assert.ok(got[1]!.payload.equals(payload));
  });

  test('the payload is written by reference', () => {
    const payload = [Buffer.alloc(10), Buffer.alloc(100_000)];
    const pieces = encodeFrame(
      { kind: FrameKind.REPLY, op: 1, callId: 1, deadlineMs: 0 },
      Buffer.alloc(52),
      payload,
    );
    assert.is(pieces?.length, 3);
    assert.is(pieces?.[1], payload[0]);
    assert.is(pieces?.[2], payload[1]);
  });

  test('a large header survives too', () => {
    const { frames: got, parser } = collector('requests');
    const sent = request(7, Buffer.alloc(70_000, 5), Buffer.from('x'));
    parser.push(bytes(sent));
    assert.equal(got, [sent]);
  });

  test('what is too large to be read is not written', () => {
    const facts = { kind: FrameKind.REQUEST, op: 1, callId: 1, deadlineMs: 1 };
    const big = Buffer.allocUnsafe(FRAME_BYTES_MAX);
    assert.ok(encodeFrame(facts, Buffer.alloc(0), [big]));
    assert.is(encodeFrame(facts, Buffer.alloc(1), [big]), undefined);
    assert.is(encodeFrame(facts, big.subarray(0, FRAME_HEADER_BYTES_MAX + 1), []), undefined);
  });

  const head = (change: (b: Buffer) => void): Buffer => {
    const b = bytes(request(1, Buffer.from('head'), Buffer.from('payload')));
    change(b);
    return b;
  };
  const malformed: [string, 'requests' | 'replies', Buffer][] = [
    ['shorter than its head', 'requests', head((b) => b.writeUInt32LE(15, 0))],
    ['exceeds', 'requests', head((b) => b.writeUInt32LE(FRAME_BYTES_MAX + 17, 0))],
    ['exceeds', 'requests', head((b) => b.writeUInt32LE(0xffff_ffff, 0))],
    ['does not fit', 'requests', head((b) => b.writeUInt32LE(12, 16))],
    ['does not fit', 'requests', head((b) => b.writeUInt32LE(0xffff_ffff, 16))],
    ['reserved', 'requests', head((b) => b.writeUInt8(1, 10))],
    ['reserved', 'requests', head((b) => b.writeUInt8(128, 11))],
    ['kind 0', 'requests', head((b) => b.writeUInt8(0, 8))],
    ['kind 2', 'requests', head((b) => b.writeUInt8(2, 8))],
    ['kind 4', 'requests', head((b) => b.writeUInt8(4, 8))],
    ['kind 1', 'replies', head(() => {})],
    ['deadline', 'replies', head((b) => b.writeUInt8(2, 8))],
    ['shorter', 'requests', Buffer.from('GET / HTTP/1.1\r\n\r\n\0\0').fill(0, 0, 4)],
  ];
  for (const [why, direction, data] of malformed)
    test(`malformed: ${why} (${direction}, ${data.toString('hex', 0, 20)})`, () => {
      const { frames: got, parser } = collector(direction);
      assert.match(parser.push(data) ?? '', why);
      // The stream is out of step: even a good frame is not believed any more.
      parser.push(bytes(request(2, Buffer.alloc(0), Buffer.alloc(0))));
      assert.equal(got, []);
    });

  test('the largest frame that is allowed is not malformed', () => {
    const { parser, frames: got } = collector('requests');
    assert.is(parser.push(head((b) => b.writeUInt32LE(FRAME_BYTES_MAX + 16, 0))), undefined);
    assert.equal(got, []);
  });

  test('random bytes and damaged frames never throw and never deliver more than they hold', () => {
    fc.assert(
      fc.property(
        frames,
        fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }), { maxLength: 6 }),
        fc.array(fc.nat(), { maxLength: 10 }),
        (sent, damage, places) => {
          const data = Buffer.concat(sent.map(bytes));
          for (const { at, value } of damage) data[at % data.length] = value;
          const { frames: got, parser } = collector('requests');
          for (const piece of cut(data, places)) parser.push(piece);
          const delivered = got.reduce(
            (n, f) => n + FRAME_HEAD_BYTES + f.header.length + f.payload.length,
            0,
          );
          assert.ok(delivered <= data.length);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('a halted parser delivers nothing more until it is resumed, then everything, in order', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 10 }), fc.nat(8), (sent, places, haltAfter) => {
        const got: Frame[] = [];
        const parser = new FrameParser(
          {
            onFrame: (kind, op, callId, deadlineMs, header, payload) => {
              got.push({ kind, op, callId, deadlineMs, header, payload });
              if (got.length === haltAfter) parser.halt();
            },
          },
          'requests',
        );
        for (const piece of cut(Buffer.concat(sent.map(bytes)), places)) parser.push(piece);
        if (haltAfter > 0 && haltAfter <= sent.length) {
          assert.is(got.length, haltAfter);
          assert.ok(parser.halted);
          parser.resume();
        }
        assert.equal(got, sent);
      }),
    );
  });

  test('damage behind a halt is found after the resume', () => {
    const got: number[] = [];
    const parser = new FrameParser(
      {
        onFrame: (_kind, _op, callId) => {
          got.push(callId);
          parser.halt();
        },
      },
      'requests',
    );
    const good = bytes(request(1, Buffer.alloc(0), Buffer.alloc(0)));
    assert.is(parser.push(Buffer.concat([good, Buffer.alloc(20)])), undefined);
    assert.match(parser.resume() ?? '', 'shorter');
    assert.equal(got, [1]);
  });
});
