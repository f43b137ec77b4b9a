import { assert, type ErrorCode, TfsError } from '../../common/errors.ts';
import type { Disk, DiskFile, FileUse, OpenMode } from '../../common/seams/disk.ts';
import { checkPath, directoryOf } from './disk-paths.ts';
import { RecordedFile } from './recorded-file.ts';
import { type Change, Inode } from './recorded-inode.ts';

const DISK_BYTES = 1 << 30;
const DONE = Promise.resolve();

/** A change of names that the directory's next sync makes durable. `undefined` removes the name. */
interface NameChange {
  readonly directory: string;
  readonly names: readonly (readonly [path: string, inode: Inode | undefined])[];
}

/** What a failing call does. A call that fails has no effect, but for a write, which may have stored some sectors. */
export type FailureCode = 'IO' | 'DISK_FULL' | 'READ_ONLY';

/** The kinds of calls a failure may be limited to. */
export type CallKind = 'read' | 'write' | 'sync' | 'name' | 'open';

export interface FailurePlan {
  /** Counts down with every call of a matching kind; the call that brings it to 0 fails. */
  nth: number;
  readonly code: FailureCode;
  readonly kinds?: readonly CallKind[];
  /** All matching calls after it fail too. */
  readonly sticky?: boolean;
}

/** Everything a power failure might do at one moment, frozen: the disk goes on without it. */
export interface CrashPoint {
  /** Changes that are not durable: each may be there after the crash or not. */
  readonly units: number;
  /** The disk after a crash that kept the units for which `keep` is true. */
  image(keep: (unit: number) => boolean): RecordingDisk;
}

/**
 * A disk in memory that remembers what is durable and what is not.
 *
 * - Written sectors of 512 bytes stay volatile until the file's `datasync`; a crash keeps any subset of them, and of
 *   the changes of size. A lost sector below the size that was kept reads as what was there before, or zeros.
 * - A new, renamed or removed name stays volatile until `syncDirectory` of its directory (of the target's, for a
 *   rename); a crash keeps any subset of them.
 * - A failed `datasync` leaves the pages clean: later good ones do not write them, reads still show them, and a crash
 *   may keep any of them or none.
 */
export class RecordingDisk implements Disk {
  /** Awaited after every call that changed something, so that a test can crash there. */
  onStep: (() => Promise<void>) | undefined;
  failure: FailurePlan | undefined;
  /** Calls made so far, by kind. */
  readonly calls: Record<CallKind, number> = { read: 0, write: 0, sync: 0, name: 0, open: 0 };
  /** Draws which sectors of a failing write are stored. */
  tearing: () => number = () => 0;
  /** A planted bug: whether a sync of this file, or of this directory with a slash behind it, does nothing. */
  ignoresSync: ((path: string) => boolean) | undefined;
  /** Bytes all files may take together. */
  capacityBytes = DISK_BYTES;
  readonly #names: Map<string, Inode>;
  readonly #durableNames: Map<string, Inode>;
  readonly #directories: Set<string>;
  #pendingNames: NameChange[] = [];
  readonly #inodeNumbers = new Map<Inode, number>();

  constructor(names: Map<string, Inode> = new Map(), directories: Iterable<string> = ['']) {
    this.#names = names;
    this.#durableNames = new Map(names);
    this.#directories = new Set(directories);
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    checkPath(path);
    this.begin('open', `open ${path}`);
    this.#needDirectory(path);
    const found = this.#names.get(path);
    if (mode === 'exclusive' && found !== undefined) throw new TfsError('CONFLICT', `${path} exists`);
    if ((mode === 'read' || mode === 'write') && found === undefined)
      throw new TfsError('NOT_FOUND', `${path} does not exist`);
    if (found !== undefined) {
      if (mode === 'create') {
        found.truncate(0);
        await this.step();
      }
      return new RecordedFile(this, found, path, mode !== 'read');
    }
    const inode = new Inode();
    this.#change({ directory: directoryOf(path), names: [[path, inode]] });
    await this.step();
    return new RecordedFile(this, inode, path, true);
  }

  async readFile(path: string): Promise<Buffer> {
    checkPath(path);
    this.begin('read', `read ${path}`);
    const inode = this.#names.get(path);
    if (inode === undefined) throw new TfsError('NOT_FOUND', `${path} does not exist`);
    if (inode.unreadable !== undefined) throw new TfsError('IO', `read ${path}: EIO (planned)`);
    return Buffer.from(inode.content);
  }

