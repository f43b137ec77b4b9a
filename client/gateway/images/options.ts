import { TfsError } from '../../../common/errors.ts';
import { FITS, FORMATS, GRAVITIES, PLAIN, type Rendition, ROTATIONS, SIDE_MAX } from './rendition.ts';

/** Names and values as a client gave them, decoded. */
export type Given = ReadonlyMap<string, string>;

const DPR_MAX = 5;
const BLUR_MAX = 30;
const SHARPEN_MAX = 10;

const INTEGER = /^[1-9]\d{0,5}$/;
/** At most two digits behind the point: more would only make more spellings. */
const DECIMAL = /^(?:0|[1-9]\d{0,3})(?:\.\d{1,2})?$/;
const COLOUR = /^[0-9a-f]{3,4}$|^[0-9a-f]{6}$|^[0-9a-f]{8}$/;

type Reader = (text: string, name: string) => Partial<Rendition> & { readonly dpr?: number };

/** Every option there is, by the name it has in a query. */
const OPTIONS: Readonly<Record<string, Reader>> = {
  w: (text, name) => ({ width: integer(text, name, SIDE_MAX) }),
  h: (text, name) => ({ height: integer(text, name, SIDE_MAX) }),
  fit: (text, name) => ({ fit: oneOf(text, name, FITS) }),
  g: (text, name) => ({ gravity: oneOf(text, name, GRAVITIES) }),
  dpr: (text, name) => ({ dpr: decimal(text, name, { min: 1, max: DPR_MAX }) }),
  q: (text, name) => ({ quality: integer(text, name, 100) }),
  fm: (text, name) => ({ format: oneOf(text, name, ['auto', ...FORMATS] as const) }),
  blur: (text, name) => ({ blur: decimal(text, name, { min: 0.3, max: BLUR_MAX }) }),
  sharpen: (text, name) => ({ sharpen: decimal(text, name, { min: 0.1, max: SHARPEN_MAX }) }),
  rot: (text, name) => ({ rotate: oneOf(Number(text), name, ROTATIONS) }),
  bg: (text, name) => ({ background: colour(text, name) }),
  enlarge: (text, name) => ({ enlarge: oneOf(text, name, ['0', '1']) === '1' }),
};

export const OPTION_NAMES: readonly string[] = Object.keys(OPTIONS);

export const isOption = (name: string): boolean => Object.hasOwn(OPTIONS, name);

/**
 * @param given options alone
 * @throws TfsError BAD_REQUEST that names the option: one that is not known, whose value is none, or that makes no sense
 *   beside the others
 */
export function renditionOf(given: Given): Rendition {
  let dpr = 1;
  let rendition = PLAIN;
  for (const [name, text] of given) {
    if (!isOption(name)) throw bad(`there is no option ${quoted(name)}: ${OPTION_NAMES.join(', ')}`);
    const { dpr: ratio = dpr, ...read } = OPTIONS[name]!(text, name);
    dpr = ratio;
    rendition = { ...rendition, ...read };
  }
  const { width, height, fit } = rendition;
  const isBoth = width !== undefined && height !== undefined;
  const isSized = width !== undefined || height !== undefined;
  if (!isBoth && given.has('fit') && fit !== 'inside') throw bad(`option fit: ${fit} needs w and h`);
  if (given.has('g') && fit !== 'cover') throw bad('option g: gravity is for fit=cover');
  for (const name of ['dpr', 'enlarge'])
    if (!isSized && given.has(name)) throw bad(`option ${name}: it needs w or h`);
  return { ...rendition, width: scaled(width, dpr, 'w'), height: scaled(height, dpr, 'h') };
}

function scaled(side: number | undefined, dpr: number, name: string): number | undefined {
  if (side === undefined) return undefined;
  const pixels = Math.round(side * dpr);
  if (pixels > SIDE_MAX) throw bad(`option ${name}: ${side} x ${dpr} is more than ${SIDE_MAX} pixels`);
  return pixels;
}

function integer(text: string, name: string, max: number): number {
  const value = INTEGER.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw bad(`option ${name}: ${quoted(text)} is no whole number from 1 to ${max}`);
}

function decimal(text: string, name: string, { min, max }: { min: number; max: number }): number {
  const value = DECIMAL.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw bad(`option ${name}: ${quoted(text)} is no number from ${min} to ${max} with two decimals at most`);
}

function oneOf<T extends string | number>(value: string | number, name: string, all: readonly T[]): T {
  const found = all.find((one) => one === value);
  if (found !== undefined) return found;
  throw bad(`option ${name}: ${quoted(String(value))} is none of ${all.join(', ')}`);
}

/** Three and four digits are short for six and eight. */
function colour(text: string, name: string): string {
  const hex = text.toLowerCase();
  if (!COLOUR.test(hex))
    throw bad(`option ${name}: ${quoted(text)} is no colour such as fff, ffffff or ffffff80`);
  const long = hex.length <= 4 ? [...hex].map((digit) => digit + digit).join('') : hex;
  return long.length === 8 && long.endsWith('ff') ? long.slice(0, 6) : long;
}

const SHOWN_MAX = 40;

/** What a client sent, short and printable, for a message. */
const quoted = (text: string): string =>
  JSON.stringify(text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text);

const bad = (message: string): TfsError => new TfsError('BAD_REQUEST', message);
