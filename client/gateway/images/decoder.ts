// What runs in a child of a gateway: makes one rendition at a time. It may crash, hang or take all memory it is given; then
// its gateway has another one.
import { readdirSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setInterval } from 'node:timers';
import { toTfsError } from '../../../common/errors.ts';
import { type DecodeAnswer, type DecodeTask, LAST_WORDS_MS } from './decode-task.ts';
import { make, prepareDecoders } from './make.ts';
import { makeUpright } from './upright.ts';

/** Exit code of one that took too much memory. */
const OUT_OF_MEMORY_CODE = 86;
/** Exit code of one that took too long. */
const OVERDUE_CODE = 87;
/** A picture is to blame for the time that it took when at least this share of it was spent on it. */
const BUSY_SHARE = 0.25;
const WATCH_MS = 25;
/**
 * Pictures that are there already come before those that are being made: on two busy cores decoders of the usual priority took
 * half of their throughput away from originals, at 7 a third, at 10 a seventh. Not much more than this, or a decoder that gets
 * next to nothing would run out of time on pictures that are in order.
 */
const NICENESS = 10;

let memoryBytesMax = Number.POSITIVE_INFINITY;

prepareDecoders();
spareOthers();
comeSecond();
// The gateway is asked to stop with all its children at once, and drains first.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
process.on('disconnect', () => process.exit(0));
// Pictures are decoded in threads, so this loop turns meanwhile.
setInterval(() => {
  if (process.memoryUsage.rss() > memoryBytesMax) process.exit(OUT_OF_MEMORY_CODE);
}, WATCH_MS).unref();

export default async function decode(task: DecodeTask): Promise<DecodeAnswer> {
  memoryBytesMax = task.memoryBytesMax;
  const { overdue, clear } = timeOut(task);
  try {
    return await Promise.race([run(task), overdue]);
  } finally {
    clear();
  }
}

async function run(task: DecodeTask): Promise<DecodeAnswer> {
  try {
    const { original, rendition, limits } = task;
    return {
      made:
        rendition === 'upright'
          ? await makeUpright(original, limits)
          : await make(original, rendition, limits),
    };
  } catch (error) {
    const { code, message, details } = toTfsError(error);
    return { code, message, why: String(details?.['why'] ?? '') };
  }
}

/** Ends this process when the picture takes too long; but only one that had its share of the machine is said to be bad. */
function timeOut({ decodeMsMax }: DecodeTask): { overdue: Promise<DecodeAnswer>; clear: () => void } {
  const before = process.cpuUsage();
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<DecodeAnswer>((resolve) => {
    timer = setTimeout(() => {
      setTimeout(() => process.exit(OVERDUE_CODE), LAST_WORDS_MS);
      const { user, system } = process.cpuUsage(before);
      const isBusy = (user + system) / 1000 >= decodeMsMax * BUSY_SHARE;
      resolve({
        ...(isBusy
          ? {
              code: 'UNDECODABLE',
              message: `the picture cannot be decoded: it takes more than ${decodeMsMax} ms`,
            }
          : { code: 'OVERLOADED', message: 'this machine has too much to do to make the rendition' }),
        why: 'overdue',
        isOverdue: true,
      });
    }, decodeMsMax);
  });
  return { overdue, clear: () => clearTimeout(timer) };
}

/** On Linux a priority is one of a thread, and those that decode are there already; later ones inherit it. */
function comeSecond(): void {
  setPriority(NICENESS);
  try {
    for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), NICENESS);
  } catch {
    // Not on Linux, or a thread that has just ended.
  }
}

/** Where the machine runs out of memory, this process goes first. */
function spareOthers(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // Not on Linux, or not allowed.
  }
}
