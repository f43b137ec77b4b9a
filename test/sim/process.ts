import type { Millis } from '../../common/ids.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import type { Random } from '../../common/seams/random.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { Scheduler, SimEvent } from './scheduler.ts';

const WALL_START_MS = 1_700_000_000_000;

/**
 * A slow process makes nothing take longer than this: one call of a slow disk would end minutes after all was mended, and the
 * disk would hang until then.
 */
const SLOWED_MS_MAX = 20_000;

/**
 * One life of one process: from its start until it is killed or ends. Whoever starts it again makes a new one. What the
 * code in it waits for when it is killed never comes, and so it does nothing more.
 */
export class SimProcess {
  readonly name: string;
  readonly host: string;
  readonly clock: SimClock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  isAlive = true;
  isPaused = false;
  /** Everything that it does takes so many times as long. */
  slowness = 1;
  /** What happened to it while it was paused. */
  missed: SimEvent[] = [];
  /** Events, of a kind or of any, until somebody kills it, in the middle of whatever it does then; undefined for never. */
  fuse: { events: number; readonly of?: RegExp | undefined; readonly burnt: () => void } | undefined;
  /** Called when it is killed: the kernel takes away what it had. */
  readonly onKilled: ((silently: boolean) => void)[] = [];

  constructor(options: {
    readonly name: string;
    readonly host: string;
    readonly scheduler: Scheduler;
    readonly seed: number;
    readonly wall?: WallClock;
    readonly rate?: number;
  }) {
    this.name = options.name;
    this.host = options.host;
    this.scheduler = options.scheduler;
    this.random = new SeededRandom(options.seed);
    this.clock = new SimClock(this, options.wall ?? new WallClock(), options.rate ?? 1);
  }

  /** Something that happens to this process, if it lives then. */
  at(delayMs: number, what: string, run: () => void): SimEvent {
    const slowedMs = Math.min(delayMs * this.slowness, Math.max(delayMs, SLOWED_MS_MAX));
    return this.scheduler.at(slowedMs, this, what, run);
  }

  /**
   * SIGKILL: at once, whatever it was doing.
   *
   * @param silently the whole machine goes: nobody is told
   */
  kill(silently = false): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.missed = [];
    this.scheduler.note(`${this.name} ${silently ? 'is without power' : 'is killed'}`);
    for (const taken of this.onKilled.splice(0)) taken(silently);
  }

  /** SIGSTOP. */
  pause(): void {
    this.isPaused = true;
    this.scheduler.note(`${this.name} is paused`);
  }

  /** SIGCONT. */
  resume(): void {
    this.isPaused = false;
    this.scheduler.note(`${this.name} goes on`);
    const missed = this.missed;
    this.missed = [];
    if (this.isAlive) for (const event of missed) this.scheduler.again(event);
  }
}

/** What a machine believes the date to be; may be wrong, jump, or stand still. */
export class WallClock {
  #aheadMs = 0;
  #frozenAt: number | undefined;

  at(now: number): number {
    return WALL_START_MS + (this.#frozenAt ?? now + this.#aheadMs);
  }

  get isRight(): boolean {
    return this.#frozenAt === undefined && this.#aheadMs === 0;
  }

  jump(byMs: number): void {
    this.#aheadMs += byMs;
  }

  freeze(now: number): void {
    this.#frozenAt ??= now + this.#aheadMs;
  }

  correct(): void {
    this.#frozenAt = undefined;
    this.#aheadMs = 0;
  }
}

class SimClock implements Clock {
  readonly #process: SimProcess;
  readonly #wall: WallClock;
  /** Of its monotonic clock, to the right one. */
  readonly #rate: number;
  readonly #bornAt: number;

  constructor(process: SimProcess, wall: WallClock, rate: number) {
    this.#process = process;
    this.#wall = wall;
    this.#rate = rate;
    this.#bornAt = process.scheduler.now;
  }

  now(): Millis {
    return Math.floor(this.#wall.at(this.#process.scheduler.now)) as Millis;
  }

  monotonic(): Millis {
    return (1 + (this.#process.scheduler.now - this.#bornAt) * this.#rate) as Millis;
  }

  after(delayMs: number, callback: () => void): Timer {
    // As Node's do: whole milliseconds, at least one.
    const ms = Math.max(1, Math.floor(delayMs)) / this.#rate;
    const event = this.#process.scheduler.at(ms, this.#process, 'timer', callback);
    return { cancel: () => this.#process.scheduler.cancel(event) };
  }

  every(intervalMs: number, callback: () => void): Timer {
    let timer = this.after(intervalMs, fire);
    const clock = this;
    let isCancelled = false;
    function fire(): void {
      callback();
      if (!isCancelled) timer = clock.after(intervalMs, fire);
    }
    return {
      cancel: () => {
        isCancelled = true;
        timer.cancel();
      },
    };
  }

  soon(callback: () => void): void {
    this.#process.scheduler.at(0, this.#process, 'soon', callback);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }
}
