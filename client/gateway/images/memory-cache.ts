import { LRUCache } from 'lru-cache';
import type { CacheRules } from '../cache-rules.ts';
import { headOf, type PictureHead } from '../picture-head.ts';
import { mimeOfFormat } from './accept.ts';
import type { CachedRendition } from './disk-cache.ts';
import type { Settled } from './settled.ts';

/** A rendition, ready to be sent. */
export interface ReadyRendition {
  readonly rendition: CachedRendition;
  /** @param varies whether the client's header Accept has decided about the format: the same bytes, another header Vary */
  head(varies: boolean): PictureHead;
}

/** Heads, headers and the cache's own book-keeping: what an entry costs besides its bytes. */
const ENTRY_BYTES = 2_048;

/** Renditions in memory, the least recently used ones let go of when they take more than they may. */
export class MemoryCache {
  readonly #rules: CacheRules;
  readonly #cache: LRUCache<string, Ready> | undefined;
  /** Ids by the name of the picture. */
  readonly #ids = new Map<string, Set<string>>();

  /** @param bytesMax 0 keeps nothing */
  constructor(bytesMax: number, rules: CacheRules) {
    this.#rules = rules;
    if (bytesMax > 0)
      this.#cache = new LRUCache({
        maxSize: bytesMax,
        sizeCalculation: ({ rendition }) => rendition.bytes.length + ENTRY_BYTES,
        dispose: ({ name }, id) => {
          const ids = this.#ids.get(name);
          if (ids?.delete(id) === true && ids.size === 0) this.#ids.delete(name);
        },
      });
  }

  get bytes(): number {
    return this.#cache?.calculatedSize ?? 0;
  }

  get count(): number {
    return this.#cache?.size ?? 0;
  }

  get(id: string): ReadyRendition | undefined {
    return this.#cache?.get(id);
  }

  /** @param name 18 characters */
  keep(name: string, settled: Settled, rendition: CachedRendition): ReadyRendition {
    const ready = new Ready(name, settled.etag, owned(rendition), this.#rules);
    if (this.#cache === undefined) return ready;
    const { id } = settled;
    this.#cache.set(id, ready);
    if (this.#cache.has(id)) {
      const ids = this.#ids.get(name);
      if (ids === undefined) this.#ids.set(name, new Set([id]));
      else ids.add(id);
    }
    return ready;
  }

  /** The same, and nothing is kept. */
  ready(name: string, settled: Settled, rendition: CachedRendition): ReadyRendition {
    return new Ready(name, settled.etag, rendition, this.#rules);
  }

  forget(name: string): void {
    for (const id of [...(this.#ids.get(name) ?? [])]) this.#cache?.delete(id);
  }
}

class Ready implements ReadyRendition {
  readonly name: string;
  readonly rendition: CachedRendition;
  readonly #etag: string;
  readonly #rules: CacheRules;
  #plain: PictureHead | undefined;
  #varying: PictureHead | undefined;

  constructor(name: string, etag: string, rendition: CachedRendition, rules: CacheRules) {
    this.name = name;
    this.rendition = rendition;
    this.#etag = etag;
    this.#rules = rules;
  }

  head(varies: boolean): PictureHead {
    if (varies) {
      this.#varying ??= this.#head(true);
      return this.#varying;
    }
    this.#plain ??= this.#head(false);
    return this.#plain;
  }

  #head(varies: boolean): PictureHead {
    return headOf({
      etag: this.#etag,
      // Another version of the store makes other bytes of the same picture: a date would not tell them apart.
      lastModified: '',
      size: this.rendition.bytes.length,
      mime: mimeOfFormat(this.rendition.format),
      cacheControl: this.#rules.rendition,
      always: this.#rules.always(this.name, varies),
      isSandboxed: false,
    });
  }
}

/** A slice of a larger read would keep all of it in memory. */
function owned(rendition: CachedRendition): CachedRendition {
  const { bytes } = rendition;
  if (bytes.buffer.byteLength <= bytes.length + ENTRY_BYTES) return rendition;
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return { ...rendition, bytes: copy };
}
