import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { CounterRedis } from '../../common/adapters/counter-redis.ts';
import type { QuotaPeriod, UploadPolicy } from '../../common/config-uploads.ts';
import { TfsError } from '../../common/errors.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Token } from '../../common/secrets.ts';

export interface UploadLimitsOptions {
  readonly clock: Clock;
  /** Where all gateways count together; without it each process counts by itself. Closed by whoever opened it. */
  readonly redis?: CounterRedis;
  /** 32 hex digits: several clusters may share a Redis. */
  readonly clusterUuid?: string;
}

/** Bytes that were counted, to be given back when nothing was stored after all. */
export interface Charge {
  refund(): void;
}

/**
 * Counts what is uploaded with each token, against the rate and the quota of its policy: in Redis, so that all workers of all
 * gateways count together, and at the same time here. While Redis is away, or silent for longer than a moment, each process
 * goes by what it knows itself: no upload waits for Redis, or is refused because of it.
 */
export class UploadLimits {
  /** How often something was counted without Redis, where there should be one. */
  countedAlone = 0;
  readonly #options: UploadLimitsOptions;
  /** By policy: there are no more of them than the configuration has. */
  readonly #rates = new Map<string, Counter>();
  readonly #quotas = new Map<string, Counter>();

  constructor(options: UploadLimitsOptions) {
    this.#options = options;
  }

  /**
   * Before a body is read: counts one picture, and looks whether `bytes` more would fit the quota.
   * @param bytes as far as they are known; 0 when they are not
   * @throws TfsError RATE_LIMITED, QUOTA_EXCEEDED, with the time until it is worth trying again
   */
  async admit(token: Token, bytes: number): Promise<void> {
    const { quota } = token.policy;
    if (quota !== undefined) {
      const period = periodOf(quota.period, this.#options.clock.now());
      const used = await this.#quotaOf(token.policy).used(keyOf(token, period));
      if (used + Math.max(1, bytes) > quota.bytes) throw this.#quotaExceeded(token, period, used);
    }
    await this.another(token);
  }

  /** Counts one picture more of a request. @throws TfsError RATE_LIMITED */
  async another(token: Token): Promise<void> {
    const { policy } = token;
    if (policy.rate === undefined) return;
    const { burst, perSecond } = policy.rate;
    const taken = await this.#rateOf(policy).take(token.name, 1);
    if (taken.granted) return;
    throw new TfsError(
      'RATE_LIMITED',
      `with this token no more than ${burst} pictures may be stored in ${Math.ceil(burst / perSecond)} s`,
      { retryAfterMs: Math.max(1, taken.msBeforeNext) },
    );
  }

  /**
   * Counts the bytes of a picture that is about to be stored.
   * @returns undefined when the policy has no quota
   * @throws TfsError QUOTA_EXCEEDED; they are not counted then
   */
  async charge(token: Token, bytes: number): Promise<Charge | undefined> {
    const { quota } = token.policy;
    if (quota === undefined) return undefined;
    const period = periodOf(quota.period, this.#options.clock.now());
    const counter = this.#quotaOf(token.policy);
    const key = keyOf(token, period);
    const seconds = Math.ceil(period.leftMs / 1000);
    const taken = await counter.take(key, bytes, seconds);
    if (!taken.granted) throw this.#quotaExceeded(token, period, taken.used);
    return { refund: () => counter.giveBack(key, bytes, seconds) };
  }

  #rateOf(policy: UploadPolicy): Counter {
    const { burst, perSecond } = policy.rate!;
    return this.#counter(this.#rates, policy.name, 'rate', burst, Math.ceil(burst / perSecond));
  }

  #quotaOf(policy: UploadPolicy): Counter {
    return this.#counter(this.#quotas, policy.name, 'quota', policy.quota!.bytes, MEMORY_SECONDS_MAX);
  }

  #counter(
    all: Map<string, Counter>,
    policy: string,
    kind: string,
    points: number,
    seconds: number,
  ): Counter {
    let counter = all.get(policy);
    if (counter === undefined) {
      const { redis, clusterUuid = '' } = this.#options;
      const prefix = `tfs:{${clusterUuid}}:${kind}`;
      counter = new Counter({ points, seconds, prefix, redis, onAlone: () => this.countedAlone++ });
      all.set(policy, counter);
    }
    return counter;
  }

  #quotaExceeded(token: Token, period: Period, used: number): TfsError {
    const { bytes, period: kind } = token.policy.quota!;
    return new TfsError(
      'QUOTA_EXCEEDED',
      `with this token no more than ${bytes} bytes may be stored in a ${kind} of UTC, and ${used} were in ${period.label}`,
      { retryAfterMs: period.leftMs, details: { quotaBytes: bytes, usedBytes: used } },
    );
  }
}

