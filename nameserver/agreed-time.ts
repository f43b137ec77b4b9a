import type { Millis } from '../common/ids.ts';
import { DEAD_MS } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';

/** What the clock of the machine of a DataServer says. */
export interface ClockVote {
  /** Undefined where nobody has said yet which machine that is. */
  readonly host: string | undefined;
  /** By how much its wall clock is ahead of the monotonic clock of this process, ms; undefined before it has said so. */
  readonly leadMs: number | undefined;
}

export interface AgreedTimeDeps {
  readonly clock: Clock;
  /** Of this process. */
  readonly host: string;
  /** As heard last, of each DataServer that is known. */
  readonly votes: () => Iterable<ClockVote>;
}

/** Clocks are not asked again before that: every heartbeat wants to know. */
const COUNTED_AGAIN_MS = 1_000;

/**
 * What time it is in the cluster: the median of the clocks of its machines, so that one whose clock is set back or runs
 * ahead, also the leader's own, neither shortens nor ends the time in which a deleted picture may be undeleted. Where two
 * stand against two, or one against one, nobody knows who is right: deletions are dated by the later one, and what is over
 * is judged by the earlier one.
 *
 * A NameServer that has just started has heard nobody but itself, and may stand beside the only wrong clock. Machines that it
 * has not heard yet count as well: as late ones for what is dated, as early ones for what is over. Before more than half have
 * been heard it does not know the time.
 */
export class AgreedTime {
  readonly #deps: AgreedTimeDeps;
  readonly #startedAtMs: number;
  #leadsMs: { readonly low: number; readonly high: number } | undefined;
  #isWhole = false;
  #countedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: AgreedTimeDeps) {
    this.#deps = deps;
    this.#startedAtMs = deps.clock.monotonic();
  }

  /** For what must not be too early: whether something is over. Ms since 1970; undefined while that is not known. */
  earliest(): Millis | undefined {
    const nowMs = this.#count();
    return this.#leadsMs && (Math.floor(nowMs + this.#leadsMs.low) as Millis);
  }

  /** For what must not be too late: when something began. Ms since 1970; undefined while that is not known. */
  latest(): Millis | undefined {
    const nowMs = this.#count();
    return this.#leadsMs && (Math.floor(nowMs + this.#leadsMs.high) as Millis);
  }

  /** @returns the monotonic clock */
  #count(): number {
    const { clock, host, votes } = this.#deps;
    const nowMs = clock.monotonic();
    // While some are missing each of them may come with the next message.
    if (this.#isWhole && nowMs - this.#countedAtMs < COUNTED_AGAIN_MS) return nowMs;
    this.#countedAtMs = nowMs;
    // A machine has one vote, however many disks it has; its own clock is this one's.
    const leads = new Map<string, number>();
    const silent = new Set<string>();
    let nameless = 0;
    for (const vote of votes()) {
      if (vote.host === undefined) nameless++;
      else if (vote.leadMs === undefined) silent.add(vote.host);
      else leads.set(vote.host, vote.leadMs);
    }
    leads.set(host, clock.now() - nowMs);
    for (const heard of leads.keys()) silent.delete(heard);
    // Those that are gone for long are waited for no more: nothing would be deleted without them.
    const missing = nowMs - this.#startedAtMs > DEAD_MS ? 0 : silent.size + nameless;
    const sorted = Float64Array.from(leads.values()).sort();
    const half = (sorted.length + missing) >> 1;
    this.#isWhole = missing === 0;
    this.#leadsMs =
      half < sorted.length ? { low: sorted[sorted.length - 1 - half]!, high: sorted[half]! } : undefined;
    return nowMs;
  }
}
