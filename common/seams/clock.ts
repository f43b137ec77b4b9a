import type { Millis } from '../ids.ts';

/** Time, as everything but a composition root must see it. A simulator may stop, stretch or skew it. */
export interface Clock {
  /** Wall clock, for dates that people read. May jump. Never used to decide safety. */
  now(): Millis;
  /** Monotonic. Keeps running while the process is stopped, so that a woken process knows. */
  monotonic(): Millis;
  /** Runs `callback` once after `delayMs`; it does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` every `intervalMs` until cancelled; calls are never stacked up. */
  every(intervalMs: number, callback: () => void): Timer;
  sleep(delayMs: number): Promise<void>;
  /** Runs `callback` behind the I/O that has arrived by now: what arrived together is then dealt with together. */
  soon(callback: () => void): void;
}

export interface Timer {
  cancel(): void;
}
