import type { Watched } from './hedging.ts';

/** An answer of one replica. Provisional: the replica is not confirmed as current. */
export interface Answer<T> {
  readonly value: T;
  readonly provisional: boolean;
}

export interface Asking<T> {
  /** Replicas to ask, the likeliest first. */
  readonly count: number;
  /**
   * Puts the question to one of them.
   *
   * @param held a provisional answer that came before
   * @returns undefined where it did not answer; rejects with what ends the question, whatever others would say
   */
  ask(index: number, held: Answer<T> | undefined): Promise<Answer<T> | undefined>;
  /** Calls back at most once, if that replica is late. */
  watch(index: number, onLate: () => void): Watched;
}

/**
 * One question, put to one replica after the other until a current one answers: the next is asked when one did not
 * answer, was not sure, or is late. The first current answer counts; what comes after it is ignored.
 *
 * @returns the current answer, else the first provisional one, else undefined
 */
export function askInTurn<T>(asking: Asking<T>): Promise<Answer<T> | undefined> {
  return new Promise((resolve, reject) => {
    let next = 0;
    let open = 0;
    let isOver = asking.count === 0;
    let held: Answer<T> | undefined;
    if (isOver) resolve(undefined);

    const askNext = (): void => {
      if (isOver || next === asking.count) return;
      const index = next++;
      open++;
      const watched = next < asking.count ? asking.watch(index, askNext) : undefined;
      asking.ask(index, held).then(
        (answer) => {
          if (watched !== undefined) watched.done = true;
          open--;
          if (isOver) return;
          if (answer !== undefined && !answer.provisional) {
            isOver = true;
            resolve(answer);
            return;
          }
          held ??= answer;
          if (next < asking.count) askNext();
          else if (open === 0) {
            isOver = true;
            resolve(held);
          }
        },
        (error: unknown) => {
          if (watched !== undefined) watched.done = true;
          open--;
          isOver = true;
          reject(error);
        },
      );
    };
    askNext();
  });
}
