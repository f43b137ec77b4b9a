import type { Millis, ServerId } from '../common/ids.ts';
import { HEDGE_MS_MAX, HEDGE_MS_MIN, HEDGES_BURST_MAX, HEDGES_PERCENT_MAX } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import { LatencyWindow } from './latency-window.ts';

/** What is asked of a replica; each has latencies of its own. */
export type Kind = 'first' | 'piece' | 'check';

/** A question that is waited for. Whoever asked sets `done` when it was answered or has failed. */
export interface Watched {
  done: boolean;
}

interface Entry extends Watched {
  readonly kind: Kind;
  readonly server: ServerId;
  readonly askedAt: Millis;
  readonly onLate: () => void;
}

/** How often questions are looked at while there are any: one timer serves all of them. */
const TICK_MS = 5;
/** A tick that comes this late was held up together with the answers, which are read first. */
const STALL_MS = 50;

/**
 * When a question that has no answer yet is put to a second replica as well (Dean and Barroso, The Tail at Scale, 2013):
 * after the time in which 95 of 100 recent ones were answered. A budget keeps such second questions a small share of
 * all, so that a cluster where everything has become slow is not asked twice as much; a server that answers nothing
 * any more is no matter of budget, it is given up.
 */
export class Hedging {
  readonly stats = { hedges: 0, denied: 0 };
  readonly #clock: Clock;
  readonly #isSilent: (server: ServerId) => boolean;
  readonly #onHedge: () => void;
  readonly #windows: Readonly<Record<Kind, LatencyWindow>> = {
    first: new LatencyWindow(),
    piece: new LatencyWindow(),
    check: new LatencyWindow(),
  };
  #watched: Entry[] = [];
  #tokens: number = HEDGES_BURST_MAX;
  #isTicking = false;
  #tickAt = 0;

  /** @param isSilent whether a server has answered nothing at all lately */
  constructor(clock: Clock, isSilent: (server: ServerId) => boolean, onHedge: () => void = () => undefined) {
    this.#clock = clock;
    this.#isSilent = isSilent;
    this.#onHedge = onHedge;
  }

  /** How long such a question is waited for before another replica is asked. */
  delayMs(kind: Kind): number {
    const usualMs = this.#windows[kind].p95Ms ?? HEDGE_MS_MAX;
    return Math.min(HEDGE_MS_MAX, Math.max(HEDGE_MS_MIN, usualMs));
  }

  answered(kind: Kind, latencyMs: number): void {
    this.#windows[kind].add(latencyMs);
  }

  /** A question was put to its first replica: it earns its share of the budget. */
  earn(): void {
    this.#tokens = Math.min(HEDGES_BURST_MAX, this.#tokens + HEDGES_PERCENT_MAX / 100);
  }

  /** @param onLate called once at most, when the next replica should be asked too */
  watch(kind: Kind, server: ServerId, onLate: () => void): Watched {
    const entry: Entry = { done: false, kind, server, askedAt: this.#clock.monotonic(), onLate };
    this.#watched.push(entry);
    if (!this.#isTicking) {
      this.#isTicking = true;
      this.#arm();
    }
    return entry;
  }

  #arm(): void {
    this.#tickAt = this.#clock.monotonic() + TICK_MS;
    this.#clock.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    const now = this.#clock.monotonic();
    const wasHeldUp = now - this.#tickAt > STALL_MS;
    const waiting = this.#watched.filter((entry) => !entry.done);
    this.#watched = waiting;
    if (!wasHeldUp) for (const entry of waiting) this.#look(entry, now);
    this.#isTicking = this.#watched.length > 0;
    if (this.#isTicking) this.#arm();
  }

  #look(entry: Entry, now: Millis): void {
    if (now - entry.askedAt < this.delayMs(entry.kind)) return;
    if (!this.#isSilent(entry.server)) {
      if (this.#tokens < 1) {
        this.stats.denied++;
        return;
      }
      this.#tokens--;
      this.stats.hedges++;
      this.#onHedge();
    }
    entry.done = true;
    entry.onLate();
  }
}
