import { LRUCache } from 'lru-cache';
import { isTfsError, TfsError } from '../../common/errors.ts';
import type { Millis } from '../../common/ids.ts';
import { HOT_PICTURE_CHECK_MS, WHOLE_READ_BYTES_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { TfsClient } from '../client.ts';
import type { Picture } from '../picture.ts';
import type { PictureKey } from '../reader.ts';
import { type PictureHead, pictureHead } from './picture-head.ts';

/** A picture in memory, ready to be sent. */
export interface HotPicture extends PictureHead {
  readonly key: PictureKey;
  readonly payload: Buffer;
  /** Monotonic time at which the flags seen last were asked for. */
  checkedAt: Millis;
  checking: Pending<boolean> | undefined;
}

interface Pending<T> {
  readonly startedAt: Millis;
  readonly promise: Promise<T>;
}

const UNREADABLE = NameFlag.DELETED | NameFlag.HIDDEN | NameFlag.PURGED;
/** Head, headers and the cache's own book-keeping: what an entry costs besides its payload. */
const ENTRY_BYTES = 1024;

/**
 * Pictures asked for lately, as many as fit. What a name holds never changes, but it may be deleted or hidden: an entry
 * is used for {@link HOT_PICTURE_CHECK_MS} after its flags were asked for, then they are asked for again.
 */
export class HotPictures {
  readonly #client: TfsClient;
  readonly #clock: Clock;
  readonly #cache: LRUCache<string, HotPicture> | undefined;
  readonly #loading = new Map<string, Pending<Picture>>();

  /** @param bytesMax 0 keeps nothing */
  constructor(client: TfsClient, clock: Clock, bytesMax: number) {
    this.#client = client;
    this.#clock = clock;
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
    return this.#clock.monotonic() - picture.checkedAt <= HOT_PICTURE_CHECK_MS;
  }

  /**
   * Asks for the flags again, once for all who wait.
   *
   * @returns whether a replica that is current vouches for it; if not, it is asked for again the next time
   * @throws TfsError NOT_FOUND when it must not be shown; 503
   */
  recheck(name: string, picture: HotPicture): Promise<boolean> {
    const now = this.#clock.monotonic();
    const { checking } = picture;
    if (checking === undefined || !this.#isYoung(checking, now)) return this.#startCheck(name, picture, now);
    return checking.promise.catch((error: unknown) => {
      if (!isAbsence(error)) throw error;
      const newer = picture.checking;
      return newer !== undefined && newer.startedAt >= now
        ? newer.promise
        : this.#startCheck(name, picture, this.#clock.monotonic());
    });
  }

  #startCheck(name: string, picture: HotPicture, now: Millis): Promise<boolean> {
    const promise = this.#recheck(name, picture, now);
    const mine: Pending<boolean> = { startedAt: now, promise };
    picture.checking = mine;
    const done = () => {
      if (picture.checking === mine) picture.checking = undefined;
    };
    promise.then(done, done);
    return promise;
  }

  async #recheck(name: string, picture: HotPicture, askedAt: Millis): Promise<boolean> {
    try {
      const { nameFlags, provisional } = await this.#client.check(picture.key);
      if ((nameFlags & UNREADABLE) !== 0) throw new TfsError('NOT_FOUND', 'there is no such picture');
      if (!provisional && askedAt > picture.checkedAt) picture.checkedAt = askedAt;
      return !provisional;
    } catch (error) {
      // What cannot be checked stays: the bytes are right whenever somebody can vouch for the name again.
      if (isTfsError(error, 'NOT_FOUND') && this.#cache?.peek(name) === picture) this.#cache.delete(name);
      throw error;
    }
  }

  /**
   * Reads the picture, or its first piece when it is large; who asks for the same one meanwhile gets the same answer,
   * but a "not there" of a moment before it asked. What fits is kept.
   */
  load(name: string, key: PictureKey): Promise<Picture> {
    const now = this.#clock.monotonic();
    const loading = this.#loading.get(name);
    if (loading === undefined || !this.#isYoung(loading, now)) return this.#startLoad(name, key, now);
    return loading.promise.catch((error: unknown) => {
      if (!isAbsence(error)) throw error;
      const newer = this.#loading.get(name);
      return newer !== undefined && newer.startedAt >= now
        ? newer.promise
        : this.#startLoad(name, key, this.#clock.monotonic());
    });
  }

  /** One that was asked long ago, and waits for a server that hangs, may have been answered before a delete. */
  #isYoung({ startedAt }: Pending<unknown>, now: Millis): boolean {
    return now - startedAt <= HOT_PICTURE_CHECK_MS;
  }

  #startLoad(name: string, key: PictureKey, now: Millis): Promise<Picture> {
    const mine: Pending<Picture> = { startedAt: now, promise: this.#client.get(key) };
    this.#loading.set(name, mine);
    const done = () => {
      const current = this.#loading.get(name) === mine;
      if (current) this.#loading.delete(name);
      return current;
    };
    mine.promise.then(
      // Forgotten meanwhile: it may have been deleted, so it is answered to those who asked before, and not kept.
      (picture) => done() && this.#keep(name, key, picture, now),
      done,
    );
    return mine.promise;
  }

  /** Its state changes: what is known of it does not count any more. */
  forget(name: string): void {
    this.#loading.delete(name);
    this.#cache?.delete(name);
  }

  #keep(name: string, key: PictureKey, picture: Picture, askedAt: Millis): void {
    if (this.#cache === undefined || !picture.isWhole || picture.facts.provisional) return;
    this.#cache.set(name, {
      ...pictureHead(picture.facts),
      key,
      payload: owned(picture.first),
      checkedAt: askedAt,
      checking: undefined,
    });
  }
}

/** Said of the moment it was asked: since then an undelete, or a reveal, may have been acknowledged. */
const isAbsence = (error: unknown): boolean => isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'GONE');

/** A slice of a larger read would keep all of it in memory. */
const owned = (bytes: Buffer): Buffer =>
  bytes.buffer.byteLength > bytes.length + ENTRY_BYTES ? copied(bytes) : bytes;

function copied(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
