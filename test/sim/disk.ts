import type { ServerId } from '../../common/ids.ts';
import type { Disk } from '../../common/seams/disk.ts';
import { formatDisk } from '../../dataserver/mount.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { drawFate, type PowerCutStyle } from './disk-fate.ts';
import type { SimInode } from './disk-inode.ts';
import { SimFileSystem } from './disk-names.ts';
import { sectorOf } from './disk-pages.ts';
import { type CallKind, type DiskUser, SimDisk } from './disk-seam.ts';
import { DiskTrouble, type TroubleKind } from './disk-trouble.ts';

const DISK_BYTES = 1 << 30;
/** Milliseconds: the least, and what is drawn on top. */
const LATENCY: Record<CallKind, readonly [least: number, more: number]> = {
  read: [0.1, 0.9],
  write: [0.02, 0.2],
  sync: [0.5, 4.5],
  name: [0.05, 0.5],
};
const LONG_TAIL = 0.004;
const LONG_TAIL_MS = 40;

/** Where a fault strikes; drawn where it is not said. */
export interface Place {
  readonly path?: string | RegExp;
  /** Byte. */
  readonly position?: number;
}

export interface Struck {
  readonly path: string;
  readonly position: number;
}

/**
 * What outlives the processes of one mount: files, as the page cache and as the medium has them. Everything that is
 * left open (how long a call takes, what a crash keeps) is drawn from its seed.
 */
export class SimMedium {
  readonly name: string;
  readonly random: SeededRandom;
  /** Bytes all files may take together. */
  capacityBytes = DISK_BYTES;
  /** What goes wrong at present. */
  readonly faults: DiskTrouble;
  #disk: SimFileSystem;
  /** Mounted over it: the disk is still there, and open files are still its. */
  #over: SimFileSystem | undefined;
  /** Whose disk is mounted here: what is restored or wiped meanwhile is a disk, wherever it is. */
  #mounted: SimMedium = this;
  #onDurable: ((path: string) => void) | undefined;
  #fileSystems = 0;

  constructor(options: { readonly name: string; readonly seed: number; readonly capacityBytes?: number }) {
    this.name = options.name;
    this.random = new SeededRandom(options.seed);
    this.capacityBytes = options.capacityBytes ?? DISK_BYTES;
    this.faults = new DiskTrouble(this.random);
    this.#disk = this.#made();
  }

  /** The seam for one life of one process; several may have the mount at once. */
  mount(process: DiskUser): Disk {
    return new SimDisk(this, process);
  }

  /** The seam for whoever prepares or checks, at no time: each call is done when it is made. */
  direct(): Disk {
    return new SimDisk(this, {
      isAlive: true,
      onKilled: [],
      clock: { now: () => 0 },
      at: (_delayMs, _what, run) => run(),
    });
  }

  /** What `tfs format` does. */
  async format(owner: { readonly clusterUuid: string; readonly server: ServerId }): Promise<void> {
    await formatDisk(this.direct(), { ...owner, path: this.name, formattedAt: new Date(0) });
  }

  /** Called when what the medium holds, or the names by which it does, changed. */
  set onDurable(told: ((path: string) => void) | undefined) {
    this.#onDurable = told;
    this.#disk.onDurable = told;
  }

  /**
   * @returns the content after a power cut that loses all it may; undefined where the name is not durable. A view
   *   where nothing is unsettled: it is to be used at once, and never written to.
   */
  durable(path: string): Buffer | undefined {
    return this.#disk.durableNames.get(path)?.durable;
  }

  /** @returns as a process reads it, page cache and all; undefined where there is no such name. A view, as that is. */
  readable(path: string): Buffer | undefined {
    return this.#disk.find(path)?.content;
  }

