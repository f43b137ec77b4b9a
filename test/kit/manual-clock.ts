import type { Millis } from '../../common/ids.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';

interface Alarm {
  at: number;
  readonly everyMs: number | undefined;
  readonly callback: () => void;
}

const STEP_MS = 5;

/** A clock that moves only when a test says so; timers that are due run inside {@link advance}, in order of time. */
export class ManualClock implements Clock {
  #now = 1_000_000;
  readonly #alarms = new Set<Alarm>();

  now(): Millis {
    return (1_700_000_000_000 + this.#now) as Millis;
  }

  monotonic(): Millis {
    return this.#now as Millis;
  }

  after(delayMs: number, callback: () => void): Timer {
    return this.#add({ at: this.#now + delayMs, everyMs: undefined, callback });
  }

  every(intervalMs: number, callback: () => void): Timer {
    return this.#add({ at: this.#now + intervalMs, everyMs: intervalMs, callback });
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /** Not a matter of time: the next turn of the event loop. */
  soon(callback: () => void): void {
    setImmediate(callback);
  }

  /** Timers that have not run yet. */
  get pending(): number {
    return this.#alarms.size;
  }

  advance(ms: number): void {
    const target = this.#now + ms;
    for (;;) {
      let next: Alarm | undefined;
      for (const alarm of this.#alarms)
        if (alarm.at <= target && (next === undefined || alarm.at < next.at)) next = alarm;
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.at);
      if (next.everyMs === undefined) this.#alarms.delete(next);
      else next.at += next.everyMs;
      next.callback();
    }
    this.#now = target;
  }

  /** The machine slept for so long: whatever was due meanwhile runs once, now. */
  leap(ms: number): void {
    this.#now += ms;
    const due = [...this.#alarms].filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    for (const alarm of due) {
      if (!this.#alarms.has(alarm)) continue;
      if (alarm.everyMs === undefined) this.#alarms.delete(alarm);
      else alarm.at = this.#now + alarm.everyMs;
      alarm.callback();
    }
  }

  /**
   * Moves on, a few milliseconds at a time, until the work has settled; between the steps everything that waits for no
   * timer is done.
   *
   * @returns how long it took by this clock
   */
  async spend(work: Promise<unknown>): Promise<number> {
    const startedAt = this.#now;
    let isSettled = false;
    const settle = () => {
      isSettled = true;
    };
    work.then(settle, settle);
    for (;;) {
      for (let i = 0; i < 8; i++) await new Promise((resolve) => setImmediate(resolve));
      if (isSettled) break;
      this.advance(STEP_MS);
    }
    await work;
    return this.#now - startedAt;
  }

  #add(alarm: Alarm): Timer {
    this.#alarms.add(alarm);
    return { cancel: () => void this.#alarms.delete(alarm) };
  }
}
