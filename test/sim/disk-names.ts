import { assert, TfsError } from '../../common/errors.ts';
import { directoryOf } from '../kit/disk-paths.ts';
import type { Fate } from './disk-fate.ts';
import { SimInode } from './disk-inode.ts';

/** A change of names that the next sync of its directory makes durable; `undefined` removes the name. */
interface NameChange {
  readonly sequence: number;
  readonly directory: string;
  readonly names: readonly (readonly [path: string, inode: SimInode | undefined])[];
}

const NONE: ReadonlySet<string> = new Set();

/** One file system: its names as calls see them, and as the medium holds them. */
export class SimFileSystem {
  /** Tells file systems apart, as a device number does. */
  readonly id: string;
  /** Bytes of all files that have a name. */
  usedBytes = 0;
  #nextInode = 1;
  #sequence = 0;
  /** Told what became durable under which name. */
  onDurable: ((path: string) => void) | undefined;
  readonly #names = new Map<string, SimInode>();
  readonly #directories = new Map<string, Set<string>>([['', new Set()]]);
  readonly #durable = new Map<string, SimInode>();
  #pending: NameChange[] = [];
  #damages = 0;
  #damaged: ReadonlySet<string> | undefined;

  constructor(id: string) {
    this.id = id;
  }

  /** In the order in which the names were made. */
  get names(): ReadonlyMap<string, SimInode> {
    return this.#names;
  }

  get durableNames(): ReadonlyMap<string, SimInode> {
    return this.#durable;
  }

