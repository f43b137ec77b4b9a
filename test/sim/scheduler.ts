import { crc32 } from 'node:zlib';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { SimProcess } from './process.ts';

/** Something that happens at one moment of virtual time. */
export interface SimEvent {
  /** Virtual ms. */
  readonly at: number;
  /** Drawn from the seed: events of the same moment happen in any order, but in the same one for the same seed. */
  readonly tie: number;
  readonly sequence: number;
  /** Whom it happens to: nothing happens to one that was killed, and to one that is paused only later. */
  readonly process: SimProcess | undefined;
  /** For traces. */
  readonly what: string;
  run: (() => void) | undefined;
}

export type Trace = (line: string) => void;

/**
 * Virtual time, and everything that happens in it, one event after the other. All that real code does between two waits
 * happens at one moment: after each event its promises are run to their end.
 */
export class Scheduler {
  /** Virtual ms since the beginning. */
  now = 0;
  /** That happened. */
  events = 0;
  /** Whom the event happens to that happens now, or did last. */
  running: SimProcess | undefined;
  /** Called after each event, when all that followed from it at that moment is done. */
  afterEvent: (() => void) | undefined;
  trace: Trace | undefined;
  readonly #ties: SeededRandom;
  readonly #heap: SimEvent[] = [];
  #sequence = 0;
  #hash = 0;
  /** What was noted and is not a part of the hash yet. */
  readonly #noted = Buffer.alloc(16_384);
  #notedBytes = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(seed: number) {
    this.#ties = new SeededRandom(seed ^ 0x7e57_7e57);
  }

  /** Of all that happened, when, to whom: the same for the same seed and the same code. */
  get hash(): string {
    this.#hashNoted();
    return this.#hash.toString(16).padStart(8, '0');
  }

  get pending(): number {
    return this.#heap.length;
  }

  /** @param delayMs virtual, 0 for as soon as what happens now is over */
  at(delayMs: number, process: SimProcess | undefined, what: string, run: () => void): SimEvent {
    const event: SimEvent = {
      at: this.now + Math.max(0, delayMs),
      tie: this.#ties.u32(),
      sequence: this.#sequence++,
      process,
      what,
      run,
    };
    this.#push(event);
    return event;
  }

  cancel(event: SimEvent): void {
    event.run = undefined;
  }

  /** Puts back what came to a process while it was paused; to be called in the order in which it came. */
  again(event: SimEvent): void {
    this.#push({ ...event, at: this.now, tie: 0, sequence: this.#sequence++ });
  }

  /** Makes something a part of the hash, and a line of the trace. */
  note(line: string): void {
    this.#noteText(line);
    this.trace?.(`${this.now.toFixed(3)} ${line}`);
  }

  /** Makes bytes a part of the hash. */
  noteBytes(bytes: Buffer): void {
    this.#hashNoted();
    this.#hash = crc32(bytes, this.#hash);
  }

  /** As {@link note}, for what happens all the time: no line is made of it unless somebody reads it. */
  #noteEvent({ process, what, at }: SimEvent): void {
    const name = process?.name ?? '-';
    this.#noteText(name);
    this.#noteText(what);
    this.#noted.writeDoubleLE(at, this.#notedBytes);
    this.#notedBytes += 8;
    this.trace?.(`${this.now.toFixed(3)} ${name} ${what}`);
  }

  #noteText(text: string): void {
    // A character has three bytes at most, and a number may follow.
    if (this.#notedBytes + 3 * text.length + 8 > this.#noted.length) this.#hashNoted();
    if (3 * text.length + 8 > this.#noted.length) this.#hash = crc32(text, this.#hash);
    else this.#notedBytes += this.#noted.write(text, this.#notedBytes);
  }

  #hashNoted(): void {
    this.#hash = crc32(this.#noted.subarray(0, this.#notedBytes), this.#hash);
    this.#notedBytes = 0;
  }

  /** Ends the run with this error, from wherever it was noticed. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /**
   * Lets events happen until `done` says that it is enough, which is asked after each.
   *
   * @returns false when nothing was left to happen before that
   */
  async run(done: () => boolean): Promise<boolean> {
    for (;;) {
      if (done()) return true;
      const event = this.#pop();
      if (event === undefined) return false;
      const { process, run } = event;
      if (run === undefined || process?.isAlive === false) continue;
      if (process?.isPaused === true) {
        process.missed.push(event);
        continue;
      }
      this.now = event.at;
      this.events++;
      const fuse = process?.fuse;
      if (fuse !== undefined && fuse.of?.test(event.what) !== false && --fuse.events <= 0) {
        process!.fuse = undefined;
        fuse.burnt();
        continue;
      }
      this.#noteEvent(event);
      event.run = undefined;
      this.running = process;
      run();
      await settled();
      this.afterEvent?.();
      if (this.#failure !== undefined) throw this.#failure.error;
    }
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): SimEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  if (a.at !== b.at) return a.at < b.at;
  return a.tie === b.tie ? a.sequence < b.sequence : a.tie < b.tie;
}

/** Everything that waits for nothing but other promises is done when this resolves. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
