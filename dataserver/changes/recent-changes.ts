import { type Op, type OpsState, OpType } from '../../common/format/ops.ts';
import { type BlockId, type Cookie, type FileId, isAlias, type Millis } from '../../common/ids.ts';
import { CHANGES_KEPT_MAX, CHANGES_KEPT_MS } from '../../common/limits.ts';
import { type ChangeKind, ChangeKinds } from '../../common/wire/changes.ts';
import { NameFlag } from '../../common/wire/messages.ts';

/** Which name changed its state, and when its operation says so. */
export interface RecentChange {
  readonly block: BlockId;
  readonly fileId: FileId;
  /** Undefined where only the record tells it, and that was not read yet. */
  readonly cookie: Cookie | undefined;
  readonly kind: ChangeKind;
  /** ms since 1970 */
  readonly atMs: number;
}

const KIND_OF: { readonly [type: number]: ChangeKind } = {
  [OpType.DELETE]: 'delete',
  [OpType.UNDELETE]: 'undelete',
  [OpType.HIDE]: 'hide',
  [OpType.REVEAL]: 'reveal',
};

const CAPACITY_MIN = 1024;

/** Columns of equal length, a power of two: entry `n` is at `n % length`. */
interface Columns {
  readonly blocks: Uint32Array;
  readonly fileIds: Uint32Array;
  readonly cookies: Uint32Array;
  /** 1 where the cookie is known. */
  readonly known: Uint8Array;
  /** Index in {@link ChangeKinds}. */
  readonly kinds: Uint8Array;
  readonly ats: Float64Array;
  /** Since when it is kept: when it was done here or, of what a file told, when it was done at all. */
  readonly sinces: Float64Array;
}

const columnsOf = (length: number): Columns => ({
  blocks: new Uint32Array(length),
  fileIds: new Uint32Array(length),
  cookies: new Uint32Array(length),
  known: new Uint8Array(length),
  kinds: new Uint8Array(length),
  ats: new Float64Array(length),
  sinces: new Float64Array(length),
});

/**
 * The names whose state changed on this disk within {@link CHANGES_KEPT_MS}, in the order in which that was learned: what
 * caches in front of gateways have to be told. Derived from the ops logs, so a restart fills it again. 30 bytes a change,
 * at most {@link CHANGES_KEPT_MAX} of them; what has no room drops the oldest, and whoever had not asked by then is told
 * how many he missed.
 *
 * An ops log that was folded tells when a name was deleted, and of a hidden one only that it was so by then: that one
 * counts as hidden at the time of the folding. So nothing recent is missed, and a name may be told once more.
 */
export class RecentChanges {
  readonly #now: () => Millis;
  readonly #max: number;
  #columns = columnsOf(CAPACITY_MIN);
  /** Number of the oldest that is kept, and of the next one to come. */
  #first = 0;
  #next = 0;
  /** Everything below it is gone, and some of it before its time. */
  #droppedBelow = 0;

  /** @param max a power of two, at least 1024 */
  constructor(now: () => Millis, max: number = CHANGES_KEPT_MAX) {
    this.#now = now;
    this.#max = max;
  }

  /** Numbers of the changes that are kept are at least `first` and below `next`. */
  get first(): number {
    this.#expire();
    return this.#first;
  }

  get next(): number {
    return this.#next;
  }

