import { isTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import type { Epoch } from '../../common/ids.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import type { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { seedOf } from './faults.ts';
import type { NextFile } from './generation-writer.ts';
import type { IndexCache } from './index-cache.ts';
import { writeIdx } from './load.ts';
import { LoadedIndex } from './loaded-index.ts';
import type { OldGenerations } from './old-generations.ts';

export interface EnterParts {
  readonly context: StoreContext;
  readonly cache: IndexCache;
  readonly old: OldGenerations;
}

/**
 * Puts the next file of a sealed block in the place of the present one. Order: its name, durable; GEN_COMMIT durable in
 * the log, which is the commit point; then, at once, what readers use; its index file; a log without the history that
 * the old file had. A crash before the commit point leaves a file that the next start removes, one after it a block of
 * the new generation. The old file goes later.
 *
 * @throws TfsError DISK_FULL: nothing has changed; IO, READ_ONLY: the next start finds out
 */
export async function enterGeneration(
  { context, cache, old }: EnterParts,
  block: Block,
  next: NextFile,
  epoch: Epoch,
): Promise<void> {
  context.assertWritable();
  const { superblock, length, slots, digest, words, sha1s } = next;
  const { generation } = superblock;
  const before = { block: block.block, generation: block.generation, bytes: block.fileBytes };
  const name = blockFileName(block.block, generation, 'blk');
  const takeBack = async (error: unknown): Promise<void> => {
    // After any other failure only the next start can tell what is on the disk.
    if (isTfsError(error, 'DISK_FULL') && generation !== before.generation)
      await context.discard(inBlocks(name));
  };
  try {
    await context.disk.rename(inBlocks(next.path), inBlocks(name));
    await context.syncBlocks();
  } catch (error) {
    const failure = context.failed(error, `naming ${name}`);
    await takeBack(failure);
    throw failure;
  }
  // With the index loaded and held: nobody can begin to load it while the log and the file say different things.
  const index = await cache.use(block, async (present) => {
    let file: DiskFile | undefined;
    try {
      file = await context.open(name, 'read');
      const seed = seedOf(context.faults, superblock);
      block.next = { superblock, digest, index: new LoadedIndex(file, words, slots, length, seed) };
      await block.ops.appendGeneration({ generation, length, slots, digest, epoch });
    } catch (error) {
      block.next = undefined;
      await file?.close();
      await takeBack(error);
      throw error;
    }
    return present;
  });
  // Two leaders may have had one generation made: then the new file has the name of the old one.
  if (generation !== before.generation) old.add({ ...before, index });
  await writeIdx(context, block, words, sha1s);
  await block.ops.renew();
  context.log.info({ ...before, to: generation, bytes: length, was: before.bytes }, 'a block was compacted');
}
