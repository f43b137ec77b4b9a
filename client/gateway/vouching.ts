import { isTfsError, TfsError } from '../../common/errors.ts';
import type { Millis } from '../../common/ids.ts';
import { HOT_PICTURE_CHECK_MS } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { TfsClient } from '../client.ts';
import type { PictureKey } from '../reader.ts';

/** An answer that is on its way, and when it was asked for: monotonic. */
export interface Pending<T> {
  readonly startedAt: Millis;
  readonly promise: Promise<T>;
}

/** Something kept of a picture, which may be used as long as the picture may be shown. */
export interface Vouched {
  readonly key: PictureKey;
  /** Monotonic time at which the flags seen last were asked for. */
  checkedAt: Millis;
  checking: Pending<boolean> | undefined;
}

const UNREADABLE = NameFlag.DELETED | NameFlag.HIDDEN | NameFlag.PURGED;

/**
 * Whether what is kept of a picture may still be used. What a name holds never changes, but it may be deleted or hidden: the
 * flags that were seen last count for {@link HOT_PICTURE_CHECK_MS} after they were asked for.
 */
export class Vouching<T extends Vouched> {
  readonly #client: TfsClient;
  readonly #clock: Clock;
  readonly #onGone: (name: string, kept: T) => void;

  /** @param onGone told what must not be used any more */
  constructor(client: TfsClient, clock: Clock, onGone: (name: string, kept: T) => void) {
    this.#client = client;
    this.#clock = clock;
    this.#onGone = onGone;
  }

  isFresh(kept: T): boolean {
    return this.#clock.monotonic() - kept.checkedAt <= HOT_PICTURE_CHECK_MS;
  }

  /** One that was asked long ago, and waits for a server that hangs, may have been answered before a delete. */
  #isYoung({ startedAt }: Pending<unknown>, now: Millis): boolean {
    return now - startedAt <= HOT_PICTURE_CHECK_MS;
  }

  /**
   * Asks for the flags again, once for all who wait.
   *
   * @returns whether a replica that is current vouches for it; if not, it is asked for again the next time
   * @throws TfsError NOT_FOUND when it must not be shown; 503
   */
  recheck(name: string, kept: T): Promise<boolean> {
    const now = this.#clock.monotonic();
    const { checking } = kept;
    if (checking === undefined || !this.#isYoung(checking, now)) return this.#start(name, kept, now);
    return checking.promise.catch((error: unknown) => {
      if (!isAbsence(error)) throw error;
      const newer = kept.checking;
      return newer !== undefined && newer.startedAt >= now
        ? newer.promise
        : this.#start(name, kept, this.#clock.monotonic());
    });
  }

  #start(name: string, kept: T, now: Millis): Promise<boolean> {
    const promise = this.#recheck(name, kept, now);
    const mine: Pending<boolean> = { startedAt: now, promise };
    kept.checking = mine;
    const done = () => {
      if (kept.checking === mine) kept.checking = undefined;
    };
    promise.then(done, done);
    return promise;
  }

  async #recheck(name: string, kept: T, askedAt: Millis): Promise<boolean> {
    try {
      const { nameFlags, provisional } = await this.#client.check(kept.key);
      if ((nameFlags & UNREADABLE) !== 0) throw new TfsError('NOT_FOUND', 'there is no such picture');
      if (!provisional && askedAt > kept.checkedAt) kept.checkedAt = askedAt;
      return !provisional;
    } catch (error) {
      // What cannot be checked stays: the bytes are right whenever somebody can vouch for the name again.
      if (isTfsError(error, 'NOT_FOUND')) this.#onGone(name, kept);
      throw error;
    }
  }
}

/** Said of the moment it was asked: since then an undelete, or a reveal, may have been acknowledged. */
export const isAbsence = (error: unknown): boolean =>
  isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'GONE');

/**
 * Answers that are asked for once for all who want them meanwhile; but "not there" is said to nobody who asked after it was
 * found out.
 */
export class Coalesced<T> {
  readonly #pending = new Map<string, Pending<T>>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param ask begins to find the answer, which is of the moment `askedAt`; called synchronously, or not at all
   * @param keep told an answer that was not forgotten meanwhile
   */
  get(name: string, ask: () => Promise<T>, keep: (answer: T, askedAt: Millis) => void): Promise<T> {
    const now = this.#clock.monotonic();
    const pending = this.#pending.get(name);
    if (pending === undefined || now - pending.startedAt > HOT_PICTURE_CHECK_MS)
      return this.#start(name, ask, keep, now);
    return pending.promise.catch((error: unknown) => {
      if (!isAbsence(error)) throw error;
      const newer = this.#pending.get(name);
      return newer !== undefined && newer.startedAt >= now
        ? newer.promise
        : this.#start(name, ask, keep, this.#clock.monotonic());
    });
  }

  /** Whoever waits gets its answer, but it is not kept, and nobody else gets it. */
  forget(name: string): void {
    this.#pending.delete(name);
  }

  #start(
    name: string,
    ask: () => Promise<T>,
    keep: (answer: T, askedAt: Millis) => void,
    now: Millis,
  ): Promise<T> {
    const mine: Pending<T> = { startedAt: now, promise: ask() };
    this.#pending.set(name, mine);
    const done = () => {
      const isCurrent = this.#pending.get(name) === mine;
      if (isCurrent) this.#pending.delete(name);
      return isCurrent;
    };
    mine.promise.then((answer) => done() && keep(answer, now), done);
    return mine.promise;
  }
}
