import type { Random } from '../../common/seams/random.ts';
import { SECTOR_BYTES } from '../kit/recorded-inode.ts';
import type { Fate } from './disk-fate.ts';
import { Pages, sectorOf } from './disk-pages.ts';
import { Unsettled } from './disk-unsettled.ts';

const NOTHING = Buffer.alloc(SECTOR_BYTES);

/** What one sync makes durable: what was written when it began, not what came while it was under way. */
export interface SyncPoint {
  readonly sequence: number;
  /** Sectors. */
  readonly first: number;
  readonly last: number;
  /** That it makes durable: as it was, or what its own bytes need; 0 for no change. */
  readonly size: number;
  /** The size as it was. */
  readonly takesSize: boolean;
}

/**
 * A file as its page cache shows it and as the medium holds it. Only the differences are kept, a sector of 512 bytes
 * each, so that a write and its sync cost what they carry and not what the file is long.
 *
 * It keeps the rules of the recording disk (test/kit/recorded-inode.ts): any subset of the sectors and of the change of
 * size survives a crash; bytes that survive bring the size they need; a failed sync leaves pages clean.
 */
export class SimInode {
  readonly number: number;
  /** One of its names: the one it was made under, wherever that was moved. */
  path: string;
  /** Names it has, as reads see them. */
  links = 0;
  /** Names it has on the medium. */
  readonly durablePaths = new Set<string>();
  mtimeMs = 0;
  size = 0;
  durableSize = 0;
  /** Sectors the medium does not give any more. */
  unreadable: Set<number> | undefined;
  /** What faults did to it, for checks that have to leave it out. */
  readonly damage: string[] = [];
  readonly #pages = new Pages();
  readonly #unsettled = new Map<number, Unsettled>();
  /** When the size was changed last, and when a sync asked for it that has ended well. */
  #sizeSequence = 0;
  #sizeSettled = 0;
  #sizePending = false;
  #syncs = 0;

  constructor(number: number, path: string) {
    this.number = number;
    this.path = path;
  }

  /** A view, for at once. */
  get content(): Buffer {
    return this.#pages.view(this.size);
  }

  get isSettled(): boolean {
    return this.#unsettled.size === 0 && this.size === this.durableSize;
  }

