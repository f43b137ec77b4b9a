/**
 * The second names of a block: alias id -> cookie, target slot and state. Three sorted columns of u32, 12 bytes an
 * alias, as there may be tens of thousands in a block. The target column is a slot with the state bits above it.
 */

import type { Cookie, FileId, Slot } from '../ids.ts';
import { ALIASES_PER_BLOCK_MAX } from '../limits.ts';

const TARGET_MASK = 0x00ff_ffff;
const FLAGS_SHIFT = 24;
const NONE = new Uint32Array(0);

export class AliasTable {
  #count = 0;
  #ids = NONE;
  #targets = NONE;
  #cookies = NONE;

  get count(): number {
    return this.#count;
  }

  /** Memory of the columns. */
  get bytes(): number {
    return this.#ids.byteLength * 3;
  }

  /** @returns a position for the accessors below, valid until the next insert, or -1 */
  find(id: FileId): number {
    const at = this.#lowerBound(id);
    return at < this.#count && this.#ids[at] === id ? at : -1;
  }

  idAt(at: number): FileId {
    return this.#ids[at]! as FileId;
  }

  cookieAt(at: number): Cookie {
    return this.#cookies[at]! as Cookie;
  }

  targetAt(at: number): Slot {
    return (this.#targets[at]! & TARGET_MASK) as Slot;
  }

  /** @returns bits of NameFlag of this name alone */
  flagsAt(at: number): number {
    return this.#targets[at]! >>> FLAGS_SHIFT;
  }

  setFlagsAt(at: number, nameFlags: number): void {
    this.#targets[at] = ((this.#targets[at]! & TARGET_MASK) | (nameFlags << FLAGS_SHIFT)) >>> 0;
  }

  /** @returns false, and changes nothing, where the id is there already or the table is full */
  insert(id: FileId, cookie: Cookie, target: Slot, nameFlags = 0): boolean {
    const at = this.#lowerBound(id);
    if (at < this.#count && this.#ids[at] === id) return false;
    if (this.#count >= ALIASES_PER_BLOCK_MAX) return false;
    if (this.#count === this.#ids.length) this.#grow();
    for (const column of [this.#ids, this.#targets, this.#cookies])
      column.copyWithin(at + 1, at, this.#count);
    this.#ids[at] = id;
    this.#cookies[at] = cookie;
    this.#targets[at] = (target | (nameFlags << FLAGS_SHIFT)) >>> 0;
    this.#count++;
    return true;
  }

  clone(): AliasTable {
    const copy = new AliasTable();
    copy.#count = this.#count;
    copy.#ids = this.#ids.slice(0, this.#count);
    copy.#targets = this.#targets.slice(0, this.#count);
    copy.#cookies = this.#cookies.slice(0, this.#count);
    return copy;
  }

  /** A sixteenth of slack keeps an alias below 13 bytes. */
  #grow(): void {
    const capacity = Math.min(ALIASES_PER_BLOCK_MAX, this.#count + Math.max(8, this.#count >>> 4));
    const grown = (column: Uint32Array): Uint32Array<ArrayBuffer> => {
      const larger = new Uint32Array(capacity);
      larger.set(column);
      return larger;
    };
    this.#ids = grown(this.#ids);
    this.#targets = grown(this.#targets);
    this.#cookies = grown(this.#cookies);
  }

  #lowerBound(id: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ids[middle]! < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
