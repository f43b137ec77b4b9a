import { parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import { STORE_DIRECTORIES } from './api.ts';
import type { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { type OldGenerations, removeGeneration } from './old-generations.ts';
import type { Trash } from './trash.ts';

export interface LeftoverParts {
  readonly context: StoreContext;
  readonly trash: Trash;
  readonly old: OldGenerations;
  readonly held: (block: BlockId) => Block | undefined;
  /** Runs the work while nobody makes files of this block. @returns false where somebody does, or some may still be wanted */
  readonly ifIdle: (block: BlockId, work: () => Promise<void>) => Promise<boolean>;
}

/** Which `next` file of a block is under that name. */
const NEXT_FILE = /^(\d{1,10}\.\d{1,10}\.blk)\.tmp$/;

/**
 * Removes, durably, files in which records may be that no name leads to: all of the trash, records that were cut off by
 * seals, earlier generations whatever their grace time, and next files that nobody makes any more. They are removed and
 * not overwritten: a file may have a second name that is in use, in the middle of a repair, and readers may have it open.
 *
 * @returns how many went; what could not be removed is still there
 */
export async function clearLeftovers(parts: LeftoverParts): Promise<number> {
  const { context, trash, old } = parts;
  const { disk } = context;
  let removed = await trash.clear();
  removed += await old.clear();
  for (const name of await disk.list(STORE_DIRECTORIES.surplus)) {
    // Beside them there are logs, of operations and of drops, without records.
    if (!name.endsWith('.surplus')) continue;
    await context.discard(`${STORE_DIRECTORIES.surplus}/${name}`);
    removed++;
  }
  removed += await clearBlocks(parts);
  for (const directory of [STORE_DIRECTORIES.trash, STORE_DIRECTORIES.surplus, STORE_DIRECTORIES.blocks])
    try {
      await disk.syncDirectory(directory);
    } catch (error) {
      throw context.failed(error, `removing files from ${directory}`);
    }
  return removed;
}

async function clearBlocks({ context, held, ifIdle }: LeftoverParts): Promise<number> {
  let removed = 0;
  for (const name of await context.disk.list(STORE_DIRECTORIES.blocks)) {
    const next = NEXT_FILE.exec(name)?.[1];
    const file = parseBlockFileName(next ?? name);
    if (file === undefined || file.kind !== 'blk') continue;
    const { block, number } = file;
    // As at a start: an earlier file is needed as long as there is no good one in its place.
    const isReplaced = () => {
      const own = held(block);
      return own !== undefined && own.flags === 0 && number < own.generation;
    };
    if (next === undefined && !isReplaced()) continue;
    const isDone = await ifIdle(block, async () => {
      if (next !== undefined) await context.discard(inBlocks(name));
      else if (isReplaced()) await removeGeneration(context, block, number);
    });
    if (isDone) removed++;
  }
  return removed;
}