  /** How many of those from `after` on are gone although they were recent, at most. */
  missedSince(after: number): number {
    return Math.max(0, this.#droppedBelow - after);
  }

  /** These were done just now, whatever their clocks say. @param state after them */
  done(block: BlockId, ops: readonly Op[], state: OpsState): void {
    this.#note(block, ops, state, true);
  }

  /** These stand in a log that was read from the disk, or came with a replica. @param state what they add up to */
  found(block: BlockId, ops: readonly Op[], state: OpsState): void {
    this.#note(block, ops, state, false);
  }

  /** @param n from {@link first} up to {@link next} */
  at(n: number): RecentChange {
    const { blocks, fileIds, cookies, known, kinds, ats } = this.#columns;
    const i = n % blocks.length;
    return {
      block: blocks[i] as BlockId,
      fileId: fileIds[i] as FileId,
      cookie: known[i] === 1 ? (cookies[i] as Cookie) : undefined,
      kind: ChangeKinds[kinds[i]!]!,
      atMs: ats[i]!,
    };
  }

  /** Was read from its record: is not asked for again. */
  learn(n: number, cookie: Cookie): void {
    if (n < this.#first || n >= this.#next) return;
    const i = n % this.#columns.blocks.length;
    this.#columns.cookies[i] = cookie;
    this.#columns.known[i] = 1;
  }

  /** Numbers of the changes of one block of which the cookie is not known. Looks at all of them. */
  unknownOf(block: BlockId): number[] {
    const { blocks, known } = this.#columns;
    const numbers: number[] = [];
    for (let n = this.first; n < this.#next; n++) {
      const i = n % blocks.length;
      if (blocks[i] === block && known[i] === 0) numbers.push(n);
    }
    return numbers;
  }

  #note(block: BlockId, ops: readonly Op[], state: OpsState, isNew: boolean): void {
    const nowMs = this.#now();
    const fromMs = nowMs - CHANGES_KEPT_MS;
    const note = (fileId: FileId, kind: ChangeKind, atMs: number, names: OpsState): void => {
      if (!isNew && atMs < fromMs) return;
      const cookie = isAlias(fileId) ? aliasCookie(names, fileId) : undefined;
      // An alias that never was: nobody has its name.
      if (isAlias(fileId) && cookie === undefined) return;
      this.#push({ block, fileId, cookie, kind, atMs }, isNew ? nowMs : atMs);
    };
    for (const op of ops) {
      const kind = KIND_OF[op.type];
      if (kind !== undefined && 'fileId' in op) note(op.fileId, kind, op.atMs, state);
      else if (op.type === OpType.SNAPSHOT) this.#noteFolded(op.state, op.atMs, fromMs, note);
    }
  }

  #noteFolded(
    folded: OpsState,
    foldedAtMs: number,
    fromMs: number,
    note: (fileId: FileId, kind: ChangeKind, atMs: number, names: OpsState) => void,
  ): void {
    for (const [fileId, seconds] of folded.deletions?.entries() ?? [])
      if (seconds * 1000 >= fromMs) note(fileId, 'delete', seconds * 1000, folded);
    if (foldedAtMs < fromMs) return;
    const { slotFlags, aliases } = folded;
    slotFlags.forEach((flags, slot) => {
      if (isHiddenOnly(flags)) note(slot as FileId, 'hide', foldedAtMs, folded);
    });
    for (let i = 0; i < (aliases?.count ?? 0); i++)
      if (isHiddenOnly(aliases!.flagsAt(i))) note(aliases!.idAt(i), 'hide', foldedAtMs, folded);
  }

  #push(change: RecentChange, sinceMs: number): void {
    this.#expire();
    if (this.#next - this.#first === this.#columns.blocks.length && !this.#grow()) {
      this.#first++;
      this.#droppedBelow = this.#first;
    }
    const { blocks, fileIds, cookies, known, kinds, ats, sinces } = this.#columns;
    const i = this.#next++ % blocks.length;
    blocks[i] = change.block;
    fileIds[i] = change.fileId;
    cookies[i] = change.cookie ?? 0;
    known[i] = change.cookie === undefined ? 0 : 1;
    kinds[i] = ChangeKinds.indexOf(change.kind);
    ats[i] = change.atMs;
    sinces[i] = sinceMs;
  }

  #expire(): void {
    const fromMs = this.#now() - CHANGES_KEPT_MS;
    const { sinces } = this.#columns;
    while (this.#first < this.#next && sinces[this.#first % sinces.length]! < fromMs) this.#first++;
  }

  #grow(): boolean {
    const old = this.#columns;
    const length = old.blocks.length * 2;
    if (length > this.#max) return false;
    const grown = columnsOf(length);
    for (const key of Object.keys(old) as (keyof Columns)[])
      for (let n = this.#first; n < this.#next; n++)
        grown[key][n % length] = old[key][n % old.blocks.length]!;
    this.#columns = grown;
    return true;
  }
}

/** A deleted one is told as deleted; of what is purged the time of its deletion is over, or an erasure tells the caches. */
const isHiddenOnly = (flags: number): boolean =>
  (flags & (NameFlag.HIDDEN | NameFlag.DELETED | NameFlag.PURGED)) === NameFlag.HIDDEN;

function aliasCookie({ aliases }: OpsState, id: FileId): Cookie | undefined {
  const at = aliases?.find(id) ?? -1;
  return at < 0 ? undefined : aliases!.cookieAt(at);
}
