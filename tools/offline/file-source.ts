import { type FileHandle, open } from 'node:fs/promises';
import { TfsError } from '../../common/errors.ts';
import type { ByteSource } from '../../common/format/source.ts';

/** A file anywhere, opened for reading alone. */
export interface FileSource extends ByteSource {
  readonly path: string;
  /** Bytes, in sectors of 4096, that the disk could not read and that were given as zeros; 0 for a strict source. */
  readonly unreadableBytes: number;
  close(): Promise<void>;
}

export interface FileSourceOptions {
  /** Give zeros for what the disk cannot read, instead of failing: only for getting out what is left. */
  readonly tolerant?: boolean;
}

/** What a disk fails to read at the least. */
const SECTOR_BYTES = 4096;

/** @throws TfsError NOT_FOUND, FORBIDDEN, BAD_REQUEST (not a file) or IO, with the path */
export async function openFileSource(path: string, options: FileSourceOptions = {}): Promise<FileSource> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    throw openError(path, cause as NodeJS.ErrnoException);
  }
  const stats = await file.stat();
  if (!stats.isFile()) {
    await file.close();
    throw new TfsError('BAD_REQUEST', `${path} is not a file`);
  }
  return new NodeFileSource(path, file, stats.size, options.tolerant === true);
}

class NodeFileSource implements FileSource {
  readonly path: string;
  readonly size: number;
  readonly #file: FileHandle;
  readonly #tolerant: boolean;
  readonly #unreadable = new Set<number>();

  constructor(path: string, file: FileHandle, size: number, tolerant: boolean) {
    this.path = path;
    this.size = size;
    this.#file = file;
    this.#tolerant = tolerant;
  }

  get unreadableBytes(): number {
    return this.#unreadable.size * SECTOR_BYTES;
  }

  async read(target: Buffer, position: number): Promise<number> {
    const want = Math.min(target.length, Math.max(0, this.size - position));
    const bytes = target.subarray(0, want);
    try {
      return await this.#fill(bytes, position);
    } catch (cause) {
      if (!this.#tolerant) throw ioError(this.path, position, cause);
    }
    for (const sector of await fillTolerantly((piece, at) => this.#fill(piece, at), bytes, position))
      this.#unreadable.add(sector);
    return want;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #fill(target: Buffer, position: number): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await this.#file.read(target, done, target.length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }
}

/**
 * Reads sector by sector, and gives zeros for those that cannot be read: the checksums keep what is made up here from
 * passing for a picture.
 *
 * @returns numbers of the sectors that could not be read
 */
export async function fillTolerantly(
  read: (target: Buffer, position: number) => Promise<number>,
  target: Buffer,
  position: number,
): Promise<number[]> {
  const unreadable: number[] = [];
  for (let at = position; at < position + target.length; ) {
    const number = Math.floor(at / SECTOR_BYTES);
    const end = Math.min(position + target.length, (number + 1) * SECTOR_BYTES);
    const sector = target.subarray(at - position, end - position);
    try {
      await read(sector, at);
    } catch {
      sector.fill(0);
      unreadable.push(number);
    }
    at = end;
  }
  return unreadable;
}

function openError(path: string, cause: NodeJS.ErrnoException): TfsError {
  if (cause.code === 'ENOENT') return new TfsError('NOT_FOUND', `${path} does not exist`, { cause });
  if (cause.code === 'EACCES' || cause.code === 'EPERM')
    return new TfsError(
      'FORBIDDEN',
      `${path}: not permitted to read it; run this as the owner of the mount`,
      {
        cause,
      },
    );
  return new TfsError('IO', `${path}: ${cause.message}`, { cause });
}

const ioError = (path: string, position: number, cause: unknown): TfsError =>
  new TfsError('IO', `${path}: the disk cannot read byte ${position} and on: ${(cause as Error).message}`, {
    cause,
  });
