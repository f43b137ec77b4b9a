/** What is told of a name whose state changes; not to throw. */
export type ChangeListener = (name: string) => void;

/**
 * Passes on which pictures were deleted, hidden, or brought back: whatever keeps anything of them lets go of it. Told of a
 * command when it has ended, also when it failed, because it may have happened all the same.
 */
export class ChangedPictures {
  readonly #listeners: ChangeListener[] = [];

  onChange(listener: ChangeListener): void {
    this.#listeners.push(listener);
  }

  /** @param name 18 characters */
  changed(name: string): void {
    for (const listener of this.#listeners) listener(name);
  }
}
