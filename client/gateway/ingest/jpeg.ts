import { cleanedExif, orientationIn, unlinkThumbnail } from './exif.ts';
import { malformed, PARTS_MAX, photoshopWithoutLocation, Texts } from './packets.ts';

/**
 * JPEG (ITU-T T.81 Annex B) as a list of segments. The pixels are in segments and scans that are copied as they are; of the
 * others only those stay of which it is known what they tell.
 */

const SOI = 0xd8;
const EOI = 0xd9;
const SOS = 0xda;
const TEM = 0x01;
const COM = 0xfe;
const APP0 = 0xe0;
const APP15 = 0xef;
const EXIF = 'Exif\0\0';
const XMP = 'http://ns.adobe.com/xap/1.0/\0';
const PHOTOSHOP = 'Photoshop 3.0\0';
const SEGMENT_BYTES_MAX = 65_533;

const isRestart = (marker: number): boolean => marker >= 0xd0 && marker <= 0xd7;

/**
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNDECODABLE when it is not well-formed
 */
export function jpegWithoutLocation(body: Buffer): Buffer {
  const kept: Buffer[] = [];
  const texts = new Texts();
  let changed = false;
  let end = 0;
  for (const { marker, from, to, payload } of segments(body)) {
    end = to;
    const isOptional = (marker >= APP0 && marker <= APP15) || marker === COM;
    const now = isOptional ? cleaned(marker, payload, texts) : payload;
    if (now === payload) kept.push(body.subarray(from, to));
    else {
      changed = true;
      if (now !== undefined) kept.push(segment(marker, now));
    }
  }
  // Behind the picture there may be others, or a film, with metadata of their own.
  if (end < body.length) changed = true;
  return changed ? Buffer.concat(kept) : body;
}

/** @returns 1..8; undefined when it tells none, or is not well-formed up to there */
export function orientationOfJpeg(body: Buffer): number | undefined {
  try {
    for (const { marker, payload } of segments(body)) {
      if (marker === APP0 + 1 && starts(payload, EXIF)) return orientationIn(payload.subarray(EXIF.length));
      if (marker === SOS) return undefined;
    }
  } catch {
    // Whoever decodes it will say so.
  }
  return undefined;
}

/** Takes the thumbnail out of its EXIF, in place: that of a picture which was turned lies on its side. */
export function unlinkThumbnailOfJpeg(body: Buffer): void {
  for (const { marker, payload } of segments(body)) {
    if (marker === SOS) return;
    if (marker === APP0 + 1 && starts(payload, EXIF)) unlinkThumbnail(payload.subarray(EXIF.length));
  }
}

interface Segment {
  readonly marker: number;
  readonly from: number;
  readonly to: number;
  /** Without marker and length; empty where there is none. Of a scan, its header. */
  readonly payload: Buffer;
}

const EMPTY = Buffer.alloc(0);

function* segments(body: Buffer): Generator<Segment> {
  if (body[0] !== 0xff || body[1] !== SOI) throw malformed('it does not begin as a JPEG');
  yield { marker: SOI, from: 0, to: 2, payload: EMPTY };
  for (let at = 2, count = 0; ; count++) {
    if (count > PARTS_MAX) throw malformed('too many segments');
    const from = at;
    if (body[at] !== 0xff) throw malformed(at >= body.length ? 'it ends early' : `no marker at byte ${at}`);
    while (body[at] === 0xff) at++;
    const marker = body[at++];
    if (marker === undefined) throw malformed('it ends early');
    if (marker === EOI) {
      yield { marker, from, to: at, payload: EMPTY };
      return;
    }
    if (marker === TEM || isRestart(marker)) {
      yield { marker, from, to: at, payload: EMPTY };
      continue;
    }
    if (marker === 0 || marker === SOI) throw malformed(`no marker at byte ${from}`);
    if (at + 2 > body.length) throw malformed('it ends early');
    const length = body.readUInt16BE(at);
    if (length < 2 || at + length > body.length)
      throw malformed(`a segment at byte ${from} has a wrong length`);
    const payload = body.subarray(at + 2, at + length);
    at += length;
    if (marker === SOS) at = endOfScan(body, at);
    yield { marker, from, to: at, payload };
  }
}

/** Where the next marker is that does not belong to the scan. */
function endOfScan(body: Buffer, start: number): number {
  // Byte by byte: a scan may be made of nothing but what looks like markers, and this must not take longer for it.
  for (let at = start; at + 1 < body.length; at++) {
    if (body[at] !== 0xff) continue;
    const next = body[at + 1]!;
    if (next !== 0 && next !== 0xff && !isRestart(next)) return at;
  }
  throw malformed('it ends early');
}

/** @returns the same payload, another one, or undefined for none */
function cleaned(marker: number, payload: Buffer, texts: Texts): Buffer | undefined {
  switch (marker) {
    case APP0:
      return starts(payload, 'JFIF\0') ? payload : undefined;
    case APP0 + 1:
      if (starts(payload, EXIF)) return prefixed(EXIF, payload, cleanedExif);
      return starts(payload, XMP) && !texts.mayTellPlace(payload.subarray(XMP.length)) ? payload : undefined;
    case APP0 + 2:
      return starts(payload, 'ICC_PROFILE\0') ? payload : undefined;
    case APP0 + 13:
      return starts(payload, PHOTOSHOP) ? prefixed(PHOTOSHOP, payload, photoshop) : undefined;
    case APP0 + 14:
      return starts(payload, 'Adobe') ? payload : undefined;
    case COM:
      // Some end their text with a zero.
      return texts.mayTellPlace(payload.at(-1) === 0 ? payload.subarray(0, -1) : payload)
        ? undefined
        : payload;
    default:
      return undefined;
  }
}

function photoshop(resources: Buffer): Buffer | undefined {
  const kept = photoshopWithoutLocation(resources);
  return kept === undefined || kept.length === 0 ? undefined : kept;
}

function prefixed(
  prefix: string,
  payload: Buffer,
  clean: (block: Buffer) => Buffer | undefined,
): Buffer | undefined {
  const block = payload.subarray(prefix.length);
  const now = clean(block);
  if (now === undefined) return undefined;
  return now.equals(block) ? payload : Buffer.concat([Buffer.from(prefix, 'latin1'), now]);
}

function segment(marker: number, payload: Buffer): Buffer {
  if (payload.length > SEGMENT_BYTES_MAX) throw malformed('metadata that fits no segment');
  const head = Buffer.from([0xff, marker, 0, 0]);
  head.writeUInt16BE(payload.length + 2, 2);
  return Buffer.concat([head, payload]);
}

const starts = (payload: Buffer, text: string): boolean =>
  payload.length >= text.length && payload.toString('latin1', 0, text.length) === text;
