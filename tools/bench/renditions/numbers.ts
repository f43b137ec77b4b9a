import { asksMax } from './asks.ts';

/** Gives out numbers of renditions that were not asked for yet. */
export class Numbers {
  readonly #max: number;
  #next = 0;

  /** @param originals how many pictures there are */
  constructor(originals: number) {
    this.#max = asksMax(originals);
  }

  /** @returns the first of `count` */
  take(count: number): number {
    const first = this.#next;
    this.#next += count;
    if (this.#next > this.#max)
      throw new Error('there are not so many different renditions: give fewer --seconds');
    return first;
  }
}
