import { assert } from '../errors.ts';
import { FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX } from '../limits.ts';

/**
 * The unit of the wire, little-endian:
 *
 *   0 u32 body length (everything after this field) · 4 u32 call id · 8 u8 kind · 9 u8 op · 10 u16 0 ·
 *   12 u32 deadline, ms from arrival (requests; 0 otherwise) · 16 u32 header length · 20 header · payload
 *
 * The payload has no length of its own: it is the rest.
 */
export const FRAME_HEAD_BYTES = 20;
const AFTER_LENGTH_BYTES = FRAME_HEAD_BYTES - 4;

export const FrameKind = { REQUEST: 1, REPLY: 2, ERROR: 3 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** A header up to this size is copied behind the head, which costs less than one more piece to write. */
const INLINE_HEADER_BYTES_MAX = 1024;
const EMPTY = Buffer.alloc(0);

export interface FrameFacts {
  readonly kind: FrameKind;
  readonly op: number;
  readonly callId: number;
  readonly deadlineMs: number;
}

/** @returns the pieces to write, the payload by reference, or undefined when the frame would be too large */
export function encodeFrame(
  facts: FrameFacts,
  header: Buffer,
  payload: readonly Buffer[],
): Buffer[] | undefined {
  let payloadBytes = 0;
  for (let i = 0; i < payload.length; i++) payloadBytes += payload[i]!.length;
  const headerBytes = header.length;
  if (headerBytes > FRAME_HEADER_BYTES_MAX || headerBytes + payloadBytes > FRAME_BYTES_MAX) return undefined;
  const inline = headerBytes <= INLINE_HEADER_BYTES_MAX;
  const head = Buffer.allocUnsafe(inline ? FRAME_HEAD_BYTES + headerBytes : FRAME_HEAD_BYTES);
  head.writeUInt32LE(AFTER_LENGTH_BYTES + headerBytes + payloadBytes, 0);
  head.writeUInt32LE(facts.callId, 4);
  head[8] = facts.kind;
  head[9] = facts.op;
  head[10] = 0;
  head[11] = 0;
  head.writeUInt32LE(facts.deadlineMs, 12);
  head.writeUInt32LE(headerBytes, 16);
  if (inline) header.copy(head, FRAME_HEAD_BYTES);
  const pieces = inline ? [head] : [head, header];
  if (payloadBytes > 0) for (let i = 0; i < payload.length; i++) pieces.push(payload[i]!);
  return pieces;
}

/** Where a parser delivers. Buffers are slices of what arrived, and may be kept: nothing is written over them. */
export interface FrameSink {
  onFrame(
    kind: FrameKind,
    op: number,
    callId: number,
    deadlineMs: number,
    header: Buffer,
    payload: Buffer,
  ): void;
}

/**
 * Cuts a byte stream into frames. A frame that lies whole in one arriving buffer is delivered as slices of it; one
 * that straddles is copied once into an allocation of its known size.
 */
export class FrameParser {
  readonly #sink: FrameSink;
  readonly #requests: boolean;
  readonly #head = Buffer.allocUnsafe(FRAME_HEAD_BYTES);
  #headFill = 0;
  #body: Buffer | undefined;
  #bodyFill = 0;
  // The head of the frame whose body is being read.
  #kind: FrameKind = FrameKind.REQUEST;
  #op = 0;
  #callId = 0;
  #deadlineMs = 0;
  #headerBytes = 0;
  #bodyBytes = 0;
  #halted = false;
  #malformed: string | undefined;
  #held: Buffer[] = [];

  /** @param direction what arrives here: a server takes requests, a client replies; anything else is malformed */
  constructor(sink: FrameSink, direction: 'requests' | 'replies') {
    this.#sink = sink;
    this.#requests = direction === 'requests';
  }

  get halted(): boolean {
    return this.#halted;
  }

  /** Delivers no further frame until {@link resume}; may be called from `onFrame`. */
  halt(): void {
    this.#halted = true;
  }

  /** @returns why the stream is malformed, if it is */
  resume(): string | undefined {
    this.#halted = false;
    const held = this.#held;
    this.#held = [];
    for (let i = 0; i < held.length; i++) {
      const why = this.push(held[i]!);
      if (why !== undefined) return why;
    }
    return undefined;
  }

  /** @returns why the stream is malformed, if it is: nothing after that point is delivered, now or later */
  push(data: Buffer): string | undefined {
    if (this.#malformed !== undefined) return this.#malformed;
    const end = data.length;
    let at = 0;
    while (at < end) {
      if (this.#halted) {
        this.#held.push(at === 0 ? data : data.subarray(at));
        return undefined;
      }
      const body = this.#body;
      if (body !== undefined) {
        const take = Math.min(body.length - this.#bodyFill, end - at);
        data.copy(body, this.#bodyFill, at, at + take);
        at += take;
        this.#bodyFill += take;
        if (this.#bodyFill < body.length) return undefined;
        this.#body = undefined;
        this.#deliver(body, 0);
        continue;
      }
      let why: string | undefined;
      if (this.#headFill > 0 || end - at < FRAME_HEAD_BYTES) {
        const take = Math.min(FRAME_HEAD_BYTES - this.#headFill, end - at);
        data.copy(this.#head, this.#headFill, at, at + take);
        at += take;
        this.#headFill += take;
        if (this.#headFill < FRAME_HEAD_BYTES) return undefined;
        this.#headFill = 0;
        why = this.#readHead(this.#head, 0);
      } else {
        why = this.#readHead(data, at);
        at += FRAME_HEAD_BYTES;
      }
      if (why !== undefined) {
        this.#malformed = why;
        this.#held = [];
        return why;
      }
      if (end - at >= this.#bodyBytes) {
        const start = at;
        at += this.#bodyBytes;
        this.#deliver(data, start);
      } else {
        this.#body = Buffer.allocUnsafe(this.#bodyBytes);
        this.#bodyFill = 0;
      }
    }
    return undefined;
  }

  #readHead(b: Buffer, at: number): string | undefined {
    const length = b.readUInt32LE(at);
    const kind = b[at + 8]!;
    const deadlineMs = b.readUInt32LE(at + 12);
    const headerBytes = b.readUInt32LE(at + 16);
    const bodyBytes = length - AFTER_LENGTH_BYTES;
    if (bodyBytes < 0) return `a frame of ${length} bytes is shorter than its head`;
    if (bodyBytes > FRAME_BYTES_MAX) return `a frame of ${length} bytes exceeds ${FRAME_BYTES_MAX}`;
    if (headerBytes > bodyBytes || headerBytes > FRAME_HEADER_BYTES_MAX)
      return `a frame header of ${headerBytes} bytes does not fit a body of ${bodyBytes}`;
    if (b[at + 10] !== 0 || b[at + 11] !== 0) return 'reserved bits of a frame are set';
    if (this.#requests) {
      if (kind !== FrameKind.REQUEST) return `frame kind ${kind} instead of a request`;
    } else {
      if (kind !== FrameKind.REPLY && kind !== FrameKind.ERROR)
        return `frame kind ${kind} instead of a reply`;
      if (deadlineMs !== 0) return 'a reply has a deadline';
    }
    this.#kind = kind;
    this.#op = b[at + 9]!;
    this.#callId = b.readUInt32LE(at + 4);
    this.#deadlineMs = deadlineMs;
    this.#headerBytes = headerBytes;
    this.#bodyBytes = bodyBytes;
    return undefined;
  }

  #deliver(b: Buffer, at: number): void {
    const headerEnd = at + this.#headerBytes;
    const end = at + this.#bodyBytes;
    assert(end <= b.length, 'a frame lies in its buffer');
    this.#sink.onFrame(
      this.#kind,
      this.#op,
      this.#callId,
      this.#deadlineMs,
      headerEnd === at ? EMPTY : b.subarray(at, headerEnd),
      headerEnd === end ? EMPTY : b.subarray(headerEnd, end),
    );
  }
}