  /** Every file that has a name, or may have one after a crash. */
  get inodes(): ReadonlySet<SimInode> {
    const found = new Set([...this.#durable.values(), ...this.#names.values()]);
    for (const { names } of this.#pending)
      for (const [, inode] of names) if (inode !== undefined) found.add(inode);
    return found;
  }

  /** Of the last change. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Numbers a change. */
  next(): number {
    return ++this.#sequence;
  }

  /** A change that may be one of the file's size, for the account. */
  resize(inode: SimInode, change: () => void): void {
    const before = inode.size;
    change();
    if (inode.links > 0) this.usedBytes += inode.size - before;
  }

  find(path: string): SimInode | undefined {
    return this.#names.get(path);
  }

  /** @throws TfsError NOT_FOUND */
  need(path: string): SimInode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw new TfsError('NOT_FOUND', `${path} does not exist`);
    return inode;
  }

  has(directory: string): boolean {
    return this.#directories.has(directory);
  }

  make(path: string): SimInode {
    this.#needDirectory(directoryOf(path));
    const inode = new SimInode(this.#nextInode++, path);
    this.#change(directoryOf(path), [[path, inode]]);
    return inode;
  }

  rename(from: string, to: string): void {
    const inode = this.need(from);
    this.#needDirectory(directoryOf(to));
    // Two names of one file: POSIX leaves both.
    if (this.#names.get(to) === inode) return;
    if (inode.path === from) inode.path = to;
    this.#change(directoryOf(to), [
      [from, undefined],
      [to, inode],
    ]);
  }

  link(from: string, to: string): void {
    const inode = this.need(from);
    if (this.#names.has(to)) throw new TfsError('CONFLICT', `${to} exists`);
    this.#needDirectory(directoryOf(to));
    this.#change(directoryOf(to), [[to, inode]]);
  }

  unlink(path: string): void {
    this.need(path);
    this.#change(directoryOf(path), [[path, undefined]]);
  }

  /** Durable at once: no store relies on a directory made while it runs. */
  mkdir(path: string): void {
    for (let at = path; at !== ''; at = directoryOf(at))
      if (!this.#directories.has(at)) this.#directories.set(at, new Set());
  }

  /** Paths, in name order. */
  list(directory: string): string[] {
    this.#needDirectory(directory);
    return [...this.#directories.get(directory)!].sort();
  }

  /** As of `sequence`: what came while the sync was under way is not a part of it. */
  syncDirectory(directory: string, sequence: number): void {
    this.#needDirectory(directory);
    this.#settle((change) => change.directory === directory && change.sequence <= sequence);
  }

  /** The kernel wrote some of the names by itself. */
  settleNames(keeps: () => boolean): void {
    if (this.#pending.length > 0) this.#settle(() => keeps());
  }

  /** Names, current and durable ones, of files that hold, or may hold after a crash, what a fault left there. */
  get damaged(): ReadonlySet<string> {
    if (this.#damages === 0) return NONE;
    if (this.#damaged === undefined) {
      const found = new Set<string>();
      for (const names of [this.#names, this.#durable])
        for (const [path, { damage }] of names) if (damage.length > 0) found.add(path);
      this.#damaged = found;
    }
    return this.#damaged;
  }

  noteDamage(inode: SimInode, what: string): void {
    inode.damage.push(what);
    this.#damages++;
    this.#damaged = undefined;
  }

  /** What became durable of a file is told under each of its durable names. */
  tellDurable(inode: SimInode): void {
    if (this.onDurable === undefined) return;
    for (const path of inode.durablePaths) this.onDurable(path);
  }

  /** The power goes: what was not settled is kept or lost, and is settled then. */
  cut(fate: Fate): void {
    const changed = new Set<SimInode>();
    for (const inode of this.inodes) {
      if (inode.isSettled) continue;
      inode.cut(fate);
      changed.add(inode);
    }
    this.#settle((change) => fate.keeps(change.sequence));
    this.#pending = [];
    this.#names.clear();
    for (const paths of this.#directories.values()) paths.clear();
    for (const inode of this.#durable.values()) inode.links = 0;
    this.usedBytes = 0;
    for (const [path, inode] of this.#durable) {
      if (this.#durable.get(inode.path) !== inode) inode.path = path;
      this.#set(path, inode);
    }
    for (const inode of changed) this.tellDurable(inode);
  }

  /** Another file system with what is durable here, as a snapshot of the medium has it. */
  copy(): SimFileSystem {
    const copy = new SimFileSystem(this.id);
    copy.#nextInode = this.#nextInode;
    copy.#damages = this.#damages;
    for (const directory of this.#directories.keys()) copy.mkdir(directory);
    const copies = new Map<SimInode, SimInode>();
    for (const [path, inode] of this.#durable) {
      const twin = copies.get(inode) ?? inode.copy();
      copies.set(inode, twin);
      copy.#durable.set(path, twin);
      twin.durablePaths.add(path);
      if (this.#durable.get(inode.path) !== inode) twin.path = path;
      copy.#set(path, twin);
    }
    return copy;
  }

  #settle(isDue: (change: NameChange) => boolean): void {
    let rest: NameChange[] = [];
    const told: string[] = [];
    for (const change of this.#pending) {
      if (!isDue(change)) {
        rest.push(change);
        continue;
      }
      // What was done to a name before that never overtakes it: a directory is written as it is, not as it once was.
      if (rest.length > 0) rest = rest.map((earlier) => without(earlier, change));
      for (const [path, inode] of change.names) {
        this.#durable.get(path)?.durablePaths.delete(path);
        if (inode === undefined) this.#durable.delete(path);
        else {
          this.#durable.set(path, inode);
          inode.durablePaths.add(path);
        }
        told.push(path);
      }
    }
    this.#pending = rest;
    this.#damaged = undefined;
    if (this.onDurable !== undefined) for (const path of told) this.onDurable(path);
  }

  #change(directory: string, names: NameChange['names']): void {
    for (const [path, inode] of names) this.#set(path, inode);
    this.#pending.push({ sequence: this.next(), directory, names });
  }

  #set(path: string, inode: SimInode | undefined): void {
    this.#damaged = undefined;
    const replaced = this.#names.get(path);
    if (replaced !== undefined && --replaced.links === 0) this.usedBytes -= replaced.size;
    const paths = this.#directories.get(directoryOf(path));
    assert(paths !== undefined, `the directory of ${path} exists`);
    if (inode === undefined) {
      this.#names.delete(path);
      paths.delete(path);
      return;
    }
    if (inode.links++ === 0) this.usedBytes += inode.size;
    this.#names.set(path, inode);
    paths.add(path);
  }

  #needDirectory(directory: string): void {
    if (!this.#directories.has(directory)) throw new TfsError('NOT_FOUND', `${directory} does not exist`);
  }
}

const without = (earlier: NameChange, { names }: NameChange): NameChange => ({
  ...earlier,
  names: earlier.names.filter(([path]) => !names.some(([name]) => name === path)),
});
