/** What clients saw of a store, for the checker: made by a load on real processes or by a simulator. */

export type OperationKind = 'put' | 'get' | 'delete' | 'undelete' | 'hide' | 'reveal';

/**
 * done: as asked. absent: "there is no such name", 404 or 410. unknown: nothing definite (a timeout, a cut connection, a
 * 503); a write that ended so may take effect once, at any time from its start on, or never.
 */
export type Outcome = 'done' | 'absent' | 'unknown';

export interface Operation {
  readonly kind: OperationKind;
  readonly name: string;
  /** Before the request left; both of one clock that never goes back. */
  readonly startMs: number;
  /** After the whole answer was there. */
  readonly endMs: number;
  readonly outcome: Outcome;
  /** Hex, of the bytes that a PUT sent or a GET received. */
  readonly sha1?: string;
  /** A GET answered by a replica that nobody confirmed as current, and marked so. */
  readonly provisional?: boolean;
}

/** A time in which something was broken on purpose; `healedMs` is when the last of it was mended. */
export interface FaultWindow {
  readonly fromMs: number;
  readonly healedMs: number;
}

/** What one replica says of a name at the end, when everything was mended and has settled. */
export interface ReplicaAnswer {
  readonly name: string;
  readonly server: number;
  readonly state: 'live' | 'deleted' | 'absent' | 'silent';
  /** Of one that is live or deleted; left out where nothing is ever hidden. */
  readonly hidden?: boolean;
  /** Hex, of the bytes it answered with. */
  readonly sha1?: string;
  /** Why it is silent. */
  readonly why?: string;
}

const OPERATIONS_MAX = 4_000_000;

/**
 * Operations by name. A GET of a name that was stored before and that nobody ever began to delete or hide can only be wrong by
 * its bytes or by being absent: those that were right are counted, not kept, so that hours of reading fit in memory.
 */
export class History {
  readonly #byName = new Map<string, Operation[]>();
  #kept = 0;
  #dropped = 0;

  get names(): IterableIterator<string> {
    return this.#byName.keys();
  }

  get nameCount(): number {
    return this.#byName.size;
  }

  /** All that were added, kept or not. */
  get operationCount(): number {
    return this.#kept + this.#dropped;
  }

  of(name: string): readonly Operation[] {
    return this.#byName.get(name) ?? [];
  }

  /** @param touched whether anybody began to delete or hide the name, also if that operation is not added yet */
  add(operation: Operation, touched = true): void {
    const known = this.#byName.get(operation.name);
    if (!touched && known !== undefined && isPlainlyRight(operation, known[0]!)) {
      this.#dropped++;
      return;
    }
    if (++this.#kept > OPERATIONS_MAX) throw new Error(`a history of more than ${OPERATIONS_MAX} operations`);
    if (known === undefined) this.#byName.set(operation.name, [operation]);
    else known.push(operation);
  }
}

function isPlainlyRight(operation: Operation, first: Operation): boolean {
  if (operation.kind !== 'get') return false;
  if (operation.outcome === 'unknown') return true;
  return (
    operation.outcome === 'done' &&
    first.kind === 'put' &&
    first.outcome === 'done' &&
    first.endMs < operation.startMs &&
    first.sha1 === operation.sha1
  );
}
