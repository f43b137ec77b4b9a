import { malformed, PARTS_MAX, Texts } from './packets.ts';

/** GIF (89a) as a list of blocks. Places are told in application extensions, such as that of XMP, and in comments. */

const HEAD_BYTES = 13;
const EXTENSION = 0x21;
const IMAGE = 0x2c;
const TRAILER = 0x3b;
const COMMENT = 0xfe;
const APPLICATION = 0xff;
/** Loops and colour profiles. */
const APPLICATIONS_KEPT: ReadonlySet<string> = new Set(['NETSCAPE2.0', 'ANIMEXTS1.0', 'ICCRGBG1012']);

/**
 * @returns the same buffer when there is nothing to take out
 * @throws TfsError UNDECODABLE when it is not well-formed
 */
export function gifWithoutLocation(body: Buffer): Buffer {
  if (body.length < HEAD_BYTES) throw malformed('it ends early');
  const kept: Buffer[] = [];
  const texts = new Texts();
  let at = HEAD_BYTES + tableBytes(body[10]!);
  if (at > body.length) throw malformed('it ends early');
  kept.push(body.subarray(0, at));
  let changed = false;
  // Many lack the trailer.
  while (at < body.length) {
    if (kept.length > PARTS_MAX) throw malformed('too many blocks');
    const from = at;
    const kind = body[at]!;
    if (kind === TRAILER) {
      kept.push(body.subarray(at, ++at));
      break;
    }
    if (kind === EXTENSION) at = endOfBlocks(body, at + 2);
    else if (kind === IMAGE) at = endOfBlocks(body, at + 11 + tableBytes(body[at + 9] ?? 0));
    else throw malformed(`no block at byte ${at}`);
    const block = body.subarray(from, at);
    if (kind === EXTENSION && tellsPlace(block, texts)) changed = true;
    else kept.push(block);
  }
  if (at < body.length) changed = true;
  return changed ? Buffer.concat(kept) : body;
}

const tableBytes = (flags: number): number => ((flags & 0x80) === 0 ? 0 : 3 * 2 ** ((flags & 7) + 1));

function endOfBlocks(body: Buffer, start: number): number {
  for (let at = start; ; ) {
    const size = body[at];
    if (size === undefined) throw malformed('it ends early');
    at += 1 + size;
    if (size === 0) return at;
  }
}

function tellsPlace(extension: Buffer, texts: Texts): boolean {
  if (extension[1] === APPLICATION) return !APPLICATIONS_KEPT.has(extension.toString('latin1', 3, 14));
  // The bytes that say how long its pieces are lie between them.
  return extension[1] === COMMENT && texts.mayTellPlace(textOf(extension));
}

function textOf(comment: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 2; comment[at] !== undefined && comment[at] !== 0; at += 1 + comment[at]!)
    pieces.push(comment.subarray(at + 1, at + 1 + comment[at]!));
  return Buffer.concat(pieces);
}
