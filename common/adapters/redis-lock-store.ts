import { Redis } from 'ioredis';
import { TfsError } from '../errors.ts';
import { LOCK_CALL_MS_MAX } from '../limits.ts';
import type { LockAnswer, LockAsk, LockStore } from '../seams/lock-store.ts';

const RECONNECT_MS_MAX = 500;

/**
 * Atomic in Redis, with its clock. A lock without an end, which nothing here ever makes, is taken over.
 * KEYS: lock, epoch. ARGV: owner, ttl in ms, epoch.
 */
const TAKE = `
local epoch = redis.call('GET', KEYS[2])
if not epoch or not tonumber(epoch) or tonumber(epoch) < tonumber(ARGV[3]) then
  epoch = ARGV[3]
  redis.call('SET', KEYS[2], epoch)
end
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] or redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1, epoch}
end
return {0, epoch}`;

const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 0`;

export interface RedisLockStoreOptions {
  readonly url: string;
  /** 32 hex digits: several clusters may share a Redis. */
  readonly clusterUuid: string;
}

/**
 * The lock in a Redis that may be down, hang, or come back empty. Nothing is queued for a Redis that is not there, and
 * one that does not answer in time is dialled anew, so that no pile of commands waits for it to wake up.
 */
export class RedisLockStore implements LockStore {
  readonly #redis: Redis;
  readonly #lockKey: string;
  readonly #epochKey: string;
  #trouble = '';

  /** Begins to connect and does not wait for it. */
  static open({ url, clusterUuid }: RedisLockStoreOptions): RedisLockStore {
    return new RedisLockStore(
      new Redis(url, {
        // A call looks whether the connection is up and fails at once where it is not.
        enableOfflineQueue: false,
        maxRetriesPerRequest: null,
        autoResendUnfulfilledCommands: false,
        connectTimeout: 2_000,
        retryStrategy: (tries) => Math.min(100 * tries, RECONNECT_MS_MAX),
      }),
      clusterUuid,
    );
  }

  private constructor(redis: Redis, clusterUuid: string) {
    this.#redis = redis;
    // The part in braces puts both keys into one slot of a Redis Cluster.
    this.#lockKey = `tfs:{${clusterUuid}}:leader`;
    this.#epochKey = `tfs:{${clusterUuid}}:epoch`;
    // Each failed dial is one; the caller hears of it by its own calls.
    redis.on('error', (error: Error) => {
      this.#trouble = `: ${error.message}`;
    });
    redis.on('ready', () => {
      this.#trouble = '';
    });
  }

  async take({ owner, ttlMs, epoch }: LockAsk): Promise<LockAnswer> {
    const reply = await this.#bounded((redis) =>
      redis.eval(TAKE, 2, this.#lockKey, this.#epochKey, owner, ttlMs, epoch),
    );
    const [granted, stored] = reply as [number, string];
    return { granted: granted === 1, epoch: Number.isSafeInteger(Number(stored)) ? Number(stored) : 0 };
  }

  async release(owner: string): Promise<void> {
    await this.#bounded((redis) => redis.eval(RELEASE, 1, this.#lockKey, owner));
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }

  async #bounded<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = this.#redis;
    if (redis.status !== 'ready')
      throw new TfsError('UNAVAILABLE', `Redis is not there (${redis.status}${this.#trouble})`);
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        redis.disconnect(true);
        reject(new TfsError('UNAVAILABLE', `Redis did not answer within ${LOCK_CALL_MS_MAX} ms`));
      }, LOCK_CALL_MS_MAX);
    });
    const answer = work(redis).catch((cause: unknown) => {
      throw new TfsError('UNAVAILABLE', `Redis: ${(cause as Error).message}`, { cause });
    });
    try {
      return await Promise.race([answer, expired]);
    } finally {
      clearTimeout(timer);
    }
  }
}
