import type { Millis } from '../../common/ids.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';

interface Alarm {
  at: number;
  readonly everyMs: number | undefined;
  readonly callback: () => void;
}

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

  #add(alarm: Alarm): Timer {
    this.#alarms.add(alarm);
    return { cancel: () => void this.#alarms.delete(alarm) };
  }
}
