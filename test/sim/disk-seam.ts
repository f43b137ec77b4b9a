import { TfsError } from '../../common/errors.ts';
import type { Disk, DiskFile, FileUse, OpenMode } from '../../common/seams/disk.ts';
import { checkPath } from '../kit/disk-paths.ts';
import type { SimMedium } from './disk.ts';
import { SimFile } from './disk-file.ts';

const ALLOCATION_BYTES = 4096;

/** Whose calls they are: a {@link SimProcess}, or somebody for whom everything happens at once. */
export interface DiskUser {
  readonly isAlive: boolean;
  readonly onKilled: ((silently: boolean) => void)[];
  readonly clock: { now(): number };
  at(delayMs: number, what: string, run: () => void): unknown;
}

/** What the call does to the disk; decides how long it takes and which faults it meets. */
export type CallKind = 'read' | 'write' | 'sync' | 'name';

/** A call that waits for its event. */
interface Waiting<T> {
  readonly kind: CallKind;
  readonly what: string;
  readonly effect: () => T;
  readonly orphaned: (() => void) | undefined;
  readonly ended: (() => void) | undefined;
  readonly resolve: (result: T) => void;
  readonly reject: (error: unknown) => void;
}

/** The seam for one life of one process on a {@link SimMedium}. Each call is one event. */
export class SimDisk implements Disk {
  readonly #medium: SimMedium;
  readonly #user: DiskUser;
  /** Those that leave something behind when the process is killed. */
  readonly #inFlight = new Set<() => void>();