  /** In name order. */
  durablePaths(): string[] {
    return [...this.#disk.durableNames.keys()].sort();
  }

  /**
   * The power goes, after the processes of this mount were killed: what was not settled is kept or lost, as drawn.
   */
  powerCut(random: SeededRandom = this.random, style?: PowerCutStyle): void {
    this.faults.count('power-cut');
    this.#disk.cut(drawFate(random, this.#disk.sequence, style));
  }

  /** The kernel goes on: it may write what waited, and may let go of pages that a failed sync left clean. */
  processKilled(): void {
    const { random } = this;
    if (random.float() < 0.5) return;
    for (const inode of this.#disk.inodes) {
      if (inode.isSettled) continue;
      inode.settleSome(inode.everything(this.#disk.sequence), random);
      inode.evict(random);
      this.#disk.tellDurable(inode);
    }
    this.#disk.settleNames(() => random.float() < 0.5);
  }

  /** Names, current and durable ones, of files that hold, or may hold after a crash, what a fault left there. */
  get damaged(): ReadonlySet<string> {
    return this.#disk.damaged;
  }

  /** Bit rot, now: one bit of what the medium holds. @returns where, undefined when nothing matches */
  flip(where: Place = {}): Struck | undefined {
    return this.#damage('bit-rot', where, (inode, position) => inode.flip(position, this.random.below(8)));
  }

  /** A sector of which the medium gives nothing more until it is written again. @returns as {@link flip} */
  spoil(where: Place = {}): Struck | undefined {
    return this.#damage('unreadable', where, (inode, position) => {
      inode.unreadable ??= new Set();
      inode.unreadable.add(sectorOf(position));
    });
  }

  /** What a snapshot of the medium has: what is durable now. */
  snapshot(): SimFileSystem {
    return this.#disk.copy();
  }

  /** The medium holds again what it held then. No process has it mounted. */
  restore(snapshot: SimFileSystem): void {
    this.faults.count('restored');
    this.#replace(snapshot.copy());
  }

  /** An empty disk is in its place for good; who has files of the old one open keeps them. */
  wipe(): void {
    this.faults.count('wiped');
    this.#replace(this.#made());
  }

  /** The disk is not there: calls by name find an empty directory. Open files stay. */
  unmount(): void {
    this.faults.count('unmounted');
    this.#over = this.#made();
  }

  /** Calls by name find on each what they found on the other; a second time undoes it. Open files stay. */
  swap(other: SimMedium): void {
    this.faults.count('swapped');
    [this.#mounted, other.#mounted] = [other.#mounted, this.#mounted];
  }

  /** Its own disk is mounted again. */
  remount(): void {
    this.#over = undefined;
  }

  #made(): SimFileSystem {
    return new SimFileSystem(`${this.name}.${++this.#fileSystems}`);
  }

  #replace(fileSystem: SimFileSystem): void {
    const paths = new Set([...this.#disk.durableNames.keys(), ...fileSystem.durableNames.keys()]);
    this.#disk.onDurable = undefined;
    this.#disk = fileSystem;
    fileSystem.onDurable = this.#onDurable;
    if (this.#onDurable !== undefined) for (const path of paths) this.#onDurable(path);
  }

  #damage(
    kind: TroubleKind,
    { path: wanted, position: at }: Place,
    change: (inode: SimInode, position: number) => void,
  ): Struck | undefined {
    const isWanted = (path: string): boolean =>
      wanted instanceof RegExp ? wanted.test(path) : path === wanted;
    const candidates = [...this.#disk.durableNames].filter(
      ([path, inode]) => (wanted === undefined || isWanted(path)) && inode.durableSize > (at ?? 0),
    );
    if (candidates.length === 0) return undefined;
    const [path, inode] = this.random.pick(candidates);
    const position = at ?? this.random.below(inode.durableSize);
    change(inode, position);
    this.#disk.noteDamage(inode, `${kind}: byte ${position}`);
    this.faults.count(kind);
    this.#disk.tellDurable(inode);
    return { path, position };
  }

  // What follows is for the seam.

  /** What calls by name see. */
  get fileSystem(): SimFileSystem {
    return this.#over ?? this.#mounted.#disk;
  }

  latencyMs(kind: CallKind): number {
    const [least, more] = LATENCY[kind];
    const drawn = this.random.float();
    const usual = drawn < LONG_TAIL ? (drawn / LONG_TAIL) * LONG_TAIL_MS : least + more * drawn * drawn;
    return usual * this.faults.slowness;
  }

  refuse(kind: CallKind, what: string, path: string): void {
    const refused = this.faults.refusal(kind, what, path);
    if (refused !== undefined) throw refused;
  }

  refuseSectors(inode: SimInode, path: string, start: number, end: number): void {
    const refused = this.faults.unreadable(inode, path, start, end);
    if (refused !== undefined) throw refused;
  }
}
