import { setFlagsFromString } from 'node:v8';

/**
 * Makes V8 free the memory of dead buffers in the collection that finds them dead, not a moment later on another thread.
 * For the start of a server's `main.ts`, before there are many buffers.
 *
 * Left to itself, V8 counts what that thread has not freed yet as memory in use. A server that takes in buffers at
 * hundreds of megabytes a second runs past the 64 MiB of external memory at which V8 marks the whole heap, again and
 * again: receiving 10 KB calls, 5.8 us of CPU a call instead of 2.1, most of it in the marker's threads
 * (`npm run bench -- rpc`).
 */
export function sweepBuffersAtOnce(): void {
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
}