  constructor(medium: SimMedium, user: DiskUser) {
    this.#medium = medium;
    this.#user = user;
    user.onKilled.push(() => {
      for (const orphaned of this.#inFlight) orphaned();
      this.#inFlight.clear();
    });
  }

  /** Nothing that a killed process asks for is done. */
  get isOver(): boolean {
    return !this.#user.isAlive;
  }

  get now(): number {
    return this.#user.clock.now();
  }

  /**
   * What a killed process waits for never comes. The functions are arguments, not named properties: with keepNames, as
   * tsx has it, giving one its name costs more than the call.
   *
   * @param what for the trace
   * @param effect when its event comes; what it throws is what the caller gets
   * @param orphaned instead, when the caller is killed before that
   * @param ended after it, whatever came of it
   */
  call<T>(
    kind: CallKind,
    what: string,
    effect: () => T,
    orphaned?: () => void,
    ended?: () => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.isOver) return;
      const waiting = { kind, what, effect, orphaned, ended, resolve, reject };
      if (orphaned !== undefined) this.#inFlight.add(orphaned);
      this.#user.at(this.#medium.latencyMs(kind), what, () => this.#end(waiting));
    });
  }

  #end<T>(waiting: Waiting<T>): void {
    const { kind, what, effect, orphaned, ended, resolve, reject } = waiting;
    const { faults } = this.#medium;
    if (faults.isHanging(kind, what)) {
      faults.hold(() => this.#user.at(0, what, () => this.#end(waiting)));
      return;
    }
    if (orphaned !== undefined) this.#inFlight.delete(orphaned);
    let result: T;
    try {
      result = effect();
    } catch (error) {
      ended?.();
      reject(error);
      return;
    }
    ended?.();
    resolve(result);
  }

  open(path: string, mode: OpenMode): Promise<DiskFile> {
    checkPath(path);
    const open = (): DiskFile => {
      const medium = this.#medium;
      const files = medium.fileSystem;
      medium.refuse(mode === 'read' ? 'read' : 'name', 'open', path);
      const found = files.find(path);
      if (mode === 'exclusive' && found !== undefined) throw new TfsError('CONFLICT', `${path} exists`);
      const isNew = found === undefined && (mode === 'create' || mode === 'exclusive');
      const inode = isNew ? files.make(path) : files.need(path);
      if (isNew) inode.mtimeMs = this.now;
      else if (mode === 'create') files.resize(inode, () => inode.truncate(0, files.next()));
      return new SimFile({ disk: this, medium, files, inode, isWritable: mode !== 'read' });
    };
    if (mode === 'read' || mode === 'write') return this.#read(`disk open ${path}`, open);
    return this.#name(`disk ${mode} ${path}`, open);
  }

  readFile(path: string): Promise<Buffer> {
    checkPath(path);
    return this.#read(`disk read ${path}`, () => {
      this.#medium.refuse('read', 'read', path);
      const inode = this.#medium.fileSystem.need(path);
      this.#medium.refuseSectors(inode, path, 0, inode.size);
      return Buffer.from(inode.content);
    });
  }

  rename(from: string, to: string): Promise<void> {
    checkPath(from);
    checkPath(to);
    return this.#name(`disk rename ${from} ${to}`, () => {
      this.#medium.refuse('name', 'rename', from);
      this.#medium.fileSystem.rename(from, to);
    });
  }

  link(from: string, to: string): Promise<void> {
    checkPath(from);
    checkPath(to);
    return this.#name(`disk link ${from} ${to}`, () => {
      this.#medium.refuse('name', 'link', from);
      this.#medium.fileSystem.link(from, to);
    });
  }

  unlink(path: string): Promise<void> {
    checkPath(path);
    return this.#name(`disk unlink ${path}`, () => {
      this.#medium.refuse('name', 'unlink', path);
      this.#medium.fileSystem.unlink(path);
    });
  }

  mkdir(path: string): Promise<void> {
    checkPath(path);
    return this.#name(`disk mkdir ${path}`, () => {
      this.#medium.refuse('name', 'mkdir', path);
      this.#medium.fileSystem.mkdir(path);
    });
  }

  list(directory: string): Promise<string[]> {
    if (directory !== '') checkPath(directory);
    return this.#read(`disk list ${directory}`, () => {
      this.#medium.refuse('read', 'list', directory);
      const cut = directory === '' ? 0 : directory.length + 1;
      return this.#medium.fileSystem.list(directory).map((path) => path.slice(cut));
    });
  }

  usage(directory: string): Promise<FileUse[]> {
    if (directory !== '') checkPath(directory);
    return this.#read(`disk usage ${directory}`, () => {
      this.#medium.refuse('read', 'usage', directory);
      const files = this.#medium.fileSystem;
      const uses: FileUse[] = [{ name: '', size: 0, allocatedBytes: 0, mtimeMs: 0 }];
      for (const path of files.list(directory)) {
        const { size, mtimeMs } = files.need(path);
        const allocatedBytes = Math.ceil(size / ALLOCATION_BYTES) * ALLOCATION_BYTES;
        uses.push({ name: path.slice(path.lastIndexOf('/') + 1), size, allocatedBytes, mtimeMs });
      }
      return uses;
    });
  }

  stat(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
    checkPath(path);
    return this.#read(`disk stat ${path}`, () => {
      this.#medium.refuse('read', 'stat', path);
      const inode = this.#medium.fileSystem.find(path);
      return inode && { size: inode.size, mtimeMs: inode.mtimeMs };
    });
  }

  identity(path: string): Promise<string | undefined> {
    checkPath(path);
    return this.#read(`disk identity ${path}`, () => {
      this.#medium.refuse('read', 'stat', path);
      const { fileSystem: files } = this.#medium;
      const inode = files.find(path);
      return inode && `${files.id}:${inode.number}`;
    });
  }

  syncDirectory(directory: string): Promise<void> {
    if (directory !== '') checkPath(directory);
    const medium = this.#medium;
    const { fileSystem: files } = medium;
    const { sequence } = files;
    return this.call(
      'sync',
      `disk syncdir ${directory}`,
      () => {
        medium.refuse('sync', 'fsync', directory);
        files.syncDirectory(directory, sequence);
      },
      () => {
        if (medium.random.float() < 0.5 && files.has(directory)) files.syncDirectory(directory, sequence);
      },
    );
  }

  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    return this.#read('disk space', () => {
      const { capacityBytes, fileSystem } = this.#medium;
      return {
        totalBytes: capacityBytes,
        freeBytes: Math.max(0, capacityBytes - fileSystem.usedBytes),
      };
    });
  }

  #read<T>(what: string, effect: () => T): Promise<T> {
    return this.call('read', what, effect);
  }

  /** One that the process does not live to see happens or not: the kernel may have begun it. */
  #name<T>(what: string, effect: () => T): Promise<T> {
    return this.call('name', what, effect, () => {
      if (this.#medium.random.float() < 0.5) return;
      try {
        effect();
      } catch (error) {
        // Nobody is left who would hear of it.
        if (!(error instanceof TfsError)) throw error;
      }
    });
  }
}
