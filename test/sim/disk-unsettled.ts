import type { Random } from '../../common/seams/random.ts';
import { SECTOR_BYTES } from '../kit/recorded-inode.ts';

/** Contents between the durable one and the newest that a crash may leave, of a sector that no sync asked for. */
const EARLIER_MAX = 2;

interface Earlier {
  readonly sequence: number;
  readonly bytes: Buffer;
  /** Where the bytes end that were written: so far the file reaches. */
  readonly reach: number;
}

/** Shared by all that have none. */
const NONE: Earlier[] = [];

/** A sector of which the medium may hold something else than reads see. */
export class Unsettled {
  /** What the medium holds. Shared: never changed in place. */
  old: Buffer;
  /** Of the last write. */
  sequence: number;
  /** Bytes [from, to) of the sector wait for a sync; none of a page that a failed sync left clean. */
  from: number;
  to: number;
  /** Where its bytes end that were written since it was settled. */
  reach: number;
  isForgotten = false;
  /** The medium said that it had it, and never will. */
  isLost = false;
  /** Changed by a cut of the file only, and so settled with its size. */
  isCut: boolean;
  /** Contents that a write of the same sector replaced since: what a sync that began before it makes durable. */
  #earlier: Earlier[] = NONE;

  /** No bytes, for a cut of the file. */
  constructor(old: Buffer, from: number, to: number, sequence: number) {
    this.old = old;
    this.from = from;
    this.to = to;
    this.reach = to;
    this.sequence = sequence;
    this.isCut = to === 0;
  }

  /** Whether bytes of it wait for a sync of what was there at `sequence`. */
  waits(sequence: number): boolean {
    return !this.isCut && this.sequence <= sequence && this.from < this.to;
  }

  /** Whether all earlier contents have to be kept is for the caller to know: some sync may be under way. */
  needsEarlier(isSyncing: boolean): boolean {
    return isSyncing || this.#earlier.length < EARLIER_MAX;
  }

  keepEarlier(bytes: Buffer): void {
    if (this.#earlier === NONE) this.#earlier = [];
    this.#earlier.push({ sequence: this.sequence, bytes, reach: this.reach });
  }

  touch(from: number, to: number, sequence: number): void {
    this.sequence = sequence;
    if (to === 0) return;
    this.isCut = false;
    this.reach = Math.max(this.reach, to);
    const isClean = this.from === this.to;
    this.from = isClean ? from : Math.min(this.from, from);
    this.to = isClean ? to : Math.max(this.to, to);
  }

  /** A sync ends that began before the last write of this sector. */
  settleEarlier(sequence: number): void {
    for (let i = this.#earlier.length - 1; i >= 0; i--) {
      const { sequence: of, bytes } = this.#earlier[i]!;
      if (of > sequence) continue;
      this.old = bytes;
      this.#earlier = this.#earlier.slice(i + 1);
      return;
    }
  }

  /** The waiting bytes are durable; the others of it stay in doubt. */
  settleBytes(now: Buffer): void {
    const old = Buffer.from(this.old);
    now.copy(old, this.from, this.from, this.to);
    this.old = old;
    this.#clean();
  }

  /** A sync failed. */
  forget(sequence: number): void {
    if (this.isCut) return;
    this.isForgotten = true;
    if (this.sequence <= sequence) this.#clean();
  }

  /** The file was made shorter, durably: `length` bytes of the sector are left. */
  cutTo(length: number): void {
    if (length < SECTOR_BYTES) this.old = Buffer.from(this.old).fill(0, Math.max(0, length));
  }

  /** What a power cut leaves of it that lost the newest content. */
  afterLoss(keeps: (sequence: number) => boolean, random: Random): Pick<Earlier, 'bytes' | 'reach'> {
    const choices = this.#earlier.filter(({ sequence }) => keeps(sequence));
    return choices[Math.floor(random.float() * choices.length)] ?? { bytes: this.old, reach: 0 };
  }

  #clean(): void {
    this.from = 0;
    this.to = 0;
    this.#earlier = NONE;
  }
}
