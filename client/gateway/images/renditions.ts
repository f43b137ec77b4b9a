import { LRUCache } from 'lru-cache';
import { isTfsError, TfsError } from '../../../common/errors.ts';
import type { Millis } from '../../../common/ids.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import { MediaType } from '../../../common/wire/messages.ts';
import { dimensionsOf } from '../dimensions.ts';
import type { HotPictures } from '../hot-pictures.ts';
import { kindOf, mimeOf } from '../media.ts';
import { isAbsence } from '../vouching.ts';
import type { Decoders } from './decoders.ts';
import type { CachedRendition, DiskCache } from './disk-cache.ts';
import type { MemoryCache, ReadyRendition } from './memory-cache.ts';
import type { Original } from './originals.ts';
import type { Settled } from './settled.ts';

/** The other workers of the gateway: each rendition is made by one of them. */
export interface MadeElsewhere {
  /** @returns undefined where it is for this worker to make, or the one whose it is cannot be reached */
  make(name: string, settled: Settled): Promise<CachedRendition | undefined>;
}

export interface RenditionsOptions {
  readonly clock: Clock;
  readonly hot: HotPictures;
  readonly memory: MemoryCache;
  readonly disk: DiskCache | undefined;
  readonly decoders: Decoders;
  readonly elsewhere: MadeElsewhere;
  /** Of an original, one frame. */
  readonly pixelsMax: number;
  /** How long it is remembered that a rendition cannot be made. */
  readonly failureMs: Millis;
}

/** Originals read for renditions that wait or are being made, all together. */
const ORIGINALS_BYTES_MAX = 256 * 1024 * 1024;
const FAILURES_MAX = 10_000;
const RETRY_MS = 1_000;

/** What nothing here decodes; SVG could fetch and run what it likes. */
const UNREADABLE: ReadonlySet<MediaType> = new Set([
  ...[MediaType.UNKNOWN, MediaType.SVG, MediaType.HEIC, MediaType.JXL, MediaType.BMP, MediaType.ICO],
]);

interface Making {
  readonly startedAt: Millis;
  readonly promise: Promise<ReadyRendition>;
  /** The picture changed since: what comes of it is not to be kept. */
  isForgotten: boolean;
}

/**
 * Renditions from memory, from disk, from another worker or made, in this order, each once for all who ask for it. Whether
 * the picture may be shown at all is for the caller to know, before and after.
 */
export class Renditions {
  readonly stats = { memory: 0, disk: 0, elsewhere: 0, made: 0, failed: 0, remembered: 0, refused: 0 };
  readonly #options: RenditionsOptions;
  readonly #making = new Map<string, Making>();
  readonly #failures: LRUCache<string, TfsError>;
  #originalBytes = 0;

