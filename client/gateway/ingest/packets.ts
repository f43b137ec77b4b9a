import { TfsError } from '../../../common/errors.ts';

/** Pieces of metadata that several formats have, and whether they could tell a place. */

/** Names of properties and elements that tell where something is; also in words that only contain them. */
const TELLS_PLACE =
  /gps|geo|latitude|longitude|altitude|location|city|state|country|province|region|place|venue|address/i;

/** Of all texts of one picture that are looked at; the rest goes unread. Looking keeps the whole gateway. */
const TEXT_BYTES_MAX = 1024 * 1024;
/** Segments, chunks or blocks of one picture. */
export const PARTS_MAX = 100_000;

/** The texts of one picture. */
export class Texts {
  #left = TEXT_BYTES_MAX;

  /**
   * Whether one, such as a packet of XMP, has anything in it that could name a place. What is not in UTF-8, or too long to be
   * looked at, counts as if it had: a yes without reason costs some metadata and no more.
   */
  mayTellPlace(text: Buffer): boolean {
    this.#left -= text.length;
    return this.#left < 0 || text.includes(0) || TELLS_PLACE.test(text.toString('latin1'));
  }
}

/** Location fields of IPTC's second record (IIM 4.2 §6): content location, city, sublocation, province, country. */
const IPTC_PLACES: ReadonlySet<number> = new Set([26, 27, 90, 92, 95, 100, 101]);
const IPTC_IN_PHOTOSHOP = 0x0404;
/** EXIF, EXIF again, XMP, thumbnails, and a digest over the IPTC that would be wrong. */
const PHOTOSHOP_DROPPED: ReadonlySet<number> = new Set([0x0422, 0x0423, 0x0424, 0x0409, 0x040c, 0x0425]);

/**
 * @param resources image resources as in a segment of a JPEG, after "Photoshop 3.0\0"
 * @returns those that tell no place; undefined where they are damaged
 */
export function photoshopWithoutLocation(resources: Buffer): Buffer | undefined {
  const kept: Buffer[] = [];
  for (let at = 0; at < resources.length; ) {
    if (at + 12 > resources.length || resources.toString('latin1', at, at + 4) !== '8BIM') return undefined;
    const id = resources.readUInt16BE(at + 4);
    // A name with its length before it, together an even number of bytes.
    const sizeAt = at + 6 + ((resources[at + 6]! + 2) & ~1);
    if (sizeAt + 4 > resources.length) return undefined;
    const size = resources.readUInt32BE(sizeAt);
    const from = sizeAt + 4;
    if (from + size > resources.length) return undefined;
    const end = Math.min(resources.length, from + size + (size & 1));
    if (id === IPTC_IN_PHOTOSHOP) {
      const iptc = iptcWithoutLocation(resources.subarray(from, from + size));
      if (iptc === undefined) return undefined;
      const head = Buffer.from(resources.subarray(at, from));
      head.writeUInt32BE(iptc.length, head.length - 4);
      kept.push(head, iptc, Buffer.alloc(iptc.length & 1));
    } else if (!PHOTOSHOP_DROPPED.has(id)) kept.push(resources.subarray(at, end));
    at = end;
  }
  return Buffer.concat(kept);
}

function iptcWithoutLocation(iptc: Buffer): Buffer | undefined {
  const kept: Buffer[] = [];
  for (let at = 0; at < iptc.length; ) {
    // Filled up with zeros.
    if (iptc[at] === 0 && iptc.subarray(at).every((byte) => byte === 0)) break;
    if (at + 5 > iptc.length || iptc[at] !== 0x1c) return undefined;
    const size = iptc.readUInt16BE(at + 3);
    // Longer ones have a length of their length: nobody writes them.
    if (size >= 0x8000 || at + 5 + size > iptc.length) return undefined;
    const end = at + 5 + size;
    const isPlace = iptc[at + 1] === 2 && IPTC_PLACES.has(iptc[at + 2]!);
    if (!isPlace) kept.push(iptc.subarray(at, end));
    at = end;
  }
  return Buffer.concat(kept);
}

/** The picture is not put together as its kind is, so nobody can say what is in it. */
export const malformed = (what: string): TfsError =>
  new TfsError(
    'UNDECODABLE',
    `location data must be taken out of pictures of this token, and this one is malformed: ${what}; nothing was stored`,
  );

/** @param what of it nobody here knows what it tells, such as "a sequence of pictures" */
export const notPossible = (what: string): TfsError =>
  new TfsError(
    'UNSUPPORTED_MEDIA',
    `location data must be taken out of pictures of this token, which is not possible for ${what}; nothing was stored`,
  );
