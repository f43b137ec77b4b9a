import { cleanedExifChunk, orientationIn, withoutPrefix } from './exif.ts';
import { malformed, PARTS_MAX, Texts } from './packets.ts';

/** WebP (RFC 9649 §2) as a list of chunks of which the unknown ones go. */

const HEAD_BYTES = 12;
const PIXELS: ReadonlySet<string> = new Set(['VP8 ', 'VP8L', 'VP8X', 'ALPH', 'ANIM', 'ANMF', 'ICCP']);
/** Bits of VP8X that say that there is such a chunk. */
const HAS_EXIF = 0x08;
const HAS_XMP = 0x04;

/**
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNDECODABLE when it is not well-formed
 */
export function webpWithoutLocation(body: Buffer): Buffer {
  const kept: { type: string; bytes: Buffer }[] = [];
  const texts = new Texts();
  let changed = false;
  let end = HEAD_BYTES;
  for (const { type, from, to, payload } of chunks(body)) {
    end = to;
    const now = cleaned(type, payload, texts);
    if (now === payload) kept.push({ type, bytes: body.subarray(from, to) });
    else {
      changed = true;
      if (now !== undefined) kept.push({ type, bytes: chunk(type, now) });
    }
  }
  if (kept.length === 0) throw malformed('there is nothing in it');
  if (!changed && end === body.length) return body;
  const out = Buffer.concat([body.subarray(0, HEAD_BYTES), ...kept.map(({ bytes }) => bytes)]);
  out.writeUInt32LE(out.length - 8, 4);
  const flagsAt = HEAD_BYTES + 8;
  if (kept[0]!.type === 'VP8X' && flagsAt < out.length) {
    const has = (type: string) => kept.some((one) => one.type === type);
    if (!has('EXIF')) out[flagsAt]! &= ~HAS_EXIF;
    if (!has('XMP ')) out[flagsAt]! &= ~HAS_XMP;
  }
  return out;
}

/** @returns 1..8; undefined when it tells none, is animated, or not well-formed up to there */
export function orientationOfWebp(body: Buffer): number | undefined {
  try {
    for (const { type, payload } of chunks(body)) {
      if (type === 'ANIM') return undefined;
      if (type === 'EXIF') return orientationIn(withoutPrefix(payload));
    }
  } catch {
    // Whoever decodes it will say so.
  }
  return undefined;
}

/** Whether it keeps every pixel. */
export function isLosslessWebp(body: Buffer): boolean {
  try {
    for (const { type } of chunks(body)) if (type === 'VP8L') return true;
  } catch {
    // Whoever decodes it will say so.
  }
  return false;
}

interface Chunk {
  readonly type: string;
  readonly from: number;
  readonly to: number;
  readonly payload: Buffer;
}

function* chunks(body: Buffer): Generator<Chunk> {
  const end = 8 + body.readUInt32LE(4);
  if (end > body.length) throw malformed('it ends early');
  for (let at = HEAD_BYTES, count = 0; at < end; count++) {
    if (count > PARTS_MAX) throw malformed('too many chunks');
    if (at + 8 > end) throw malformed('it ends early');
    const type = body.toString('latin1', at, at + 4);
    const size = body.readUInt32LE(at + 4);
    if (at + 8 + size > end) throw malformed('it ends early');
    // The last one sometimes lacks the byte that makes it even.
    const to = Math.min(end, at + 8 + size + (size & 1));
    yield { type, from: at, to, payload: body.subarray(at + 8, at + 8 + size) };
    at = to;
  }
}

/** @returns the same payload, another one, or undefined for none */
function cleaned(type: string, payload: Buffer, texts: Texts): Buffer | undefined {
  if (PIXELS.has(type)) return payload;
  if (type === 'XMP ') return texts.mayTellPlace(payload) ? undefined : payload;
  return type === 'EXIF' ? cleanedExifChunk(payload) : undefined;
}

function chunk(type: string, payload: Buffer): Buffer {
  const out = Buffer.alloc(8 + payload.length + (payload.length & 1));
  out.write(type, 'latin1');
  out.writeUInt32LE(payload.length, 4);
  payload.copy(out, 8);
  return out;
}
