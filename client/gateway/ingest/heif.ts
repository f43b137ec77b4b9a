import { type Box, BoxReader, boxesIn } from './boxes.ts';
import { cleanedExif } from './exif.ts';
import { malformed, notPossible, PARTS_MAX, Texts } from './packets.ts';

/**
 * HEIF and AVIF (ISO/IEC 23008-12): boxes, one of which lists items and where in the file their bytes are. Nothing is moved:
 * what belongs to no item that makes pixels is overwritten where it is, metadata by metadata that tell no place.
 */

/** Boxes of a file, and of its list of items, that stay; what is in others becomes zeros. */
const FILE_KEPT: ReadonlySet<string> = new Set(['ftyp', 'meta', 'mdat']);
const META_KEPT: ReadonlySet<string> = new Set([
  ...['hdlr', 'pitm', 'iinf', 'iloc', 'iref', 'iprp', 'idat', 'dinf', 'grpl'],
]);
/** Coded pictures, and those that are put together of others. */
const PIXELS: ReadonlySet<string> = new Set(['av01', 'hvc1', 'grid', 'iden', 'iovl', 'tmap']);
const DATA_BOXES_MAX = 64;
const XMP = 'application/rdf+xml';
const SPACE = 0x20;

interface Item {
  readonly type: string;
  /** Of an item of the type `mime`. */
  readonly contentType: string;
}
interface Extent {
  readonly from: number;
  readonly to: number;
}

/**
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNDECODABLE when it is not well-formed, UNSUPPORTED_MEDIA for a sequence, and for one in which there are
 *   pictures of other formats or descriptions in words
 */
export function heifWithoutLocation(body: Buffer): Buffer {
  const out = Buffer.from(body);
  const boxes = boxesIn(body, 0, body.length);
  if (boxes.some(({ type }) => type === 'moov')) throw notPossible('a sequence of pictures');
  const [meta, ...others] = boxes.filter(({ type }) => type === 'meta');
  if (meta === undefined || others.length > 0) throw malformed('it has no list of items, or several');
  const inMeta = boxesIn(body, meta.start + 4, meta.end);
  const data = [
    ...boxes.filter(({ type }) => type === 'mdat'),
    ...inMeta.filter(({ type }) => type === 'idat'),
  ];
  if (data.length > DATA_BOXES_MAX) throw malformed('too many boxes');
  for (const box of boxes) if (!FILE_KEPT.has(box.type)) silence(out, box);
  for (const box of inMeta) if (!META_KEPT.has(box.type)) silence(out, box);
  refuseDescriptions(body, inMeta);
  for (const { start, end } of data) out.fill(0, start, end);

  const items = itemsOf(body, only(inMeta, 'iinf'));
  const places = placesOf(body, only(inMeta, 'iloc'), inMeta);
  const texts = new Texts();
  for (const [id, extents] of places) {
    const item = items.get(id);
    if (item === undefined || PIXELS.has(item.type)) continue;
    if (item.type === 'jpeg') throw notPossible('a picture of another format within it');
    for (const extent of extents) requireWithin(data, extent);
    if (extents.length === 1) writeMetadata(body, out, extents[0]!, item, texts);
  }
  // Pixels at last: where something else claims the same bytes they are right.
  for (const [id, extents] of places)
    if (PIXELS.has(items.get(id)?.type ?? ''))
      for (const extent of extents) {
        requireWithin(data, extent);
        body.copy(out, extent.from, extent.from, extent.to);
      }
  return out.equals(body) ? body : out;
}

/** Leaves its length, and nothing of what is in it. */
function silence(out: Buffer, { from, start, end }: Box): void {
  out.write('free', from + 4, 'latin1');
  out.fill(0, start, end);
}

/** A description that is attached to an item as one of its properties. */
function refuseDescriptions(body: Buffer, inMeta: readonly Box[]): void {
  for (const iprp of inMeta.filter(({ type }) => type === 'iprp'))
    for (const ipco of boxesIn(body, iprp.start, iprp.end).filter(({ type }) => type === 'ipco'))
      for (const { type } of boxesIn(body, ipco.start, ipco.end))
        if (type === 'udes' || type === 'uuid') throw notPossible('a description within it');
}

function only(boxes: readonly Box[], wanted: string): Box {
  const [box, ...others] = boxes.filter(({ type }) => type === wanted);
  if (box === undefined || others.length > 0) throw malformed(`it has no "${wanted}", or several`);
  return box;
}

