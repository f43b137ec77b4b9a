import { type FileId, isAlias } from '../ids.ts';

const NONE = new Uint32Array(0);
const SECONDS_MAX = 0xffff_ffff;

/**
 * When each deleted name of a block was deleted last, for as long as it may be undeleted. Whole seconds since 1970,
 * rounded up so that nobody's time is cut short: a u32 for each slot up to the last deleted one, and an entry for each
 * deleted alias. A block without deletions has none of it.
 */
export class DeleteTimes {
  /** By slot; 0 for a name that is not deleted. */
  #slots = NONE;
  readonly #aliases = new Map<FileId, number>();

  /** Of a name that is deleted already the later time counts. */
  note(fileId: FileId, atMs: number): void {
    const seconds = Math.max(secondsOf(atMs), this.secondsOf(fileId));
    if (isAlias(fileId)) {
      this.#aliases.set(fileId, seconds);
      return;
    }
    if (fileId >= this.#slots.length) {
      const grown = new Uint32Array(Math.max(64, fileId + 1 + (fileId >>> 2)));
      grown.set(this.#slots);
      this.#slots = grown;
    }
    this.#slots[fileId] = seconds;
  }

  forget(fileId: FileId): void {
    if (isAlias(fileId)) this.#aliases.delete(fileId);
    else if (fileId < this.#slots.length) this.#slots[fileId] = 0;
  }

  /** @returns 0 for a name that is not deleted */
  secondsOf(fileId: FileId): number {
    return isAlias(fileId) ? (this.#aliases.get(fileId) ?? 0) : (this.#slots[fileId] ?? 0);
  }

  /** Slots first, aliases in the order of their ids. */
  *entries(): Generator<readonly [FileId, number]> {
    for (let slot = 0; slot < this.#slots.length; slot++)
      if (this.#slots[slot] !== 0) yield [slot as FileId, this.#slots[slot]!];
    yield* [...this.#aliases].sort(([a], [b]) => a - b);
  }

  clone(): DeleteTimes {
    const copy = new DeleteTimes();
    copy.#slots = this.#slots.slice();
    for (const [id, seconds] of this.#aliases) copy.#aliases.set(id, seconds);
    return copy;
  }
}

/** A time that is none, as a damaged clock gives it, never passes. */
const secondsOf = (atMs: number): number =>
  Number.isNaN(atMs) ? SECONDS_MAX : Math.min(SECONDS_MAX, Math.max(1, Math.ceil(atMs / 1000)));
