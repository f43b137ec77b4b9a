import { LRUCache } from 'lru-cache';
import type { Millis } from '../../../common/ids.ts';
import { HOT_PICTURE_UNCHECKED_MS_MAX } from '../../../common/limits.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import type { ReadReply } from '../../../common/wire/messages.ts';
import type { TfsClient } from '../../client.ts';
import type { PictureKey } from '../../reader.ts';
import { Coalesced, type Vouched, Vouching } from '../vouching.ts';

/** What has to be known of a picture before a rendition of it may be shown. */
export interface Original extends Vouched {
  /** 18 characters. */
  readonly name: string;
  readonly mediaType: number;
  readonly suffixHash: number;
  /** Bytes. */
  readonly size: number;
  readonly sha1: Buffer;
}

/** What was found out about one, and whether a replica that is current says so. */
export interface Found {
  readonly original: Original;
  readonly isConfirmed: boolean;
}

const ENTRIES_MAX = 50_000;

/** Facts of pictures of which renditions were asked for lately, each good for a second; then it is asked for its flags. */
export class Originals {
  readonly #client: TfsClient;
  readonly #clock: Clock;
  readonly #kept: LRUCache<string, Original>;
  readonly #finding: Coalesced<ReadReply>;
  readonly #vouching: Vouching<Original>;

  /**
   * @param onGone told the name of a picture that was found to be deleted or hidden
   * @param onEvicted told the name of one for which there was no more room
   */
  constructor(
    client: TfsClient,
    clock: Clock,
    onGone: (name: string) => void,
    onEvicted: (name: string) => void = () => undefined,
  ) {
    this.#client = client;
    this.#kept = new LRUCache<string, Original>({
      max: ENTRIES_MAX,
      dispose: (_original, name, reason) => {
        if (reason === 'evict') onEvicted(name);
      },
    });
    this.#clock = clock;
    this.#finding = new Coalesced(clock);
    this.#vouching = new Vouching(client, clock, (name, original) => {
      if (this.#kept.peek(name) === original) this.#kept.delete(name);
      onGone(name);
    });
  }

  /** @returns one that may be shown now, or undefined: then {@link find} it */
  fresh(name: string): Original | undefined {
    const kept = this.#kept.get(name);
    return kept !== undefined && this.#vouching.isFresh(kept) ? kept : undefined;
  }

  /** @throws TfsError NOT_FOUND when it must not be shown; 503 */
  async find(name: string, key: PictureKey): Promise<Found> {
    const kept = this.#kept.get(name);
    if (kept !== undefined) return this.#confirmed(kept);
    const askedAt = this.#clock.monotonic();
    const facts = await this.#finding.get(
      name,
      () => this.#client.stat(key),
      (answer, at) => {
        if (!answer.provisional) this.#kept.set(name, originalOf(name, key, answer, at));
      },
    );
    const at = facts.provisional ? Number.NEGATIVE_INFINITY : askedAt;
    const original = this.#kept.peek(name) ?? originalOf(name, key, facts, at as Millis);
    return { original, isConfirmed: !facts.provisional };
  }

  /**
   * To be asked once more when something took long: a picture may have been deleted meanwhile.
   *
   * @throws TfsError as {@link find}
   */
  async still(original: Original): Promise<Found> {
    // One that was let go of meanwhile has changed its state, however short a time ago it was vouched for.
    const isKept = this.#kept.peek(original.name) === original;
    if (isKept) return this.#confirmed(original);
    return { original, isConfirmed: await this.#vouching.recheck(original.name, original) };
  }

  /** Its state changes: what is known of it does not count any more. */
  forget(name: string): void {
    this.#finding.forget(name);
    this.#kept.delete(name);
  }

  /** @returns names of those that were let go of, because nobody has asked for a while whether they may be shown */
  sweep(): string[] {
    const now = this.#clock.monotonic();
    const gone: string[] = [];
    for (const [name, { checkedAt }] of this.#kept.entries())
      if (now - checkedAt > HOT_PICTURE_UNCHECKED_MS_MAX) gone.push(name);
    for (const name of gone) this.#kept.delete(name);
    return gone;
  }

  async #confirmed(original: Original): Promise<Found> {
    if (this.#vouching.isFresh(original)) return { original, isConfirmed: true };
    return { original, isConfirmed: await this.#vouching.recheck(original.name, original) };
  }
}

function originalOf(name: string, key: PictureKey, facts: ReadReply, checkedAt: Millis): Original {
  const { mediaType, suffixHash, size, sha1 } = facts;
  // The key as it came has a tail, which belongs to one request.
  const { block, fileId, cookie } = key;
  return {
    ...{ name, key: { block, fileId, cookie }, mediaType, suffixHash, size },
    ...{ sha1: Buffer.from(sha1), checkedAt, checking: undefined },
  };
}
