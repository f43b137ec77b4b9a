import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import { tunable } from '../../common/tunables.ts';
import { STORE_DIRECTORIES } from './api.ts';
import { inBlocks, type StoreContext } from './context.ts';
import type { LoadedIndex } from './loaded-index.ts';

interface OldFile {
  readonly block: BlockId;
  readonly generation: number;
  readonly bytes: number;
  /** Of those who read it when the next one took its place; undefined where nobody did. */
  readonly index: LoadedIndex | undefined;
  /** Monotonic. */
  readonly fromMs: number;
}

/**
 * Files that a compaction has replaced: they stay until those who read them are done, and for a grace time. Nothing
 * leads to them any more; what a process leaves behind the next one removes when it opens the block.
 */
export class OldGenerations {
  readonly #context: StoreContext;
  #files: OldFile[] = [];

  constructor(context: StoreContext) {
    this.#context = context;
  }

  get bytes(): number {
    return this.#files.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  add(file: Omit<OldFile, 'fromMs'>): void {
    this.#files.push({ ...file, fromMs: this.#context.clock.monotonic() });
  }

  /** Removes what has been kept long enough. To be called now and then. */
  async sweep(): Promise<void> {
    const now = this.#context.clock.monotonic();
    const isDue = ({ index, fromMs }: OldFile): boolean =>
      now - fromMs >= tunable.oldGenerationMs && index?.held !== true;
    const due = this.#files.filter(isDue);
    this.#files = this.#files.filter((file) => !due.includes(file));
    for (const file of due) await this.#remove(file);
  }

  /** Removes all of them now; who still reads one has it open. @returns how many are gone */
  async clear(): Promise<number> {
    const files = this.#files;
    this.#files = [];
    let gone = 0;
    for (const file of files) if (await this.#remove(file)) gone++;
    return gone;
  }

  /**
   * Removes the files of the block's other generations now: that of the one before, and whatever else there is. What the
   * disk does not remove goes later; what it does not name, at the next start.
   */
  async removeOthers(
    block: BlockId,
    generation: number,
    before: Pick<OldFile, 'generation' | 'bytes'> | undefined,
  ): Promise<void> {
    const bytesOf = new Map<number, number>();
    if (before !== undefined) bytesOf.set(before.generation, before.bytes);
    for (const number of await this.#generationsOf(block)) bytesOf.set(number, bytesOf.get(number) ?? 0);
    bytesOf.delete(generation);
    for (const [number, bytes] of bytesOf)
      await this.#remove({ block, generation: number, bytes, index: undefined });
  }

  async #generationsOf(block: BlockId): Promise<number[]> {
    const { disk, log } = this.#context;
    try {
      const files = (await disk.list(STORE_DIRECTORIES.blocks)).map(parseBlockFileName);
      return files.flatMap((file) => (file?.block === block && file.kind !== 'ops' ? [file.number] : []));
    } catch (error) {
      log.warn({ err: error, block }, 'earlier files of a block cannot be looked for');
      return [];
    }
  }

  /** What the disk does not remove now takes its space still, and is tried again after another grace time. */
  async #remove(file: Omit<OldFile, 'fromMs'>): Promise<boolean> {
    if (await removeGeneration(this.#context, file.block, file.generation)) return true;
    this.add(file);
    return false;
  }
}

/** The files of one generation of a block. @returns whether they are gone */
export async function removeGeneration(
  context: StoreContext,
  block: BlockId,
  generation: number,
): Promise<boolean> {
  let isGone = true;
  for (const kind of ['blk', 'idx'] as const)
    if (!(await context.discard(inBlocks(blockFileName(block, generation, kind))))) isGone = false;
  return isGone;
}
