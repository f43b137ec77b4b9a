/** Comments and document type declarations may come before the root element; no more of them than this is read. */
export const SVG_PROLOG_BYTES_MAX = 64 * 1024;

const SPACE = /\s*/y;
const ROOT = /<(?:[A-Za-z_][\w.-]*:)?svg(?=[\s/>])/y;

/**
 * Where the root element of an XML document begins if that is `svg`, in an ASCII-compatible encoding: XML declaration,
 * processing instructions, comments and the document type are skipped. In time linear in the bytes looked at.
 *
 * @returns undefined when it is anything else
 */
export function svgRootAt(head: Buffer): number | undefined {
  let start = 0;
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) start = 3;
  if (!mayBeMarkup(head[start])) return undefined;
  const text = head.toString('latin1', start, SVG_PROLOG_BYTES_MAX);
  let at = 0;
  for (;;) {
    at = matchEnd(SPACE, text, at) ?? at;
    if (text.startsWith('<?', at)) at = after(text, '?>', at);
    else if (text.startsWith('<!--', at)) at = after(text, '-->', at + 4);
    else if (/^<!doctype/i.test(text.slice(at, at + 9))) at = afterDoctype(text, at);
    else return matchEnd(ROOT, text, at) === undefined ? undefined : start + at;
    if (at < 0) return undefined;
  }
}

/** `<` or white space. */
const mayBeMarkup = (byte: number | undefined): boolean =>
  byte === 0x3c || byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

function matchEnd(sticky: RegExp, text: string, at: number): number | undefined {
  sticky.lastIndex = at;
  return sticky.test(text) ? sticky.lastIndex : undefined;
}

/** @returns -1 when it does not occur */
function after(text: string, needle: string, from: number): number {
  const found = text.indexOf(needle, from);
  return found < 0 ? -1 : found + needle.length;
}

/** A document type may hold declarations in brackets, and those may hold `>`. */
function afterDoctype(text: string, from: number): number {
  const close = text.indexOf('>', from);
  const bracket = text.indexOf('[', from);
  if (bracket < 0 || (close >= 0 && close < bracket)) return close < 0 ? -1 : close + 1;
  const end = text.indexOf(']', bracket);
  return end < 0 ? -1 : after(text, '>', end);
}
