import { type ErrorCode, TfsError } from '../../common/errors.ts';
import { SECTOR_BYTES } from '../kit/recorded-inode.ts';
import type { SeededRandom } from '../kit/seeded-random.ts';
import type { SimInode, SyncPoint } from './disk-inode.ts';
import type { SimFileSystem } from './disk-names.ts';
import type { CallKind } from './disk-seam.ts';

/** When a fault strikes. */
export interface FaultRule {
  /** Of the calls it could strike, 0 to 1. */
  readonly share: number;
  /** Only calls for paths that match. */
  readonly path?: RegExp;
  /** Counts down; unlimited when absent. */
  times?: number;
}

export interface ErrorRule extends FaultRule {
  readonly kinds: readonly CallKind[];
}

export interface MisdirectRule extends FaultRule {
  /** Files that may get what was meant for another, or for another place in them. */
  readonly onto?: RegExp;
}

/** What a fault did, for counting, and for checks that must leave out what it touched. */
export type TroubleKind =
  | 'eio'
  | 'failed-sync'
  | 'full'
  | 'read-only'
  | 'hang'
  | 'lost-write'
  | 'misdirected'
  | 'bit-rot'
  | 'unreadable'
  | 'power-cut'
  | 'restored'
  | 'wiped'
  | 'unmounted'
  | 'swapped';

/** How one disk misbehaves at present. Everything is off until it is set, and off again when it is taken away. */
export class DiskTrouble {
  /** Calls that fail with EIO. A failed write stores a prefix; a failed sync leaves its pages clean, and in doubt. */
  errors: readonly ErrorRule[] = [];
  /** Remounted read-only: what waits for a sync is in doubt. */
  isReadOnly = false;
  /** Every call takes so many times as long. */
  slowness = 1;
  /** Syncs that end well and leave some of their sectors behind. */
  lostWrites: FaultRule | undefined;
  /** Syncs that end well and put some of their sectors somewhere else. */
  misdirected: MisdirectRule | undefined;
  /** How often each struck. */
  readonly counts = new Map<TroubleKind, number>();
  readonly #random: SeededRandom;
  #held: (() => void)[] = [];
  #hanging: { readonly kinds: readonly CallKind[]; readonly path: string; readonly share: number }[] = [];

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  count(kind: TroubleKind): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }

  /**
   * No call of these kinds is answered until it is released; of one that is a killed process's, never.
   *
   * @param path of this file alone, all when absent
   * @param share of them, all when absent
   */
  hang(kinds: readonly CallKind[] = ['read', 'write', 'sync', 'name'], path = '', share = 1): void {
    this.#hanging.push({ kinds, path, share });
    this.count('hang');
  }

  release(): void {
    this.#hanging = [];
    const held = this.#held;
    this.#held = [];
    for (const again of held) again();
  }

  /** @param what the call, with its path */
  isHanging(kind: CallKind, what = ''): boolean {
    return this.#hanging.some(
      ({ kinds, path, share }) =>
        kinds.includes(kind) && what.includes(path) && (share === 1 || this.#random.float() < share),
    );
  }

  /** @param again called when it is released */
  hold(again: () => void): void {
    this.#held.push(again);
  }

  /** Nothing more from now on: what happened stays. */
  heal(): void {
    this.errors = [];
    this.isReadOnly = false;
    this.slowness = 1;
    this.lostWrites = undefined;
    this.misdirected = undefined;
    this.release();
  }

  /** Whether this call fails. */
  refusal(kind: CallKind, what: string, path: string): TfsError | undefined {
    if (this.isReadOnly && kind !== 'read')
      return this.#error('read-only', 'READ_ONLY', `${what} ${path}: EROFS`);
    for (const rule of this.errors) {
      if (!rule.kinds.includes(kind) || !this.#strikes(rule, path)) continue;
      return this.#error(kind === 'sync' ? 'failed-sync' : 'eio', 'IO', `${what} ${path}: EIO`);
    }
    return undefined;
  }

  full(path: string): TfsError {
    return this.#error('full', 'DISK_FULL', `write ${path}: ENOSPC`);
  }

  unreadable(inode: SimInode, path: string, start: number, end: number): TfsError | undefined {
    if (inode.unreadable === undefined) return undefined;
    for (const sector of inode.unreadable) {
      const at = sector * SECTOR_BYTES;
      if (at < end && at + SECTOR_BYTES > start) return new TfsError('IO', `read ${path}: EIO`);
    }
    return undefined;
  }

  /** A sync that says it ended well. */
  settle(files: SimFileSystem, inode: SimInode, point: SyncPoint): void {
    const { path } = inode;
    const isLost = this.#strikes(this.lostWrites, path);
    const isMisdirected = !isLost && this.#strikes(this.misdirected, path);
    const sectors = isLost || isMisdirected ? inode.waiting(point) : [];
    if (sectors.length === 0) inode.settle(point);
    else if (isLost) this.#lose(files, inode, point, sectors);
    else this.#misdirect(files, inode, point, sectors);
  }

  #lose(files: SimFileSystem, inode: SimInode, point: SyncPoint, sectors: readonly number[]): void {
    const random = this.#random;
    const lost = new Set(sectors.filter(() => random.float() < 0.5));
    if (lost.size === 0) lost.add(random.pick(sectors));
    inode.settle(point, lost);
    this.#leave(files, inode, 'lost-write', [...lost]);
  }

  #misdirect(files: SimFileSystem, inode: SimInode, point: SyncPoint, sectors: readonly number[]): void {
    const random = this.#random;
    const onto = this.misdirected?.onto;
    const others = [...files.durableNames]
      .filter(([path]) => onto?.test(path) ?? true)
      .map(([, other]) => other);
    const target = random.float() < 0.5 || others.length === 0 ? inode : random.pick(others);
    const first = random.below(sectors.length);
    const gone = sectors.slice(first, first + 1 + random.below(8));
    const bytes = gone.map((sector) => inode.sector(sector));
    inode.settle(point, new Set(gone));
    this.#leave(files, inode, 'misdirected', gone);
    // The right place of the wrong file, or any.
    const isSamePlace = target !== inode && random.float() < 0.5;
    const sectorsOfTarget = Math.max(1, Math.ceil(target.durableSize / SECTOR_BYTES));
    const start = isSamePlace ? gone[0]! : random.below(sectorsOfTarget);
    const hit = bytes.flatMap((sector, i) => (target.damageSector(start + i, sector) ? [start + i] : []));
    for (const sector of hit) files.noteDamage(target, `misdirected: sector ${sector}`);
    if (hit.length > 0) files.tellDurable(target);
  }

  /** The page cache still has what the medium never got, for a while. */
  #leave(files: SimFileSystem, inode: SimInode, kind: TroubleKind, sectors: readonly number[]): void {
    this.count(kind);
    for (const sector of sectors) files.noteDamage(inode, `${kind}: sector ${sector}`);
    if (this.#random.float() < 0.5) inode.evict(this.#random);
  }

  #strikes(rule: FaultRule | undefined, path: string): boolean {
    if (rule === undefined || rule.times === 0) return false;
    if (rule.path !== undefined && !rule.path.test(path)) return false;
    if (this.#random.float() >= rule.share) return false;
    if (rule.times !== undefined) rule.times--;
    return true;
  }

  #error(kind: TroubleKind, code: ErrorCode, message: string): TfsError {
    this.count(kind);
    return new TfsError(code, `${message} (simulated)`);
  }
}
