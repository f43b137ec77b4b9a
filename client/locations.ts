import { LRUCache } from 'lru-cache';
import { TfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import {
  decodeLocateReply,
  encodeLocate,
  LOCATE_BLOCKS_MAX,
  type LocateReply,
  LocateState,
  Op,
} from '../common/wire/messages.ts';
import type { ClusterMapCache } from './cluster-map.ts';
import type { NameServers } from './nameservers.ts';

export interface BlockLocation {
  /** At least one. */
  readonly members: readonly ServerId[];
  /** Sequencer of the block's operations; undefined when not known. */
  readonly opsPrimary: ServerId | undefined;
}

interface Waiter {
  readonly promise: Promise<BlockLocation>;
  readonly resolve: (location: BlockLocation) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Which DataServers hold a block, as far as anyone told. An entry may be stale: it is a hint where to ask, and who
 * finds it useless invalidates it. Questions of one turn of the event loop travel in one LOCATE.
 */
export class Locations {
  readonly #cache = new LRUCache<BlockId, BlockLocation>({ max: tunable.locationCacheBlocksMax });
  readonly #waiting = new Map<BlockId, Waiter>();
  #queue: BlockId[] = [];
  readonly #nameservers: NameServers;
  readonly #map: ClusterMapCache;

  readonly #clock: Clock;

  constructor(nameservers: NameServers, map: ClusterMapCache, clock: Clock) {
    this.#nameservers = nameservers;
    this.#map = map;
    this.#clock = clock;
  }

  cached(block: BlockId): BlockLocation | undefined {
    return this.#cache.get(block);
  }

  /** What the ack of a write says: nobody needs to ask for this block. */
  seed(block: BlockId, location: BlockLocation): void {
    if (location.members.length > 0) this.#cache.set(block, location);
  }

  /** @param location the one found useless: a newer one stays */
  invalidate(block: BlockId, location: BlockLocation): void {
    if (this.#cache.peek(block) === location) this.#cache.delete(block);
  }

  /**
   * Asks the NameServers, not the cache.
   * @throws TfsError NOT_FOUND when the leader knows that there is no such block; DONT_KNOW; UNAVAILABLE
   */
  locate(block: BlockId): Promise<BlockLocation> {
    const asked = this.#waiting.get(block);
    if (asked !== undefined) return asked.promise;
    const { promise, resolve, reject } = withResolvers<BlockLocation>();
    this.#waiting.set(block, { promise, resolve, reject });
    if (this.#queue.length === 0) this.#clock.soon(() => this.#flush());
    this.#queue.push(block);
    return promise;
  }

  #flush(): void {
    const blocks = this.#queue;
    this.#queue = [];
    for (let at = 0; at < blocks.length; at += LOCATE_BLOCKS_MAX)
      this.#askAll(blocks.slice(at, at + LOCATE_BLOCKS_MAX)).catch((error: unknown) => {
        for (const block of blocks) this.#settle(block, (waiter) => waiter.reject(error));
      });
  }

  async #askAll(blocks: readonly BlockId[]): Promise<void> {
    const open = new Set(blocks);
    const { isDone, isAnswered, error } = await this.#nameservers.ask(
      Op.LOCATE,
      () => encodeLocate([...open]),
      (reply) => {
        this.#take(decodeLocateReply(reply.header), open);
        return open.size === 0;
      },
    );
    if (isDone) return;
    this.#map.noteTrouble();
    const failure = isAnswered
      ? new TfsError('DONT_KNOW', 'no NameServer can tell yet where this block is', { retryAfterMs: 1000 })
      : new TfsError('UNAVAILABLE', 'no NameServer answers', { cause: error, retryAfterMs: 1000 });
    for (const block of open) this.#settle(block, (waiter) => waiter.reject(failure));
  }

  #take({ mapVersion, locations }: LocateReply, open: Set<BlockId>): void {
    this.#map.noteVersion(mapVersion);
    for (const { block, state, members, opsPrimary } of locations) {
      // Another NameServer was faster.
      if (!open.has(block)) continue;
      if (state === LocateState.ABSENT) this.#settle(block, (waiter) => waiter.reject(absent(block)), open);
      else if (state === LocateState.FOUND && members.length > 0) {
        const location = { members, opsPrimary: opsPrimary === 0 ? undefined : (opsPrimary as ServerId) };
        this.#cache.set(block, location);
        this.#settle(block, (waiter) => waiter.resolve(location), open);
      }
    }
  }

  #settle(block: BlockId, end: (waiter: Waiter) => void, open?: Set<BlockId>): void {
    open?.delete(block);
    const waiter = this.#waiting.get(block);
    if (waiter === undefined) return;
    this.#waiting.delete(block);
    end(waiter);
  }
}

const absent = (block: BlockId): TfsError => new TfsError('NOT_FOUND', `there is no block ${block}`);

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
