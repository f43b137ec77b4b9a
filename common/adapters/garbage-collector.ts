import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { HEAP_HEADROOM_BYTES, HEAP_HEADROOM_PERCENT_MIN } from '../limits.ts';

/**
 * Fits V8's garbage collector to a process whose memory is mostly buffers that live for a moment. For the start of a
 * server; no pointer or promise of a program depends on it.
 *
 * V8 counts the memory behind buffers towards the size at which it marks the whole heap, and takes that size from what
 * was alive after the last time: with 15 MB alive, every few dozen megabytes of pictures passing through. Uploads of
 * 10 KB on three replicas made each DataServer mark its heap seven times a second, which took half of its CPU. So:
 *
 * - the memory of dead buffers is freed in the collection that finds them dead, not a moment later by a thread that
 *   V8 does not wait for, while it counts them as alive;
 * - the whole heap is marked only after {@link HEAP_HEADROOM_BYTES} of growth, or a share of what is alive.
 */
export function tuneGarbageCollector(): void {
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
  setHeadroom();
  // V8 reads the flag at the end of each full collection; what is alive changes slowly from one to the next.
  new PerformanceObserver((list) => {
    const isFull = (entry: unknown) =>
      (entry as { detail?: { kind?: number } }).detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
    if (list.getEntries().some(isFull)) setHeadroom();
  }).observe({ entryTypes: ['gc'] });
}

/** @returns how much a heap with so much alive may grow before all of it is marked, in percent of that */
export function headroomPercent(aliveBytes: number): number {
  return Math.max(HEAP_HEADROOM_PERCENT_MIN, Math.ceil((100 * HEAP_HEADROOM_BYTES) / aliveBytes));
}

function setHeadroom(): void {
  const { heapUsed, external } = process.memoryUsage();
  setFlagsFromString(`--heap-growing-percent=${headroomPercent(heapUsed + external)}`);
}
