/**
 * The files of one mount. Contract:
 *
 * - Paths are relative to the mount, made of `[a-z0-9._-]` segments; anything else is an assertion.
 * - Written bytes are durable once `datasync` of that file has resolved, not before. A new, renamed or removed name
 *   is durable once `syncDirectory` of its directory has resolved, not before.
 * - `write` stores all the bytes or rejects; a short write of the operating system is continued, and its ENOSPC is
 *   reported. After a rejected write the contents of that range are unknown.
 * - After a rejected `datasync` nothing written since the last good one may be assumed on the medium, and a later
 *   good `datasync` does not change that: the caller must give the file up.
 * - `read` fills the buffer up to the end of the file and resolves with the count; a short count means end of file.
 * - Errors are TfsError: IO, DISK_FULL, READ_ONLY (EROFS), NOT_FOUND for a missing file, CONFLICT where `exclusive`
 *   found one. EIO is never anything but IO.
 */
export interface Disk {
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** Reads a whole small file. */
  readFile(path: string): Promise<Buffer>;
  rename(from: string, to: string): Promise<void>;
  /** A second name for the same file; CONFLICT where the name is taken, IO on a file system that has no such thing. */
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string): Promise<void>;
  /** File names in a directory, in name order, without directories; an empty path is the mount itself. */
  list(directory: string): Promise<string[]>;
  /**
   * What a directory takes: itself first, under the empty name, then its files, whatever their names are, without
   * directories. What is removed meanwhile may be left out.
   */
  usage(directory: string): Promise<FileUse[]>;
  stat(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined>;
  /**
   * Which file the name stands for: the same text as long as it is the same file on the same file system, also when it
   * was written; undefined where there is none.
   */
  identity(path: string): Promise<string | undefined>;
  syncDirectory(directory: string): Promise<void>;
  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }>;
}

export interface FileUse {
  readonly name: string;
  readonly size: number;
  /** Of the file system. */
  readonly allocatedBytes: number;
  readonly mtimeMs: number;
}

/** `create` makes the file or empties it; `exclusive` insists on making it; `write` and `read` insist on finding it. */
export type OpenMode = 'read' | 'write' | 'create' | 'exclusive';

export interface DiskFile {
  /** Reads into the whole of `target` from `position`. @returns bytes read */
  read(target: Buffer, position: number): Promise<number>;
  /** Writes the buffers one after the other at `position` with one system call where the platform can. */
  write(buffers: readonly Buffer[], position: number): Promise<void>;
  /**
   * `write` and then `datasync`, with one system call where the platform can. It promises durability for its own
   * bytes and the size they need only; after a rejection the file must be given up, as after a failed `datasync`,
   * unless the code is DISK_FULL, which is a failed `write`.
   */
  writeDurable(buffers: readonly Buffer[], position: number): Promise<void>;
  datasync(): Promise<void>;
  truncate(size: number): Promise<void>;
  size(): Promise<number>;
  /** Waits for operations in flight; using the file afterwards is an assertion. */
  close(): Promise<void>;
}
