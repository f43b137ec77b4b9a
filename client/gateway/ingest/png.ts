import { crc32 } from 'node:zlib';
import { cleanedExifChunk, orientationIn } from './exif.ts';
import { malformed, PARTS_MAX, Texts } from './packets.ts';

/**
 * PNG (third edition) as a list of chunks. Those that make the pixels and their colours are copied as they are; of texts only
 * those stay that can be read as they are and tell no place.
 */

const SIGNATURE_BYTES = 8;
const TEXTS: ReadonlySet<string> = new Set(['tEXt', 'iTXt']);
/** Chunks that are about pixels, colours, time and animation. All critical ones, with a capital at their beginning, stay. */
const KEPT: ReadonlySet<string> = new Set([
  ...['tRNS', 'cHRM', 'gAMA', 'iCCP', 'sBIT', 'sRGB', 'cICP', 'mDCV', 'cLLI', 'bKGD', 'hIST', 'pHYs', 'sPLT'],
  ...['tIME', 'acTL', 'fcTL', 'fdAT', 'sTER', 'oFFs', 'pCAL', 'sCAL'],
]);

/**
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNDECODABLE when it is not well-formed
 */
export function pngWithoutLocation(body: Buffer): Buffer {
  const kept: Buffer[] = [body.subarray(0, SIGNATURE_BYTES)];
  const texts = new Texts();
  let changed = false;
  let end = 0;
  for (const { type, from, to, payload } of chunks(body)) {
    end = to;
    const now = cleaned(type, payload, texts);
    if (now === payload) kept.push(body.subarray(from, to));
    else {
      changed = true;
      if (now !== undefined) kept.push(chunk(type, now));
    }
  }
  if (end < body.length) changed = true;
  return changed ? Buffer.concat(kept) : body;
}

/** @returns 1..8; undefined when it tells none, is animated, or not well-formed up to there */
export function orientationOfPng(body: Buffer): number | undefined {
  let orientation: number | undefined;
  try {
    for (const { type, payload } of chunks(body)) {
      if (type === 'acTL') return undefined;
      if (type === 'eXIf') orientation ??= orientationIn(payload);
    }
  } catch {
    // Whoever decodes it will say so.
  }
  return orientation;
}

interface Chunk {
  readonly type: string;
  readonly from: number;
  readonly to: number;
  readonly payload: Buffer;
}

function* chunks(body: Buffer): Generator<Chunk> {
  for (let at = SIGNATURE_BYTES, count = 0; ; count++) {
    if (count > PARTS_MAX) throw malformed('too many chunks');
    if (at + 12 > body.length) throw malformed('it ends early');
    const length = body.readUInt32BE(at);
    const type = body.toString('latin1', at + 4, at + 8);
    const to = at + 12 + length;
    if (!/^[A-Za-z]{4}$/.test(type)) throw malformed(`no chunk at byte ${at}`);
    if (to > body.length) throw malformed('it ends early');
    yield { type, from: at, to, payload: body.subarray(at + 8, to - 4) };
    if (type === 'IEND') return;
    at = to;
  }
}

/** @returns the same payload, another one, or undefined for none */
function cleaned(type: string, payload: Buffer, texts: Texts): Buffer | undefined {
  if (type === 'eXIf') return cleanedExifChunk(payload);
  if (TEXTS.has(type)) return tellsNoPlace(type, payload, texts) ? payload : undefined;
  const isCritical = type[0]! <= 'Z';
  return isCritical || KEPT.has(type) ? payload : undefined;
}

/** A keyword, a zero, and in iTXt two bytes and two more texts that end with zeros. */
function tellsNoPlace(type: string, payload: Buffer, texts: Texts): boolean {
  const parts = payload.indexOf(0);
  if (parts < 0) return false;
  const keyword = payload.subarray(0, parts);
  let text = payload.subarray(parts + 1);
  // Profiles in hexadecimal digits, as ImageMagick writes them.
  if (keyword.toString('latin1').startsWith('Raw profile')) return false;
  if (type === 'iTXt') {
    const isCompressed = text[0] !== 0;
    const language = text.indexOf(0, 2);
    const translated = language < 0 ? -1 : text.indexOf(0, language + 1);
    if (isCompressed || translated < 0) return false;
    text = text.subarray(translated + 1);
  }
  return !texts.mayTellPlace(keyword) && !texts.mayTellPlace(text);
}

function chunk(type: string, payload: Buffer): Buffer {
  const out = Buffer.alloc(12 + payload.length);
  out.writeUInt32BE(payload.length, 0);
  out.write(type, 4, 'latin1');
  payload.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + payload.length)), 8 + payload.length);
  return out;
}
