import type { Millis, ServerId } from '../common/ids.ts';
import { HEDGE_MS_MAX, SLOW_READ_FACTOR, SLOW_READ_MS_MIN, SLOW_TRIAL_MS } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';

/** One server, as this client has found it. */
interface Pace {
  /** Of its reads, the recent ones counting most; undefined before the first. */
  averageMs: number | undefined;
  /** Questions without an answer yet, and since when it has answered nothing while there were some. */
  waiting: number;
  waitingSince: Millis;
  /** Any answer at all. */
  heardAt: Millis;
  trialAt: Millis;
}

const JUDGE_EVERY_MS = 50;
/** Of a new latency in the average; while one finds out whether it is better again, each counts more. */
const SHARE = 1 / 8;
const SHARE_IN_TRIAL = 1 / 2;
/** Where nobody has answered lately it may be this process that is slow, or all of them: the others are asked first. */
const HEARD_LATELY_MS = 100;
/** A single answer counts as no more than that, so that one stall is not remembered for long. */
const LATENCY_MS_MAX = 2_000;

/**
 * How fast each server answers. One that is much slower than the others, or has gone silent, is `behind`: it is asked
 * after them, but for a trial now and then. A disk on which every access takes half a second longer fails nothing, and
 * is found out only here.
 */
export class ServerPace {
  readonly #clock: Clock;
  readonly #askOthers: (server: ServerId) => void;
  #othersAskedAt = Number.NEGATIVE_INFINITY as Millis;
  readonly #paces = new Map<ServerId, Pace>();
  #behind: ReadonlySet<ServerId> = new Set();
  #judgedAt = Number.NEGATIVE_INFINITY as Millis;
  /** Of whichever server. */
  #heardAt = Number.NEGATIVE_INFINITY as Millis;

  /** @param askOthers has other servers show that they live; each answer is told by {@link heard} */
  constructor(clock: Clock, askOthers: (server: ServerId) => void = () => undefined) {
    this.#clock = clock;
    this.#askOthers = askOthers;
  }

  /** Whether no server is behind. */
  get isEven(): boolean {
    return this.#behind.size === 0;
  }

  isBehind(server: ServerId): boolean {
    return this.#behind.has(server);
  }

  /** Monotonic time of the last answer of whatever kind; -Infinity when there was none. */
  heardAt(server: ServerId): Millis {
    return this.#paces.get(server)?.heardAt ?? (Number.NEGATIVE_INFINITY as Millis);
  }

  /** Whether any other server has answered anything after that moment. */
  isOtherHeard(server: ServerId, since: number): boolean {
    for (const [id, { heardAt }] of this.#paces) if (id !== server && heardAt > since) return true;
    return false;
  }

  /** Whether questions to it are open and none was answered for {@link HEDGE_MS_MAX}, while others do answer. */
  isSilent(server: ServerId): boolean {
    const pace = this.#paces.get(server);
    return pace !== undefined && this.#isSilent(server, pace, this.#clock.monotonic());
  }

  /** @returns true for the one request, now and then, that should go to a server that is behind */
  tryOut(server: ServerId): boolean {
    const pace = this.#paces.get(server);
    const now = this.#clock.monotonic();
    if (pace === undefined || now < pace.trialAt) return false;
    pace.trialAt = (now + SLOW_TRIAL_MS) as Millis;
    return true;
  }

  /** A question leaves for it; each is followed by {@link answered} or {@link failed}. */
  asked(server: ServerId, now: Millis): void {
    const pace = this.#of(server);
    if (pace.waiting++ === 0) pace.waitingSince = now;
    if (now - this.#judgedAt >= JUDGE_EVERY_MS) this.#judge(now);
  }

  /** @param latencyMs of a read, which tells of its disk; undefined for a question that it answers from memory */
  answered(server: ServerId, now: Millis, latencyMs: number | undefined): void {
    const pace = this.#of(server);
    pace.waiting--;
    pace.waitingSince = now;
    pace.heardAt = now;
    this.#heardAt = now;
    if (latencyMs !== undefined) this.#count(server, pace, latencyMs);
  }

  /** @param latencyMs how long it was waited for in vain; undefined where it was not the server that was slow */
  failed(server: ServerId, latencyMs: number | undefined): void {
    const pace = this.#of(server);
    pace.waiting--;
    if (latencyMs !== undefined) this.#count(server, pace, latencyMs);
  }

  /** It answered something outside of reads. */
  heard(server: ServerId): void {
    const pace = this.#of(server);
    pace.heardAt = this.#clock.monotonic();
    this.#heardAt = pace.heardAt;
  }

  #of(server: ServerId): Pace {
    let pace = this.#paces.get(server);
    if (pace === undefined) {
      const never = Number.NEGATIVE_INFINITY as Millis;
      pace = { averageMs: undefined, waiting: 0, waitingSince: never, heardAt: never, trialAt: never };
      this.#paces.set(server, pace);
    }
    return pace;
  }

  #count(server: ServerId, pace: Pace, latencyMs: number): void {
    const sample = Math.min(LATENCY_MS_MAX, latencyMs);
    const share = this.#behind.has(server) ? SHARE_IN_TRIAL : SHARE;
    pace.averageMs =
      pace.averageMs === undefined ? sample : pace.averageMs + (sample - pace.averageMs) * share;
  }

  #judge(now: Millis): void {
    this.#judgedAt = now;
    const behind = new Set<ServerId>();
    for (const [server, pace] of this.#paces) {
      if (!this.#isSilent(server, pace, now) && !this.#isSlow(server, pace)) continue;
      behind.add(server);
      if (!this.#behind.has(server)) pace.trialAt = (now + SLOW_TRIAL_MS) as Millis;
    }
    if (behind.size > 0 || this.#behind.size > 0) this.#behind = behind;
  }

  #isSilent(server: ServerId, { waiting, waitingSince }: Pace, now: Millis): boolean {
    if (waiting === 0 || now - waitingSince <= HEDGE_MS_MAX) return false;
    if (now - this.#heardAt < HEARD_LATELY_MS) return true;
    if (now - this.#othersAskedAt >= HEARD_LATELY_MS) {
      this.#othersAskedAt = now;
      this.#askOthers(server);
    }
    return false;
  }

  #isSlow(server: ServerId, { averageMs }: Pace): boolean {
    if (averageMs === undefined || averageMs <= SLOW_READ_MS_MIN) return false;
    const others: number[] = [];
    for (const [id, pace] of this.#paces)
      if (id !== server && pace.averageMs !== undefined) others.push(pace.averageMs);
    if (others.length === 0) return false;
    others.sort((a, b) => a - b);
    return averageMs > SLOW_READ_FACTOR * others[(others.length - 1) >> 1]!;
  }
}