function itemsOf(body: Buffer, iinf: Box): ReadonlyMap<number, Item> {
  const reader = new BoxReader(body, iinf);
  const version = reader.number(1);
  reader.skip(3);
  reader.number(version === 0 ? 2 : 4);
  const items = new Map<number, Item>();
  for (const infe of boxesIn(body, reader.at, iinf.end)) {
    const entry = new BoxReader(body, infe);
    const entryVersion = entry.number(1);
    if (infe.type !== 'infe' || (entryVersion !== 2 && entryVersion !== 3))
      throw malformed('an item of a kind that nobody knows');
    entry.skip(3);
    const id = entry.number(entryVersion === 2 ? 2 : 4);
    entry.skip(2);
    const type = entry.fourCharacters();
    entry.text();
    if (items.has(id)) throw malformed('an item that is there twice');
    items.set(id, { type, contentType: type === 'mime' ? entry.text() : '' });
  }
  return items;
}

/** Where in the file the bytes of each item are. */
function placesOf(body: Buffer, iloc: Box, inMeta: readonly Box[]): ReadonlyMap<number, readonly Extent[]> {
  const reader = new BoxReader(body, iloc);
  const version = reader.number(1);
  if (version > 2) throw malformed('places of a kind that nobody knows');
  reader.skip(3);
  const sizes = [reader.number(1), reader.number(1)] as const;
  const [offsetBytes, lengthBytes] = [sizes[0] >> 4, sizes[0] & 15];
  const [baseBytes, indexBytes] = [sizes[1] >> 4, version === 0 ? 0 : sizes[1] & 15];
  const idBytes = version < 2 ? 2 : 4;
  const places = new Map<number, Extent[]>();
  let left = PARTS_MAX;
  // Items that lie over each other would make this long for a short file.
  let bytesLeft = body.length;
  for (let count = reader.number(idBytes); count > 0; count--) {
    const id = reader.number(idBytes);
    const method = version === 0 ? 0 : reader.number(2) & 15;
    const reference = reader.number(2);
    if (method > 1 || reference !== 0) throw malformed('an item whose bytes are elsewhere');
    const origin = method === 0 ? 0 : only(inMeta, 'idat').start;
    const base = origin + reader.number(baseBytes);
    const extents: Extent[] = [];
    for (let extent = reader.number(2); extent > 0; extent--) {
      if (left-- === 0) throw malformed('too many extents');
      reader.skip(indexBytes);
      const from = base + reader.number(offsetBytes);
      const length = reader.number(lengthBytes);
      bytesLeft -= length;
      if (bytesLeft < 0) throw malformed('more bytes in its items than in the file');
      extents.push({ from, to: from + length });
    }
    if (places.has(id)) throw malformed('an item that is at two places');
    places.set(id, extents);
  }
  return places;
}

/** An item without a length is all of the file: nobody can say what is in it. */
function requireWithin(data: readonly Box[], { from, to }: Extent): void {
  if (from < to && data.some(({ start, end }) => from >= start && to <= end)) return;
  throw malformed('an item whose bytes are not where they can be');
}

/** Zeros are there already; what tells no place is written over them. */
function writeMetadata(body: Buffer, out: Buffer, { from, to }: Extent, item: Item, texts: Texts): void {
  const bytes = body.subarray(from, to);
  if (item.type === 'Exif') {
    const kept = exifItem(bytes);
    kept?.copy(out, from);
  } else if (item.type === 'mime' && item.contentType === XMP) {
    if (texts.mayTellPlace(bytes)) out.fill(SPACE, from, to);
    else bytes.copy(out, from);
  }
}

const PREFIX = 'Exif\0\0';

/** Four bytes say how far behind them the block begins; what is between is a prefix or nothing. */
function exifItem(bytes: Buffer): Buffer | undefined {
  if (bytes.length < 4) return undefined;
  const skipped = bytes.readUInt32BE(0);
  const start = 4 + skipped;
  if (start > bytes.length) return undefined;
  const prefix = bytes.toString('latin1', 4, start);
  if (prefix !== '' && prefix !== PREFIX) return undefined;
  const now = cleanedExif(bytes.subarray(start));
  if (now === undefined || start + now.length > bytes.length) return undefined;
  return Buffer.concat([bytes.subarray(0, start), now]);
}
