import { TfsError } from './errors.ts';
import type { Clock } from './seams/clock.ts';

/**
 * The result of `work`, if it comes in time. What is given up goes on by itself: for work that ends on its own a
 * little later, such as a call that waits for a dial.
 *
 * @throws TfsError DEADLINE
 */
export function within<T>(clock: Clock, limitMs: number, what: string, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(limitMs, () =>
      reject(new TfsError('DEADLINE', `${what}: nothing in ${limitMs} ms`)),
    );
    work.then(
      (result) => {
        timer.cancel();
        resolve(result);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error as Error);
      },
    );
  });
}
