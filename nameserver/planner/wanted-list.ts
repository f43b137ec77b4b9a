import { assert } from '../../common/errors.ts';
import { PRIORITY_MAX, type Work } from './work.ts';

/** A bounded list of work, by priority and then in the order in which it was found: what is least urgent falls out. */
export class WantedList {
  readonly #max: number;
  readonly #byPriority: (Work[] | undefined)[] = [];
  #size = 0;
  /** Highest number of a priority that is in the list, -1 for none. */
  #worst = -1;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  /** Whether work of that priority has a place now. */
  takes(priority: number): boolean {
    return this.#size < this.#max || priority < this.#worst;
  }

  add(work: Work): void {
    const { priority } = work;
    assert(priority > 0 && priority <= PRIORITY_MAX, 'a priority has a place in the list');
    if (!this.takes(priority)) return;
    if (this.#size === this.#max) this.#dropWorst();
    const same = this.#byPriority[priority];
    if (same === undefined) this.#byPriority[priority] = [work];
    else same.push(work);
    this.#size++;
    this.#worst = Math.max(this.#worst, priority);
  }

  all(): Work[] {
    return this.#byPriority.flatMap((same) => same ?? []);
  }

  #dropWorst(): void {
    this.#byPriority[this.#worst]!.pop();
    this.#size--;
    while (this.#worst >= 0 && (this.#byPriority[this.#worst]?.length ?? 0) === 0) this.#worst--;
  }
}
