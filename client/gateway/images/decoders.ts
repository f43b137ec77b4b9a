import { setTimeout as sleep } from 'node:timers/promises';
import { Tinypool } from 'tinypool';
import { TfsError } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import { type DecodeAnswer, type DecodeTask, LAST_WORDS_MS, type Wanted } from './decode-task.ts';
import type { Made, MakeLimits } from './make.ts';

export interface DecodersOptions {
  /** Processes. */
  readonly children: number;
  /** What one picture may take, the reading of its header and the writing of the rendition included. */
  readonly decodeMsMax: number;
  /** What one process may take. */
  readonly memoryBytesMax: number;
  /** Of originals that wait, all together: what is beyond that is refused. */
  readonly waitingMegapixelsMax: number;
  readonly limits: MakeLimits;
  readonly log: Log;
}

/** One rendition that is to be made. */
export interface DecodeAsk {
  readonly original: Uint8Array;
  readonly rendition: Wanted;
  /** Of one frame of the original, as far as its header tells; what it does not tell counts as much as is allowed. */
  readonly pixels: number | undefined;
}

interface Waiting {
  readonly megapixels: number;
  readonly go: () => void;
}

/** A small picture costs something too. */
const MEGAPIXELS_MIN = 0.25;
const RETRY_MS = 1_000;
const OVERDUE_MS = 1_000;
const IS_SOURCE = import.meta.filename.endsWith('.ts');

/**
 * Makes renditions in child processes: a picture that crashes its decoder, hangs it or fills its memory costs one child,
 * and is answered as one that cannot be decoded. As many at a time as there are children; some may wait; nothing else of
 * the gateway waits for them.
 */
export class Decoders {
  readonly stats = { made: 0, failed: 0, refused: 0, crashed: 0, overdue: 0, busyMs: 0 };
  readonly #options: DecodersOptions;
  #pool: Tinypool | undefined;
  readonly #waiting: Waiting[] = [];
  #waitingMegapixels = 0;
  #running = 0;
  #closed = false;

  constructor(options: DecodersOptions) {
    this.#options = options;
  }

  /** Starts the processes, which otherwise happens when the first of them is needed. */
  warm(): void {
    this.#started();
  }

  #started(): Tinypool {
    if (this.#pool !== undefined) return this.#pool;
    const { children, log } = this.#options;
    const pool = new Tinypool({
      filename: new URL(IS_SOURCE ? './decoder.ts' : './decoder.js', import.meta.url).href,
      runtime: 'child_process',
      serialization: 'advanced',
      minThreads: children,
      maxThreads: children,
      // Of the environment of a gateway, with its secrets, a decoder needs nothing but a path.
      env: { PATH: process.env['PATH'] ?? '' },
      execArgv: ['--max-old-space-size=256', ...(IS_SOURCE ? ['--import', 'tsx'] : [])],
    });
    // A child that ends while it has nothing to do is replaced.
    pool.on('error', (error: unknown) => {
      log.warn({ err: error }, 'a decoder ended by itself');
    });
    this.#pool = pool;
    return pool;
  }

  /** Renditions that are being made. */
  get running(): number {
    return this.#running;
  }

  /** Renditions that wait for a decoder. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * @throws TfsError UNDECODABLE, TOO_MANY_PIXELS, TOO_LARGE: the same again, whenever it is asked for; OVERLOADED when too
   *   much waits; CLOSED
   */
  async make({ original, rendition, pixels }: DecodeAsk): Promise<Made> {
    const { limits } = this.#options;
    const megapixels = Math.max(MEGAPIXELS_MIN, (pixels ?? limits.pixelsMax) / 1e6);
    await this.#admit(megapixels);
    const startedAt = performance.now();
    try {
      return await this.#run(original, rendition);
    } finally {
      this.stats.busyMs += performance.now() - startedAt;
      this.#running--;
      this.#next();
    }
  }

  /** What waits and runs is given up. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { go } of this.#waiting.splice(0)) go();
    await this.#pool?.destroy();
  }

  async #admit(megapixels: number): Promise<void> {
    const { children, waitingMegapixelsMax } = this.#options;
    this.#assertOpen();
    if (this.#running < children && this.#waiting.length === 0) {
      this.#running++;
      return;
    }
    if (this.#waitingMegapixels + megapixels > waitingMegapixelsMax) {
      this.stats.refused++;
      throw new TfsError('OVERLOADED', 'too many renditions wait to be made', { retryAfterMs: RETRY_MS });
    }
    this.#waitingMegapixels += megapixels;
    await new Promise<void>((go) => this.#waiting.push({ megapixels, go }));
    this.#waitingMegapixels -= megapixels;
    this.#assertOpen();
  }

  #next(): void {
    if (this.#closed || this.#running >= this.#options.children) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#running++;
    next.go();
  }

  async #run(original: Uint8Array, rendition: Wanted, isAgain = false): Promise<Made> {
    const { decodeMsMax, memoryBytesMax, limits, log } = this.#options;
    const task: DecodeTask = { original, rendition, limits, memoryBytesMax, decodeMsMax };
    // The decoder sees to it itself, unless it hangs altogether.
    const signal = AbortSignal.timeout(decodeMsMax + OVERDUE_MS);
    let answer: DecodeAnswer;
    try {
      answer = (await this.#started().run(task, { signal })) as DecodeAnswer;
    } catch (cause) {
      this.#assertOpen();
      if (signal.aborted) this.stats.overdue++;
      else this.stats.crashed++;
      // Where memory runs out a decoder is the first to be killed, and what an earlier picture has left may be why: another
      // child has another try.
      if (!signal.aborted && !isAgain) return this.#run(original, rendition, true);
      this.stats.failed++;
      log.error({ err: cause, bytes: original.length }, 'a decoder crashed or hung on a picture');
      const why = signal.aborted ? `it takes more than ${decodeMsMax} ms` : 'its decoder crashed';
      throw new TfsError('UNDECODABLE', `the picture cannot be decoded: ${why}`, { cause });
    }
    if ('made' in answer) {
      this.stats.made++;
      const { bytes } = answer.made;
      // What comes from another process is no Buffer any more; the same memory is.
      return { ...answer.made, bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
    }
    this.stats.failed++;
    const { code, message, why, isOverdue } = answer;
    if (isOverdue === true) {
      this.stats.overdue++;
      log.error({ code, bytes: original.length }, 'a decoder took too long on a picture');
      // Its process is about to end: not for the next picture.
      await sleep(2 * LAST_WORDS_MS);
    }
    throw new TfsError(code, message, {
      details: { why },
      ...(code === 'OVERLOADED' ? { retryAfterMs: RETRY_MS } : {}),
    });
  }

  #assertOpen(): void {
    if (this.#closed) throw new TfsError('CLOSED', 'the gateway is stopping');
  }
}
