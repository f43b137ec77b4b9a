import { z } from 'zod';
import type { ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import { type NameStore, WHOLE_KEY } from './name-store.ts';

const zWhole = z.object({ whole: z.boolean() });

export interface ViewDeps {
  readonly store: NameStore;
  readonly log: Log;
  readonly minWrite: number;
  /** Known members that have not been heard in full, and, for a leader, have not promised its reign. */
  readonly missing: () => readonly ServerId[];
}

/**
 * Whether this NameServer has heard of every block that holds anything acknowledged.
 *
 * Such a block has at least `minWrite` members, so fewer than `minWrite` missing DataServers cannot hide one. That
 * counts on knowing who the DataServers are; a NameServer that lost its store, or never had one, does not, so until
 * it has once heard everyone of whom anyone tells, nobody may be missing.
 */
export class View {
  readonly #deps: ViewDeps;
  #whole: boolean;
  #wasComplete = false;
  #writing: Promise<void> = Promise.resolve();

  private constructor(deps: ViewDeps, whole: boolean) {
    this.#deps = deps;
    this.#whole = whole;
  }

  static async open(deps: ViewDeps): Promise<View> {
    const stored = await deps.store.read(WHOLE_KEY, zWhole);
    return new View(deps, stored?.whole ?? false);
  }

  /** False after a wipe, until everyone has been heard once. */
  get isWhole(): boolean {
    return this.#whole;
  }

  isComplete(): boolean {
    return this.isCompleteWithout(this.#deps.missing().length);
  }

  /** Whether it would be with so many members missing. */
  isCompleteWithout(missing: number): boolean {
    return this.#whole ? missing < this.#deps.minWrite : missing === 0;
  }

  /** For a person. @returns undefined while the view is complete */
  get gap(): string | undefined {
    return this.isComplete() ? undefined : `not heard in full: server ${this.#deps.missing().join(', ')}`;
  }

  /** To be called now and then: notes durably that everyone has been heard. */
  async notice(): Promise<void> {
    const isComplete = this.isComplete();
    if (isComplete !== this.#wasComplete) mark(isComplete ? 'safe-mode-left' : 'safe-mode-entered');
    this.#wasComplete = isComplete;
    if (this.#whole || !isComplete) return;
    await this.#set(true);
    this.#deps.log.info('every known DataServer has reported');
  }

  /** The store turned out to be older than the cluster. */
  async doubt(): Promise<void> {
    if (!this.#whole) return;
    mark('view-doubted');
    await this.#set(false);
  }

  #set(whole: boolean): Promise<void> {
    const work = this.#writing.then(async () => {
      // Doubt counts at once, certainty only when it is durable.
      if (!whole) this.#whole = false;
      await this.#deps.store.write(WHOLE_KEY, { whole }, 'what it knows of its DataServers');
      this.#whole = whole;
    });
    this.#writing = work.catch(() => undefined);
    return work;
  }
}
