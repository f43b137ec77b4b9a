import type { DiskFile } from '../seams/disk.ts';

/** Bytes to read from any place, of a size that is known at the start. */
export interface ByteSource {
  readonly size: number;
  /** Fills `target` from `position`, up to the end. @returns bytes read; fewer than `target` holds only at the end */
  read(target: Buffer, position: number): Promise<number>;
}

export async function sourceOfFile(file: DiskFile): Promise<ByteSource> {
  const size = await file.size();
  return { size, read: (target, position) => file.read(target, position) };
}

export function sourceOfBuffer(bytes: Buffer): ByteSource {
  return {
    size: bytes.length,
    read: async (target, position) => bytes.copy(target, 0, position, position + target.length),
  };
}

/** Reads exactly `length` bytes. @returns undefined where the source ends before that */
export async function readExactly(
  source: ByteSource,
  position: number,
  length: number,
): Promise<Buffer | undefined> {
  const target = Buffer.allocUnsafe(length);
  return (await source.read(target, position)) === length ? target : undefined;
}