  constructor(options: RenditionsOptions) {
    this.#options = options;
    this.#failures = new LRUCache({
      max: FAILURES_MAX,
      ttl: Math.max(1, options.failureMs),
      perf: { now: () => options.clock.monotonic() },
    });
  }

  /** @param id of {@link Settled.id} */
  ready(id: string): ReadyRendition | undefined {
    const found = this.#options.memory.get(id);
    if (found !== undefined) this.stats.memory++;
    return found;
  }

  /**
   * @param isOurs another worker has asked: it is made here
   * @throws TfsError UNDECODABLE, TOO_MANY_PIXELS, TOO_LARGE, OVERLOADED; what reading the original throws
   */
  async get(original: Original, settled: Settled, isOurs = false): Promise<ReadyRendition> {
    const now = this.#options.clock.monotonic();
    const making = this.#making.get(settled.id);
    if (making === undefined) return this.#start(original, settled, isOurs);
    try {
      return await making.promise;
    } catch (error) {
      // Found out, perhaps, before it was brought back, and that before this was asked for.
      if (!isAbsence(error) || making.startedAt >= now) throw error;
      return this.#making.get(settled.id)?.promise ?? this.#start(original, settled, isOurs);
    }
  }

  /** The picture changes: nothing is kept of it, on disk too. */
  async forget(name: string): Promise<void> {
    for (const [id, making] of this.#making)
      if (id.startsWith(name)) {
        making.isForgotten = true;
        this.#making.delete(id);
      }
    this.#options.memory.forget(name);
    await this.#options.disk?.forget(name);
  }

  #start(original: Original, settled: Settled, isOurs: boolean): Promise<ReadyRendition> {
    const { id } = settled;
    const failure = this.#failures.get(id);
    if (failure !== undefined) {
      this.stats.remembered++;
      return Promise.reject(failure);
    }
    const mine: Making = {
      startedAt: this.#options.clock.monotonic(),
      promise: Promise.resolve().then(() => this.#find(original, settled, isOurs, mine)),
      isForgotten: false,
    };
    this.#making.set(id, mine);
    const done = () => {
      if (this.#making.get(id) === mine) this.#making.delete(id);
    };
    mine.promise.then(done, (error: unknown) => {
      done();
      if (isLasting(error) && !mine.isForgotten) this.#failures.set(id, error);
    });
    return mine.promise;
  }

  async #find(
    original: Original,
    settled: Settled,
    isOurs: boolean,
    making: Making,
  ): Promise<ReadyRendition> {
    const { memory, disk, elsewhere } = this.#options;
    const key = { name: original.name, spelling: settled.spelling };
    const onDisk = await disk?.get(key);
    if (onDisk !== undefined) this.stats.disk++;
    let found = onDisk ?? (isOurs ? undefined : await elsewhere.make(original.name, settled));
    if (found === undefined) {
      found = await this.#make(original, settled);
      if (!making.isForgotten) await disk?.put(key, found);
      if (making.isForgotten) await disk?.forget(original.name);
    } else if (onDisk === undefined) this.stats.elsewhere++;
    return making.isForgotten
      ? memory.ready(original.name, settled, found)
      : memory.keep(original.name, settled, found);
  }

  async #make(original: Original, { rendition }: Settled): Promise<CachedRendition> {
    const { size, mediaType } = original;
    if (UNREADABLE.has(kindOf(mediaType)))
      throw new TfsError(
        'UNDECODABLE',
        `no renditions are made of ${mimeOf(mediaType)}: only the original is served`,
      );
    if (this.#originalBytes + size > ORIGINALS_BYTES_MAX && this.#originalBytes > 0) {
      this.stats.refused++;
      throw new TfsError('OVERLOADED', 'too many renditions wait to be made', { retryAfterMs: RETRY_MS });
    }
    this.#originalBytes += size;
    try {
      const bytes = await this.#read(original);
      const pixels = this.#pixelsOf(bytes, original.mediaType);
      const made = await this.#options.decoders.make({ original: bytes, rendition, pixels });
      this.stats.made++;
      return made;
    } catch (error) {
      this.stats.failed++;
      throw error;
    } finally {
      this.#originalBytes -= size;
    }
  }

  async #read({ name, key }: Original): Promise<Buffer> {
    const { hot } = this.#options;
    const kept = hot.get(name);
    // Its flags were asked for a moment ago, by whoever wants the rendition.
    if (kept !== undefined) return kept.payload;
    return (await hot.load(name, key)).bytes();
  }

  /** @throws TfsError TOO_MANY_PIXELS by the header alone: no decoder is troubled with it */
  #pixelsOf(bytes: Buffer, mediaType: number): number | undefined {
    const { width, height } = dimensionsOf(bytes, kindOf(mediaType));
    if (width === null || height === null) return undefined;
    const { pixelsMax } = this.#options;
    const pixels = width * height;
    if (pixels > pixelsMax)
      throw new TfsError(
        'TOO_MANY_PIXELS',
        `the picture has ${width} x ${height} pixels, more than the ${pixelsMax} of which renditions are made`,
      );
    return pixels;
  }
}

/** The same again whenever it is asked for: not worth another try at once. */
const isLasting = (error: unknown): error is TfsError =>
  isTfsError(error, 'UNDECODABLE') || isTfsError(error, 'TOO_MANY_PIXELS') || isTfsError(error, 'TOO_LARGE');
