import type { Incarnation, ServerId } from '../common/ids.ts';
import { PAIR_FAILURES_PER_MINUTE_MAX, PAIR_RESTARTS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';

const MINUTE_MS = 60_000;

export interface PairHealthDeps {
  readonly clock: Clock;
  /** Undefined while the server is not known. */
  readonly incarnationOf: (server: ServerId) => Incarnation | undefined;
}

interface Pair {
  /** Monotonic. */
  failedAtMs: number[];
  heldUntilMs: number;
  /** Holds so far, without a long quiet time between them. */
  holds: number;
  incarnations: string;
  /** Monotonic: when a restart of either was noticed. */
  restartedAtMs: number[];
}

/**
 * Pairs of DataServers whose write sessions keep failing, as over a link that comes and goes. Each failed session is a
 * block to be sealed and another one to be opened; without a bound a bad cable would fill the cluster with small blocks.
 * After a few failures in a minute no block is placed on both of them for a while, which grows. A server that was
 * restarted once or twice is not held for it.
 */
export class PairHealth {
  readonly stats = { holds: 0 };
  readonly #deps: PairHealthDeps;
  readonly #pairs = new Map<string, Pair>();

  constructor(deps: PairHealthDeps) {
    this.#deps = deps;
  }

  /** A session of this primary is over because of that member. */
  failed(primary: ServerId, member: ServerId): void {
    if (primary === member) return;
    const now = this.#deps.clock.monotonic();
    const pair = this.#pair(primary, member);
    this.#noticeRestart(pair, primary, member, now);
    pair.failedAtMs = [...pair.failedAtMs.filter((at) => now - at < MINUTE_MS), now];
    if (pair.failedAtMs.length < PAIR_FAILURES_PER_MINUTE_MAX || now < pair.heldUntilMs) return;
    if (now - pair.heldUntilMs > tunable.pairHoldMsMax) pair.holds = 0;
    pair.heldUntilMs = now + Math.min(tunable.pairHoldMsMax, tunable.pairHoldMsMin * 2 ** pair.holds++);
    pair.failedAtMs = [];
    this.stats.holds++;
    mark('pair-held');
  }

  /** Whether no block is to be placed on both, if there are others. */
  isHeld(a: ServerId, b: ServerId): boolean {
    const pair = this.#pairs.get(keyOf(a, b));
    if (pair === undefined) return false;
    const now = this.#deps.clock.monotonic();
    this.#noticeRestart(pair, a, b, now);
    return now < pair.heldUntilMs;
  }

  get held(): number {
    const now = this.#deps.clock.monotonic();
    let held = 0;
    for (const { heldUntilMs } of this.#pairs.values()) if (now < heldUntilMs) held++;
    return held;
  }

  #pair(a: ServerId, b: ServerId): Pair {
    const key = keyOf(a, b);
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      pair = {
        failedAtMs: [],
        heldUntilMs: Number.NEGATIVE_INFINITY,
        holds: 0,
        incarnations: this.#incarnations(a, b),
        restartedAtMs: [],
      };
      this.#pairs.set(key, pair);
    }
    return pair;
  }

  #noticeRestart(pair: Pair, a: ServerId, b: ServerId, now: number): void {
    const incarnations = this.#incarnations(a, b);
    if (incarnations === pair.incarnations) return;
    pair.incarnations = incarnations;
    pair.restartedAtMs = [...pair.restartedAtMs.filter((at) => now - at < tunable.pairRestartsMs), now];
    if (pair.restartedAtMs.length > PAIR_RESTARTS_MAX) return;
    pair.failedAtMs = [];
    pair.heldUntilMs = Math.min(pair.heldUntilMs, now);
  }

  #incarnations(a: ServerId, b: ServerId): string {
    const [low, high] = a < b ? [a, b] : [b, a];
    return `${this.#deps.incarnationOf(low)} ${this.#deps.incarnationOf(high)}`;
  }
}

const keyOf = (a: ServerId, b: ServerId): string => (a < b ? `${a} ${b}` : `${b} ${a}`);
