import type { Millis } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';

/** What the clock of a machine says. */
export interface ClockVote {
  readonly host: string;
  /** By how much its wall clock is ahead of the monotonic clock of this process, ms. */
  readonly leadMs: number;
}

export interface AgreedTimeDeps {
  readonly clock: Clock;
  /** Of this process. */
  readonly host: string;
  /** As heard last, of each DataServer. */
  readonly votes: () => Iterable<ClockVote>;
}

/** Clocks are not asked again before that: every heartbeat wants to know. */
const COUNTED_AGAIN_MS = 1_000;

/**
 * What time it is in the cluster: the median of the clocks of its machines, so that one whose clock is set back or runs
 * ahead, also the leader's own, neither shortens nor ends the time in which a deleted picture may be undeleted. Where two
 * stand against two, or one against one, nobody knows who is right: deletions are dated by the later one, and what is over
 * is judged by the earlier one.
 */
export class AgreedTime {
  readonly #deps: AgreedTimeDeps;
  #lowMs = 0;
  #highMs = 0;
  #countedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: AgreedTimeDeps) {
    this.#deps = deps;
  }

  /** For what must not be too early: whether something is over. Ms since 1970. */
  earliest(): Millis {
    const nowMs = this.#count();
    return Math.floor(nowMs + this.#lowMs) as Millis;
  }

  /** For what must not be too late: when something began. Ms since 1970. */
  latest(): Millis {
    const nowMs = this.#count();
    return Math.floor(nowMs + this.#highMs) as Millis;
  }

  /** @returns the monotonic clock */
  #count(): number {
    const { clock, host, votes } = this.#deps;
    const nowMs = clock.monotonic();
    if (nowMs - this.#countedAtMs < COUNTED_AGAIN_MS) return nowMs;
    this.#countedAtMs = nowMs;
    // A machine has one vote, however many disks it has; its own clock is this one's.
    const leads = new Map<string, number>();
    for (const vote of votes()) leads.set(vote.host, vote.leadMs);
    leads.set(host, clock.now() - nowMs);
    const sorted = Float64Array.from(leads.values()).sort();
    this.#lowMs = sorted[(sorted.length - 1) >> 1]!;
    this.#highMs = sorted[sorted.length >> 1]!;
    return nowMs;
  }
}
