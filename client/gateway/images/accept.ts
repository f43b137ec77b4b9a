import { FORMATS, type Format } from './rendition.ts';

const MIME: Readonly<Record<Format, string>> = {
  jpg: 'image/jpeg',
  png: 'image/png',
  webp: 'image/webp',
  avif: 'image/avif',
  gif: 'image/gif',
};
export const mimeOfFormat = (format: Format): string => MIME[format];

/** Formats that a client has to name: a wildcard is sent by many who cannot show them. */
const NAMED: ReadonlySet<Format> = new Set(['webp', 'avif']);

const RANGE = /^([\w*+.-]+)\/([\w*+.-]+)((?:\s*;\s*[^;]*)*)$/;
const WEIGHT = /;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)/i;

/** How much a client wants each format, 0..1, by RFC 9110 §12.5.1: the most specific range that matches counts. */
export class Accept {
  readonly #ranges = new Map<string, number>();
  readonly #isAbsent: boolean;

  /** @param header as it came; absent, empty or rubbish: everything is taken */
  constructor(header: string | undefined) {
    const text = header?.trim() ?? '';
    for (const part of text.split(',')) {
      const found = RANGE.exec(part.trim());
      if (found === null) continue;
      const [, type = '', subtype = '', parameters = ''] = found;
      const weight = WEIGHT.exec(parameters)?.[1];
      // What cannot be read as a weight is none.
      const hasWeight = /;\s*q\s*=/i.test(parameters);
      this.#ranges.set(
        `${type}/${subtype}`.toLowerCase(),
        weight === undefined ? (hasWeight ? 0 : 1) : Number(weight),
      );
    }
    this.#isAbsent = this.#ranges.size === 0;
  }

  weight(format: Format): number {
    if (this.#isAbsent) return NAMED.has(format) ? 0 : 1;
    const own = this.#ranges.get(MIME[format]);
    if (own !== undefined) return own;
    if (NAMED.has(format)) return 0;
    return this.#ranges.get('image/*') ?? this.#ranges.get('*/*') ?? 0;
  }

  /** Whether the client has said that it does not take it; not having named it is no such word. */
  excludes(format: Format): boolean {
    if (this.#isAbsent) return false;
    const found = this.#ranges.get(MIME[format]) ?? this.#ranges.get('image/*') ?? this.#ranges.get('*/*');
    return found === undefined || found === 0;
  }
}

/**
 * The format for `fm=auto`.
 *
 * @param offered best first, as long as the client has no preference
 * @returns undefined where the client takes none of them
 */
export function negotiate(
  header: string | undefined,
  offered: readonly Format[] = FORMATS,
): Format | undefined {
  const accept = new Accept(header);
  let best: Format | undefined;
  let bestWeight = 0;
  for (const format of offered) {
    const weight = accept.weight(format);
    // Browsers weigh what they name above what they do not; among equals the order of the offer decides.
    if (weight > bestWeight) [best, bestWeight] = [format, weight];
  }
  return best;
}
