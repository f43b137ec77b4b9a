import {
  decodeOpBody,
  decodeOpsFileHeader,
  emptyOpsState,
  foldOp,
  frameOp,
  frameSpan,
  OPS_HEADER_BYTES,
  type Op,
  type OpsFileHeader,
  type OpsState,
  opsSeed,
} from '../../common/format/ops.ts';

const CONTINUES = 0x8000_0000;
const FRAME_HEADER_BYTES = 8;

/** One ops log as it is durable on one disk: read on from where it was read to. */
export class OpsImage {
  readonly n: number;
  header: OpsFileHeader | undefined;
  state: OpsState = emptyOpsState();
  #seed = 0;
  #good = Buffer.alloc(0);

  constructor(n: number) {
    this.n = n;
  }

  /** @returns operations that were not there at the last look; all of them where what was there has changed */
  advance(bytes: Buffer): Op[] {
    const isSame =
      this.#good.length <= bytes.length &&
      bytes.compare(this.#good, 0, this.#good.length, 0, this.#good.length) === 0;
    if (!isSame || this.header === undefined) {
      this.#good = Buffer.alloc(0);
      this.state = emptyOpsState();
      const header = decodeOpsFileHeader(bytes);
      this.header = header.ok ? header.value : undefined;
      if (!header.ok) return [];
      this.#seed = opsSeed(header.value);
    }
    const fresh: Op[] = [];
    let at = Math.max(this.#good.length, OPS_HEADER_BYTES);
    for (;;) {
      const body = this.#bodyAt(bytes, at);
      const op = body && decodeOpBody(Buffer.from(body));
      if (body === undefined || op?.ok !== true) break;
      foldOp(this.state, op.value);
      fresh.push(op.value);
      at += frameSpan(body.length);
    }
    if (at !== this.#good.length) this.#good = Buffer.from(bytes.subarray(0, at));
    return fresh;
  }

  /** A frame is what framing its body makes. */
  #bodyAt(bytes: Buffer, at: number): Buffer | undefined {
    if (bytes.length - at < FRAME_HEADER_BYTES) return undefined;
    const word = bytes.readUInt32LE(at);
    const length = word & ~CONTINUES;
    if (length === 0 || length > bytes.length - at - FRAME_HEADER_BYTES) return undefined;
    const span = frameSpan(length);
    const body = bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length);
    const frame = frameOp(body, this.#seed, at, word >= CONTINUES);
    return bytes.length >= at + span && bytes.compare(frame, 0, span, at, at + span) === 0 ? body : undefined;
  }
}
