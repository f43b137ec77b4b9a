/**
 * The order in which one DataServer sends its block table to one NameServer: a whole report in pages, then a batch of
 * changes with each heartbeat, numbered without gaps. Anything out of order means that something was lost, and the
 * whole table is asked for again.
 */
export class TableStream {
  #state: 'none' | 'reporting' | 'current' = 'none';
  #nextPage = 0;
  #sequence = 0;
  #isEqual = false;
  #unequalBeats = 0;

  /** Whether everything the server holds is known, up to its last heartbeat. */
  get isCurrent(): boolean {
    return this.#state === 'current';
  }

  /** Whether what is known is what the server holds, as its newest digest shows. */
  get isEqual(): boolean {
    return this.isCurrent && this.#isEqual;
  }

  /**
   * What the server says it holds is or is not what is known of it. Once may come of messages that crossed.
   *
   * @returns whether it was not for the second time in a row
   */
  compare(isEqual: boolean): boolean {
    this.#isEqual = isEqual;
    this.#unequalBeats = isEqual ? 0 : this.#unequalBeats + 1;
    return this.#unequalBeats >= 2;
  }

  /**
   * @returns what to do with the page: `first` begins a report (whatever went before), `next` goes on with it,
   *   `stray` belongs to a report that was given up: not to be used
   */
  page(page: {
    readonly page: number;
    readonly last: boolean;
    readonly sequence: number;
  }): 'first' | 'next' | 'stray' {
    const isFirst = page.page === 0;
    if (
      !isFirst &&
      (this.#state !== 'reporting' || page.page !== this.#nextPage || page.sequence !== this.#sequence)
    )
      return 'stray';
    this.#state = page.last ? 'current' : 'reporting';
    this.#nextPage = page.page + 1;
    this.#sequence = page.sequence;
    this.#isEqual = false;
    this.#unequalBeats = 0;
    return isFirst ? 'first' : 'next';
  }

  /** @returns whether the changes of this heartbeat continue the table; else a new report is needed */
  beat(sequence: number): boolean {
    if (this.#state !== 'current') return false;
    // The same number again is the same batch again: its answer was lost.
    if (sequence !== this.#sequence && sequence !== this.#sequence + 1) {
      this.#state = 'none';
      return false;
    }
    this.#sequence = sequence;
    return true;
  }

  reset(): void {
    this.#state = 'none';
  }
}
