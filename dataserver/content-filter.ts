import { assert } from '../common/errors.ts';

/** Bits for each content: 8, for a false "perhaps" in about 3 of 100 look-ups of new contents. */
const BITS_PER_CONTENT = 8;
const WORDS_PER_BUCKET = 16;
const BITS_PER_BUCKET = 32 * WORDS_PER_BUCKET;
const PROBES = 5;
const FIRST_CAPACITY = 1 << 16;

interface Layer {
  readonly words: Uint32Array;
  readonly buckets: number;
  readonly capacity: number;
  count: number;
}

/**
 * Which contents are surely *not* on this disk, from memory: most uploads are new, and asking LevelDB about each of
 * them costs more than storing it. Layers of doubling size, each a Bloom filter whose probes of one content fall into
 * one cache line (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007). A SHA-1 is its own
 * hash.
 */
export class ContentFilter {
  readonly #layers: Layer[] = [];

  add(sha1: Buffer): void {
    let layer = this.#layers.at(-1);
    if (layer === undefined || layer.count >= layer.capacity) layer = this.#grow();
    layer.count++;
    const base = bucketOf(layer, sha1);
    let bits = sha1.readUInt32LE(4);
    let more = sha1.readUInt32LE(8);
    for (let i = 0; i < PROBES; i++) {
      layer.words[base + ((bits & (BITS_PER_BUCKET - 1)) >>> 5)]! |= 1 << (bits & 31);
      bits = (bits >>> 9) | (more << 23);
      more >>>= 9;
    }
  }

  /** @returns false only for a content that was never added */
  mayHold(sha1: Buffer): boolean {
    for (const layer of this.#layers) if (isIn(layer, sha1)) return true;
    return false;
  }

  get bytes(): number {
    return this.#layers.reduce((sum, { words }) => sum + words.byteLength, 0);
  }

  get count(): number {
    return this.#layers.reduce((sum, { count }) => sum + count, 0);
  }

  #grow(): Layer {
    const capacity = FIRST_CAPACITY * 2 ** this.#layers.length;
    const buckets = (capacity * BITS_PER_CONTENT) / BITS_PER_BUCKET;
    assert(Number.isInteger(buckets), 'a layer is whole buckets');
    const layer: Layer = { words: new Uint32Array(buckets * WORDS_PER_BUCKET), buckets, capacity, count: 0 };
    this.#layers.push(layer);
    return layer;
  }
}

const bucketOf = (layer: Layer, sha1: Buffer): number =>
  (sha1.readUInt32LE(0) % layer.buckets) * WORDS_PER_BUCKET;

function isIn(layer: Layer, sha1: Buffer): boolean {
  const base = bucketOf(layer, sha1);
  let bits = sha1.readUInt32LE(4);
  let more = sha1.readUInt32LE(8);
  for (let i = 0; i < PROBES; i++) {
    if ((layer.words[base + ((bits & (BITS_PER_BUCKET - 1)) >>> 5)]! & (1 << (bits & 31))) === 0)
      return false;
    bits = (bits >>> 9) | (more << 23);
    more >>>= 9;
  }
  return true;
}
