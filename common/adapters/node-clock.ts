import type { Millis } from '../ids.ts';
import type { Clock, Timer } from '../seams/clock.ts';

/** The machine's clocks and the event loop's timers. */
export const nodeClock: Clock = {
  now: () => Date.now() as Millis,
  // CLOCK_MONOTONIC: it keeps running while the process is stopped by a signal.
  monotonic: () => performance.now() as Millis,
  after: (delayMs, callback) => timerOf(setTimeout(callback, delayMs)),
  every: (intervalMs, callback) => timerOf(setInterval(callback, intervalMs)),
  // Somebody awaits it, so unlike the timers it keeps the process alive.
  sleep: (delayMs) => new Promise((resolve) => setTimeout(resolve, delayMs)),
  soon: (callback) => void setImmediate(callback),
};

function timerOf(handle: NodeJS.Timeout): Timer {
  handle.unref();
  return { cancel: () => clearTimeout(handle) };
}