  async rename(from: string, to: string): Promise<void> {
    checkPath(from);
    checkPath(to);
    this.begin('name', `rename ${from}`);
    const inode = this.#names.get(from);
    if (inode === undefined) throw new TfsError('NOT_FOUND', `${from} does not exist`);
    this.#needDirectory(to);
    // Two names of one file: POSIX leaves both.
    if (this.#names.get(to) === inode) return;
    this.#change({
      directory: directoryOf(to),
      names: [
        [from, undefined],
        [to, inode],
      ],
    });
    await this.step();
  }

  async link(from: string, to: string): Promise<void> {
    checkPath(from);
    checkPath(to);
    this.begin('name', `link ${from}`);
    const inode = this.#names.get(from);
    if (inode === undefined) throw new TfsError('NOT_FOUND', `${from} does not exist`);
    if (this.#names.has(to)) throw new TfsError('CONFLICT', `${to} exists`);
    this.#needDirectory(to);
    this.#change({ directory: directoryOf(to), names: [[to, inode]] });
    await this.step();
  }

  async unlink(path: string): Promise<void> {
    checkPath(path);
    this.begin('name', `unlink ${path}`);
    if (!this.#names.has(path)) throw new TfsError('NOT_FOUND', `${path} does not exist`);
    this.#change({ directory: directoryOf(path), names: [[path, undefined]] });
    await this.step();
  }

  /** Durable at once: no store relies on a directory made while it runs. */
  async mkdir(path: string): Promise<void> {
    checkPath(path);
    this.begin('name', `mkdir ${path}`);
    for (let at = path; at !== ''; at = directoryOf(at)) this.#directories.add(at);
  }

  async list(directory: string): Promise<string[]> {
    if (directory !== '') checkPath(directory);
    this.begin('read', `list ${directory}`);
    if (!this.#directories.has(directory)) throw new TfsError('NOT_FOUND', `${directory} does not exist`);
    const names: string[] = [];
    for (const path of this.#names.keys()) {
      if (directoryOf(path) === directory) names.push(path.slice(path.lastIndexOf('/') + 1));
    }
    return names.sort();
  }

  async usage(directory: string): Promise<FileUse[]> {
    const names = await this.list(directory);
    const files = names.map((name): FileUse => {
      const size = this.#names.get(directory === '' ? name : `${directory}/${name}`)!.content.length;
      return { name, size, allocatedBytes: size, mtimeMs: 0 };
    });
    return [{ name: '', size: 0, allocatedBytes: 0, mtimeMs: 0 }, ...files];
  }

  async stat(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
    checkPath(path);
    this.begin('read', `stat ${path}`);
    const inode = this.#names.get(path);
    return inode === undefined ? undefined : { size: inode.content.length, mtimeMs: 0 };
  }

  async identity(path: string): Promise<string | undefined> {
    checkPath(path);
    this.begin('read', `stat ${path}`);
    const inode = this.#names.get(path);
    if (inode === undefined) return undefined;
    let number = this.#inodeNumbers.get(inode);
    if (number === undefined) {
      number = this.#inodeNumbers.size + 1;
      this.#inodeNumbers.set(inode, number);
    }
    return String(number);
  }

  async syncDirectory(directory: string): Promise<void> {
    if (directory !== '') checkPath(directory);
    this.begin('sync', `fsync ${directory}`);
    if (!this.#directories.has(directory)) throw new TfsError('NOT_FOUND', `${directory} does not exist`);
    if (this.ignoresSync?.(`${directory}/`)) return this.step();
    let rest: NameChange[] = [];
    for (const change of this.#pendingNames) {
      if (change.directory !== directory) {
        rest.push(change);
        continue;
      }
      // What was done to a name before that never overtakes it: a directory is written as it is, not as it once was.
      if (rest.length > 0) rest = rest.map((earlier) => without(earlier, change));
      apply(this.#durableNames, change);
    }
    this.#pendingNames = rest;
    await this.step();
  }

  async space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    return { totalBytes: this.capacityBytes, freeBytes: Math.max(0, this.capacityBytes - this.usedBytes) };
  }

  get usedBytes(): number {
    let used = 0;
    for (const inode of new Set(this.#names.values())) used += inode.content.length;
    return used;
  }

  get paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** Equal for disks with the same files, of those whose path starts so: what reads see, not what is durable. */
  fingerprint(prefix = ''): string {
    const parts: string[] = [];
    for (const [path, inode] of this.#names)
      if (path.startsWith(prefix)) parts.push(`${path} ${inode.checksum}`);
    return parts.sort().join();
  }

  /** For tests that damage a file: changes what is there, durably. */
  corrupt(path: string, damage: (content: Buffer) => Buffer | void): void {
    const inode = this.#names.get(path);
    assert(inode !== undefined, `${path} exists`);
    const content = Buffer.from(inode.content);
    inode.replace(damage(content) ?? content);
  }

  /** For tests of bad sectors: reads that touch [start, end) of this file fail, whatever its name becomes; none if empty. */
  spoil(path: string, start: number, end: number): void {
    const inode = this.#names.get(path);
    assert(inode !== undefined, `${path} exists`);
    inode.unreadable = start < end ? { start, end } : undefined;
  }

  /** For tests that bring a file from elsewhere: durable, under a durable name. */
  plant(path: string, content: Buffer): void {
    checkPath(path);
    const inode = new Inode(Buffer.from(content));
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
  }

  /** What a clean shutdown and a restart find: everything, durable. */
  settled(): RecordingDisk {
    const point = this.crashPoint();
    return point.image(() => true);
  }

  /** What another process finds when this one was killed: the kernel still has all of it, and has lost nothing yet. */
  fork(): RecordingDisk {
    const twins = new Map<Inode, Inode>();
    const twinOf = (inode: Inode): Inode => {
      const twin = twins.get(inode) ?? inode.fork();
      twins.set(inode, twin);
      return twin;
    };
    const mapped = (names: Map<string, Inode>) =>
      Array.from(names, ([path, inode]) => [path, twinOf(inode)] as const);
    const disk = new RecordingDisk(new Map(mapped(this.#names)), this.#directories);
    disk.#durableNames.clear();
    for (const [path, inode] of mapped(this.#durableNames)) disk.#durableNames.set(path, inode);
    disk.#pendingNames = this.#pendingNames.map((change) => ({
      ...change,
      names: change.names.map(([path, inode]) => [path, inode && twinOf(inode)] as const),
    }));
    disk.capacityBytes = this.capacityBytes;
    disk.ignoresSync = this.ignoresSync;
    return disk;
  }

  crashPoint(): CrashPoint {
    const durable = new Map(this.#durableNames);
    const nameChanges = this.#pendingNames.slice();
    const inodes = new Set(durable.values());
    for (const change of nameChanges)
      for (const [, inode] of change.names) if (inode !== undefined) inodes.add(inode);
    const frozen: Frozen[] = [];
    let units = nameChanges.length;
    for (const inode of inodes) {
      const changes = inode.unsettled;
      frozen.push({ inode, durable: inode.durable, changes, first: units, after: new Map() });
      units += changes.length;
    }
    const directories = [...this.#directories];
    const image = (keep: (unit: number) => boolean): RecordingDisk => {
      const copies = new Map<Inode, Inode>();
      for (const each of frozen) {
        const copy = new Inode(contentAfter(each, keep));
        copy.unreadable = each.inode.unreadable;
        copies.set(each.inode, copy);
      }
      const names = new Map<string, Inode>();
      for (const [path, inode] of durable) names.set(path, copies.get(inode)!);
      nameChanges.forEach((change, i) => {
        if (!keep(i)) return;
        apply(names, { ...change, names: change.names.map(([path, n]) => [path, n && copies.get(n)!]) });
      });
      const disk = new RecordingDisk(names, directories);
      disk.capacityBytes = this.capacityBytes;
      disk.ignoresSync = this.ignoresSync;
      return disk;
    };
    return { units, image };
  }

  /** Counts the call, and fails it when its turn has come. */
  begin(kind: CallKind, what: string): void {
    this.calls[kind]++;
    const error = this.due(kind, what);
    if (error !== undefined) throw error;
  }

  due(kind: CallKind, what: string): TfsError | undefined {
    const plan = this.failure;
    if (plan === undefined || (plan.kinds !== undefined && !plan.kinds.includes(kind))) return undefined;
    plan.nth--;
    if (plan.nth > 0 || (plan.nth < 0 && !plan.sticky)) return undefined;
    return new TfsError(plan.code satisfies ErrorCode, `${what}: ${plan.code} (planned)`);
  }

  step(): Promise<void> {
    return this.onStep?.() ?? DONE;
  }

  #change(change: NameChange): void {
    apply(this.#names, change);
    this.#pendingNames.push(change);
  }

  #needDirectory(path: string): void {
    const directory = directoryOf(path);
    if (!this.#directories.has(directory)) throw new TfsError('NOT_FOUND', `${directory} does not exist`);
  }
}

/** A file at a crash point. */
interface Frozen {
  readonly inode: Inode;
  readonly durable: Buffer;
  readonly changes: readonly Change[];
  /** Unit number of its first change. */
  readonly first: number;
  /** What it is after the crashes so far: many images keep the same of it. */
  readonly after: Map<string, Buffer>;
}

function contentAfter(file: Frozen, keep: (unit: number) => boolean): Buffer {
  const { durable, changes, first, after } = file;
  if (changes.length === 0) return durable;
  const kept = changes.map((_, i) => keep(first + i));
  const key = kept.map(Number).join('');
  let content = after.get(key);
  if (content === undefined) {
    content = Inode.after(durable, changes, (i) => kept[i]!);
    after.set(key, content);
  }
  return content;
}

function apply(names: Map<string, Inode>, change: NameChange): void {
  for (const [path, inode] of change.names) {
    if (inode === undefined) names.delete(path);
    else names.set(path, inode);
  }
}

const without = (earlier: NameChange, { names }: NameChange): NameChange => ({
  ...earlier,
  names: earlier.names.filter(([path]) => !names.some(([name]) => name === path)),
});
