import { type BlockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import type { FileUse } from '../../common/seams/disk.ts';
import { noParts, type Orphans, type SpacePart } from '../../common/wire/space.ts';
import { STORE_DIRECTORIES } from '../block/api.ts';

/** Directories of a mount; the empty one is the mount itself. */
export const SPACE_DIRECTORIES = ['', ...Object.values(STORE_DIRECTORIES), 'kv'] as const;
export type SpaceDirectory = (typeof SPACE_DIRECTORIES)[number];

/** Parts whose files no block and no server needs. */
const ORPHANS: ReadonlySet<SpacePart> = new Set<SpacePart>(['surplus', 'temporary', 'unknown']);

export interface FileOf {
  /** The whole file is of this part; undefined for a block file, whose bytes are told apart. */
  readonly part: SpacePart | undefined;
  readonly file?: BlockFileName;
}

/** What a file is, by its place and name. */
export function fileOf(directory: SpaceDirectory, name: string): FileOf {
  if (name === '') return { part: 'directories' };
  if (directory === 'kv') return { part: 'kv' };
  if (name.endsWith('.tmp')) return { part: 'temporary' };
  switch (directory) {
    case STORE_DIRECTORIES.blocks: {
      if (name === 'ops.reserve') return { part: 'reserve' };
      const file = parseBlockFileName(name);
      if (file === undefined) return { part: 'unknown' };
      const part = file.kind === 'ops' ? 'opsLogs' : file.kind === 'idx' ? 'indexes' : undefined;
      return { part, file };
    }
    case STORE_DIRECTORIES.spare:
      return { part: name.endsWith('.spare') ? 'spares' : 'unknown' };
    case STORE_DIRECTORIES.surplus:
      return { part: 'surplus' };
    case STORE_DIRECTORIES.trash:
      return { part: 'trash' };
    default:
      return { part: /\.(tfs|bin)$|^drop\.log$/.test(name) ? 'service' : 'unknown' };
  }
}

/** Adds up what the files of a mount are. */
export class SpaceSum {
  readonly parts = noParts();
  readonly #nowMs: number;
  #files = 0;
  #bytes = 0;
  #oldestMs = 0;

  /** @param nowMs wall clock */
  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  add(part: SpacePart, file: FileUse): void {
    if (part === 'directories') {
      this.parts.directories += file.allocatedBytes;
      return;
    }
    this.parts[part] += file.size;
    this.#round(file);
    if (!ORPHANS.has(part)) return;
    this.#files++;
    this.#bytes += file.size;
    this.#oldestMs = Math.max(this.#oldestMs, this.#nowMs - file.mtimeMs);
  }

  /** A file whose bytes are of several parts, which add up to its size. */
  addParts(parts: Partial<Record<SpacePart, number>>, file: FileUse): void {
    for (const [part, bytes] of Object.entries(parts)) this.parts[part as SpacePart] += bytes;
    this.#round(file);
  }

  get orphans(): Orphans {
    return { files: this.#files, bytes: this.#bytes, oldestMs: Math.round(this.#oldestMs) };
  }

  #round({ size, allocatedBytes }: FileUse): void {
    this.parts.rounding += allocatedBytes - size;
  }
}
