import { LRUCache } from 'lru-cache';
import type { Millis } from '../../common/ids.ts';
import { HOT_PICTURE_UNCHECKED_MS_MAX, WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { TfsClient } from '../client.ts';
import type { Picture } from '../picture.ts';
import type { PictureKey } from '../reader.ts';
import type { CacheRules } from './cache-rules.ts';
import { type OriginalHead, pictureHead } from './picture-head.ts';
import { Coalesced, type Vouched, Vouching } from './vouching.ts';

/** A picture in memory, ready to be sent. */
export interface HotPicture extends OriginalHead, Vouched {
  readonly payload: Buffer;
}

/** Head, headers and the cache's own book-keeping: what an entry costs besides its payload. */
const ENTRY_BYTES = 1024;

/**
 * Pictures asked for lately, as many as fit. What a name holds never changes, but it may be deleted or hidden: an entry
 * is used for {@link HOT_PICTURE_CHECK_MS} after its flags were asked for, then they are asked for again.
 */
export class HotPictures {
  readonly #client: TfsClient;
  readonly #clock: Clock;
  readonly #rules: CacheRules;
  readonly #cache: LRUCache<string, HotPicture> | undefined;
  readonly #loading: Coalesced<Picture>;
  readonly #vouching: Vouching<HotPicture>;

  /** @param bytesMax 0 keeps nothing */
  constructor(client: TfsClient, clock: Clock, rules: CacheRules, bytesMax: number) {
    this.#client = client;
    this.#rules = rules;
    this.#clock = clock;
    this.#loading = new Coalesced(clock);
    this.#vouching = new Vouching(client, clock, (name, picture) => {
      if (this.#cache?.peek(name) === picture) this.#cache.delete(name);
    });
    if (bytesMax > 0)
      this.#cache = new LRUCache({
        maxSize: bytesMax,
        maxEntrySize: Math.min(bytesMax, WHOLE_READ_BYTES_MAX + ENTRY_BYTES),
        sizeCalculation: (picture) => picture.payload.length + ENTRY_BYTES,
      });
  }

  get bytes(): number {
    return this.#cache?.calculatedSize ?? 0;
  }

  get count(): number {
    return this.#cache?.size ?? 0;
  }

  /** @param name its 18 characters, which only one key has */
  get(name: string): HotPicture | undefined {
    return this.#cache?.get(name);
  }

  isFresh(picture: HotPicture): boolean {
    return this.#vouching.isFresh(picture);
  }

  /** As {@link Vouching.recheck}. */
  recheck(name: string, picture: HotPicture): Promise<boolean> {
    return this.#vouching.recheck(name, picture);
  }

  /**
   * Reads the picture, or its first piece when it is large; who asks for the same one meanwhile gets the same answer,
   * but a "not there" of a moment before it asked. What fits is kept.
   */
  load(name: string, key: PictureKey): Promise<Picture> {
    return this.#loading.get(
      name,
      () => this.#client.get(key),
      // Forgotten meanwhile: it may have been deleted, so it is answered to those who asked before, and not kept.
      (picture, askedAt) => this.#keep(name, key, picture, askedAt),
    );
  }

  /**
   * Lets go of pictures of which nobody has asked for a while whether they may be shown: they may have been erased, and the
   * bytes of those are to be nowhere. To be called now and then.
   */
  sweep(): void {
    const now = this.#clock.monotonic();
    for (const [name, { checkedAt }] of this.#cache?.entries() ?? [])
      if (now - checkedAt > HOT_PICTURE_UNCHECKED_MS_MAX) this.#cache?.delete(name);
  }

  /** Its state changes: what is known of it does not count any more. */
  forget(name: string): void {
    this.#loading.forget(name);
    this.#cache?.delete(name);
  }

  #keep(name: string, key: PictureKey, picture: Picture, askedAt: Millis): void {
    if (this.#cache === undefined || !picture.isWhole || picture.facts.provisional) return;
    this.#cache.set(name, {
      ...pictureHead(picture.facts, name, this.#rules),
      key,
      payload: owned(picture.first),
      checkedAt: askedAt,
      checking: undefined,
    });
  }
}

/** A slice of a larger read would keep all of it in memory. */
const owned = (bytes: Buffer): Buffer =>
  bytes.buffer.byteLength > bytes.length + ENTRY_BYTES ? copied(bytes) : bytes;

function copied(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