  /** What is there after a power cut that loses all it may. A view where everything is settled: for at once. */
  get durable(): Buffer {
    if (this.isSettled) return this.content;
    const image = Buffer.from(this.#pages.view(this.durableSize));
    for (const [sector, { old }] of this.#unsettled) {
      const at = sector * SECTOR_BYTES;
      if (at < image.length) old.copy(image, at);
    }
    return image;
  }

  read(target: Buffer, position: number): number {
    if (position >= this.size) return 0;
    return this.#pages.read(target, position, Math.min(this.size, position + target.length));
  }

  write(buffers: readonly Buffer[], position: number, sequence: number): void {
    let length = 0;
    for (const buffer of buffers) length += buffer.length;
    if (length === 0) return;
    const end = position + length;
    this.#pages.reserve(end);
    const last = sectorOf(end - 1);
    for (let sector = sectorOf(position); sector <= last; sector++) {
      const at = sector * SECTOR_BYTES;
      this.#touch(sector, Math.max(0, position - at), Math.min(SECTOR_BYTES, end - at), sequence);
    }
    this.#pages.write(buffers, position);
    if (this.unreadable !== undefined) this.#remap(position, end);
    if (end > this.size) this.#resize(end, sequence);
  }

  truncate(size: number, sequence: number): void {
    if (size === this.size) return;
    this.#pages.reserve(size);
    if (size < this.size) {
      const last = sectorOf(this.size - 1);
      for (let sector = sectorOf(size); sector <= last; sector++) this.#touch(sector, 0, 0, sequence);
      this.#pages.zero(size, this.size);
    }
    this.#resize(size, sequence);
  }

  /** @param range of bytes, where only they are asked for: what O_DSYNC promises */
  beginSync(sequence: number, range?: { readonly position: number; readonly end: number }): SyncPoint {
    this.#syncs++;
    if (range === undefined) return this.everything(sequence);
    const { position, end } = range;
    if (position === end) return { sequence, first: 0, last: -1, size: 0, takesSize: false };
    return { sequence, first: sectorOf(position), last: sectorOf(end - 1), size: end, takesSize: false };
  }

  endSync(): void {
    this.#syncs--;
  }

  /** A good sync. @param lost sectors that it says are settled, and that only the page cache has */
  settle(point: SyncPoint, lost?: ReadonlySet<number>): void {
    this.#settleSize(point);
    for (const sector of this.#covered(point)) {
      if (lost?.has(sector) !== true) {
        this.#settleSector(sector, point);
        continue;
      }
      const entry = this.#unsettled.get(sector)!;
      entry.forget(point.sequence);
      entry.isLost = true;
    }
  }

  /** Sectors with bytes that this sync is about. */
  waiting(point: SyncPoint): number[] {
    return [...this.#covered(point)].filter((sector) => this.#unsettled.get(sector)!.waits(point.sequence));
  }

  /** A failed sync. */
  forget(point: SyncPoint): void {
    for (const sector of this.#covered(point)) this.#unsettled.get(sector)!.forget(point.sequence);
    if (point.takesSize && this.#sizeSequence <= point.sequence) this.#sizePending = false;
  }

  /** A sync of which nobody hears any more, or the kernel writes by itself: nothing, everything, or some of it. */
  settleSome(point: SyncPoint, random: Random): void {
    const style = random.float();
    if (style < 1 / 3) return;
    if (style < 2 / 3) {
      this.settle(point);
      return;
    }
    if (random.float() < 0.5) this.#settleSize(point);
    for (const sector of this.#covered(point)) {
      if (random.float() < 0.5) this.#settleSector(sector, { ...point, takesSize: false });
    }
  }

  /** Everything, as of now. */
  everything(sequence: number): SyncPoint {
    const takesSize = this.#sizePending;
    return { sequence, first: 0, last: Number.POSITIVE_INFINITY, size: takesSize ? this.size : 0, takesSize };
  }

  /** Pages that are clean may leave memory: reads see then what the medium has. */
  evict(random: Random): void {
    if (this.size < this.durableSize) return;
    for (const [sector, entry] of this.#unsettled) {
      if (sector * SECTOR_BYTES >= this.size || !entry.isForgotten || entry.isCut) continue;
      if (entry.from < entry.to || random.float() < 0.5) continue;
      this.#pages.put(sector, entry.old);
      this.#unsettled.delete(sector);
    }
  }

  /** The power goes. */
  cut({ keeps, random }: Fate): void {
    let top = Math.max(this.size, this.durableSize);
    const keepsSize = this.size === this.durableSize || keeps(this.#sizeSequence);
    let size = keepsSize ? this.size : this.durableSize;
    for (const [sector, entry] of this.#unsettled) {
      const isKept = entry.isCut ? keepsSize : !entry.isLost && keeps(entry.sequence);
      const { bytes, reach } = isKept ? { ...entry, bytes: undefined } : entry.afterLoss(keeps, random);
      if (reach > 0) size = Math.max(size, Math.min(this.size, sector * SECTOR_BYTES + reach));
      if (bytes === undefined) continue;
      this.#pages.put(sector, bytes);
      top = Math.max(top, (sector + 1) * SECTOR_BYTES);
    }
    this.#pages.zero(size, top);
    this.#unsettled.clear();
    this.size = size;
    this.durableSize = size;
    this.#sizePending = false;
  }

  /**
   * Damage: this is what the medium holds of the sector now; pages that wait for a sync hide it until they are lost.
   *
   * @returns whether it lies in the file
   */
  damageSector(sector: number, bytes: Buffer): boolean {
    const length = Math.min(SECTOR_BYTES, this.durableSize - sector * SECTOR_BYTES);
    if (length <= 0) return false;
    const entry = this.#unsettled.get(sector);
    const held = Buffer.from(entry?.old ?? this.sector(sector));
    bytes.copy(held, 0, 0, length);
    if (entry === undefined) this.#pages.put(sector, held);
    else entry.old = held;
    return true;
  }

  /** Damage of one bit that the medium holds. */
  flip(position: number, bit: number): void {
    const sector = sectorOf(position);
    const held = Buffer.from(this.#unsettled.get(sector)?.old ?? this.sector(sector));
    held[position % SECTOR_BYTES]! ^= 1 << bit;
    this.damageSector(sector, held);
  }

  /** As reads see it. */
  sector(sector: number): Buffer {
    return this.#pages.sector(sector);
  }

  /** Everything durable, in a file of its own. */
  copy(): SimInode {
    const copy = new SimInode(this.number, this.path);
    const { durable } = this;
    copy.#pages.reserve(durable.length);
    copy.#pages.write([durable], 0);
    copy.size = durable.length;
    copy.durableSize = durable.length;
    copy.mtimeMs = this.mtimeMs;
    if (this.unreadable !== undefined) copy.unreadable = new Set(this.unreadable);
    copy.damage.push(...this.damage);
    return copy;
  }

  *#covered({ first, last }: SyncPoint): Generator<number> {
    if (last - first < this.#unsettled.size) {
      for (let sector = first; sector <= last; sector++) if (this.#unsettled.has(sector)) yield sector;
      return;
    }
    // Deleting what was just given is allowed while a Map is walked.
    for (const sector of this.#unsettled.keys()) if (sector >= first && sector <= last) yield sector;
  }

  #settleSize({ sequence, size, takesSize }: SyncPoint): void {
    if (!takesSize) {
      this.durableSize = Math.max(this.durableSize, size);
      return;
    }
    if (sequence < this.#sizeSettled) return;
    this.#sizeSettled = sequence;
    if (this.#sizeSequence <= sequence) this.#sizePending = false;
    const isCut = size < this.durableSize;
    this.durableSize = size;
    for (const [sector, entry] of this.#unsettled) {
      if (entry.isCut && entry.sequence <= sequence) this.#unsettled.delete(sector);
      else if (isCut) entry.cutTo(size - sector * SECTOR_BYTES);
    }
  }

  #settleSector(sector: number, { sequence, takesSize }: SyncPoint): void {
    const entry = this.#unsettled.get(sector)!;
    if (entry.sequence > sequence) entry.settleEarlier(sequence);
    if (!entry.waits(sequence)) return;
    const at = sector * SECTOR_BYTES;
    const end = Math.min(this.size, at + entry.to);
    if (!takesSize) this.durableSize = Math.max(this.durableSize, end);
    const isWhole = entry.from === 0 && end === Math.min(this.size, at + SECTOR_BYTES);
    if (!entry.isForgotten || isWhole) this.#unsettled.delete(sector);
    else entry.settleBytes(this.sector(sector));
  }

  /** Before a sector is changed. No bytes of it are for a cut. */
  #touch(sector: number, from: number, to: number, sequence: number): void {
    const entry = this.#unsettled.get(sector);
    if (entry === undefined) {
      const old = sector * SECTOR_BYTES >= this.durableSize ? NOTHING : this.sector(sector);
      this.#unsettled.set(sector, new Unsettled(old, from, to, sequence));
      return;
    }
    if (entry.needsEarlier(this.#syncs > 0)) entry.keepEarlier(this.sector(sector));
    entry.touch(from, to, sequence);
  }

  /** A bad sector that is written again in full is a good one. */
  #remap(position: number, end: number): void {
    const first = sectorOf(position + SECTOR_BYTES - 1);
    for (let sector = first; sector < sectorOf(end); sector++) this.unreadable?.delete(sector);
  }

  #resize(size: number, sequence: number): void {
    this.size = size;
    this.#sizeSequence = sequence;
    this.#sizePending = true;
  }
}