/** Timers of Node hold 24 days. Keys of quotas name their period, so one that is forgotten early counts from nothing. */
const MEMORY_SECONDS_MAX = 20 * 86_400;

/**
 * Adds to a counter what fits below its limit, and nothing otherwise; what is given back never makes it less than nothing.
 * KEYS: the counter. ARGV: points (may be negative), seconds it lives, limit. Returns what it would be, and for how long.
 */
const TAKE = `
redis.call('set', KEYS[1], 0, 'EX', ARGV[2], 'NX')
local now = tonumber(redis.call('get', KEYS[1]))
local wanted = math.max(0, now + tonumber(ARGV[1]))
if wanted <= tonumber(ARGV[3]) or wanted < now then
  redis.call('incrby', KEYS[1], string.format('%.0f', wanted - now))
end
return {wanted, redis.call('pttl', KEYS[1])}`;

interface CounterOptions {
  readonly points: number;
  readonly seconds: number;
  readonly prefix: string;
  readonly redis: CounterRedis | undefined;
  readonly onAlone: () => void;
}

interface Taken {
  readonly granted: boolean;
  /** Points before. */
  readonly used: number;
  readonly msBeforeNext: number;
}

/** Counters of one policy: one key for each token, in windows of fixed length that begin with the first use. */
class Counter {
  readonly #options: CounterOptions;
  readonly #memory: RateLimiterMemory;
  readonly #shared: RateLimiterRedis | undefined;

  constructor(options: CounterOptions) {
    this.#options = options;
    const { points, redis } = options;
    const shape = { points, duration: options.seconds, keyPrefix: options.prefix };
    this.#memory = new RateLimiterMemory({
      ...shape,
      duration: Math.min(options.seconds, MEMORY_SECONDS_MAX),
    });
    if (redis !== undefined)
      this.#shared = new RateLimiterRedis({
        ...shape,
        storeClient: redis,
        rejectIfRedisNotReady: true,
        customIncrTtlLuaScript: TAKE,
      });
  }

  async take(key: string, points: number, seconds = this.#options.seconds): Promise<Taken> {
    const shared = await this.#ask((limiter) =>
      limiter.consume(key, points, { customDuration: seconds }).catch(refusal),
    );
    if (shared !== undefined) {
      const granted = shared.consumedPoints <= this.#options.points;
      const used = shared.consumedPoints - points;
      // So that it is known here, too, when Redis goes away.
      await this.#memory.set(
        key,
        granted ? shared.consumedPoints : used,
        Math.min(seconds, MEMORY_SECONDS_MAX),
      );
      return { granted, used, msBeforeNext: shared.msBeforeNext };
    }
    const options = { customDuration: Math.min(seconds, MEMORY_SECONDS_MAX) };
    const own = await this.#memory.consume(key, points, options).catch(refusal);
    const granted = own.consumedPoints <= this.#options.points;
    if (!granted) await this.#memory.reward(key, points, options);
    return { granted, used: own.consumedPoints - points, msBeforeNext: own.msBeforeNext };
  }

  async used(key: string): Promise<number> {
    const shared = await this.#ask(async (limiter) => ({
      points: (await limiter.get(key))?.consumedPoints ?? 0,
    }));
    return shared?.points ?? (await this.#memory.get(key))?.consumedPoints ?? 0;
  }

  /** Nobody waits for it: what is not given back, because Redis is away just then, is lost to the client. */
  giveBack(key: string, points: number, seconds: number): void {
    void this.#ask((limiter) => limiter.reward(key, points, { customDuration: seconds }));
    void this.#memory.reward(key, points, { customDuration: Math.min(seconds, MEMORY_SECONDS_MAX) });
  }

  /** @returns undefined where there is no Redis, or it does not answer */
  async #ask<T>(work: (limiter: RateLimiterRedis) => Promise<T>): Promise<T | undefined> {
    if (this.#shared === undefined) return undefined;
    try {
      return await work(this.#shared);
    } catch {
      this.#options.redis?.doubt();
      this.#options.onAlone();
      return undefined;
    }
  }
}

/** What the library throws when a limit is reached is an answer; everything else is trouble. */
function refusal(thrown: unknown): RateLimiterRes {
  if (thrown instanceof RateLimiterRes) return thrown;
  throw thrown;
}

interface Period {
  /** 2026-11-28, or 2026-11. */
  readonly label: string;
  readonly leftMs: number;
}

const keyOf = (token: Token, period: Period): string => `${period.label}:${token.name}`;

/** @param nowMs wall clock */
export function periodOf(kind: QuotaPeriod, nowMs: number): Period {
  const now = new Date(nowMs);
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const end = kind === 'day' ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1);
  return { label: now.toISOString().slice(0, kind === 'day' ? 10 : 7), leftMs: Math.max(1, end - nowMs) };
}
