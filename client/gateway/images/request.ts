import { TfsError } from '../../../common/errors.ts';
import { type Given, renditionOf } from './options.ts';
import { PLAIN, type Rendition } from './rendition.ts';
import { suffixAsk } from './suffix.ts';

/** Parameters that are about the request and not about the picture. */
export const SIGNING_PARAMETERS = ['exp', 'kid', 'sig'] as const;

/** More is refused before anything is looked at. */
const PARAMETERS_MAX = 16;

export interface ImageRequest {
  /** What is behind the 18 characters of the original's own name. */
  readonly tail: string;
  /** Undefined: the original. */
  readonly rendition: Rendition | undefined;
  /** Name of the preset that was asked for. */
  readonly preset: string | undefined;
  /** `exp`, `kid` and `sig`, as they came. */
  readonly signing: Given;
}

export type Presets = ReadonlyMap<string, Rendition>;

/**
 * One request out of the three ways to ask: Taobao's suffixes, a query, a preset.
 *
 * @param tail what follows the 18 characters in the path, decoded
 * @param query without the question mark, as it came
 * @throws TfsError BAD_REQUEST that names what is wrong
 */
export function imageRequest(tail: string, query: string, presets: Presets): ImageRequest {
  const bySuffix = suffixAsk(tail);
  const { options, preset: byQuery, signing } = parseQuery(query);
  if (bySuffix !== undefined && (options.size > 0 || byQuery !== undefined))
    throw bad(`option ${options.keys().next().value ?? 'p'}: the name asks for a rendition already`);
  const own = bySuffix?.own ?? tail;
  const preset = bySuffix?.preset ?? byQuery;
  const given = bySuffix?.options ?? options;
  if (preset === undefined) {
    const rendition = given.size === 0 ? undefined : renditionOf(given);
    return { tail: own, rendition, preset, signing };
  }
  const found = presets.get(preset);
  if (found === undefined) {
    const known = [...presets.keys()].sort().join(', ');
    throw bad(`option p: there is no preset ${JSON.stringify(preset)}: ${known || 'none is configured'}`);
  }
  // A suffix says a format beside the preset; a query says nothing but the preset.
  const format = bySuffix === undefined ? found.format : renditionOf(given).format;
  return { tail: own, rendition: { ...PLAIN, ...found, format }, preset, signing };
}

interface Parsed {
  readonly options: Given;
  readonly preset: string | undefined;
  readonly signing: Given;
}

function parseQuery(query: string): Parsed {
  const options = new Map<string, string>();
  const signing = new Map<string, string>();
  const seen = new Set<string>();
  let preset: string | undefined;
  let count = 0;
  for (const [name, value] of new URLSearchParams(query)) {
    if (++count > PARAMETERS_MAX) throw bad(`a request has ${PARAMETERS_MAX} options at most`);
    if (seen.has(name)) throw bad(`option ${JSON.stringify(name.slice(0, 40))}: it is there twice`);
    seen.add(name);
    if (name === 'p') preset = value;
    else if ((SIGNING_PARAMETERS as readonly string[]).includes(name)) signing.set(name, value);
    else options.set(name, value);
  }
  const [other] = options.keys();
  if (preset !== undefined && other !== undefined)
    throw bad(`option ${JSON.stringify(other.slice(0, 40))}: beside a preset there is no other`);
  return { options, preset, signing };
}

const bad = (message: string): TfsError => new TfsError('BAD_REQUEST', message);
