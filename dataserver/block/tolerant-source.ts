import { isTfsError } from '../../common/errors.ts';
import type { ByteSource } from '../../common/format/source.ts';
import type { DiskFile } from '../../common/seams/disk.ts';

/** What a disk fails to read at the least. */
const SECTOR_BYTES = 4096;

export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * A file of which the disk may not give everything: what it fails to read comes as zeros, sector by sector, which no
 * record survives. Only for finding out what is left; anybody else must hear of the error.
 */
export class TolerantSource implements ByteSource {
  readonly size: number;
  readonly #file: Pick<DiskFile, 'read' | 'size'>;
  readonly #bad = new Set<number>();

  private constructor(file: Pick<DiskFile, 'read' | 'size'>, size: number) {
    this.#file = file;
    this.size = size;
  }

  static async of(file: Pick<DiskFile, 'read' | 'size'>): Promise<TolerantSource> {
    return new TolerantSource(file, await file.size());
  }

  /** What could not be read so far, in order. */
  get unreadable(): Span[] {
    const spans: { start: number; end: number }[] = [];
    for (const start of [...this.#bad].sort((a, b) => a - b)) {
      const last = spans.at(-1);
      const end = Math.min(start + SECTOR_BYTES, this.size);
      if (last?.end === start) last.end = end;
      else spans.push({ start, end });
    }
    return spans;
  }

  async read(target: Buffer, position: number): Promise<number> {
    try {
      return await this.#file.read(target, position);
    } catch (error) {
      if (!isTfsError(error, 'IO')) throw error;
    }
    const end = Math.min(position + target.length, this.size);
    for (let at = position; at < end; ) {
      const sector = Math.floor(at / SECTOR_BYTES) * SECTOR_BYTES;
      const next = Math.min(end, sector + SECTOR_BYTES);
      const part = target.subarray(at - position, next - position);
      try {
        await this.#file.read(part, at);
      } catch (error) {
        if (!isTfsError(error, 'IO')) throw error;
        part.fill(0);
        this.#bad.add(sector);
      }
      at = next;
    }
    return Math.max(0, end - position);
  }
}
