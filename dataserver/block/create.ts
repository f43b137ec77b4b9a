import { createHash } from 'node:crypto';
import { TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { emptyOpsState, foldOp, type Op, OpType } from '../../common/format/ops.ts';
import { encodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { type Configuration, STORE_DIRECTORIES } from './api.ts';
import { AppendQueue } from './append-queue.ts';
import { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { LoadedIndex } from './loaded-index.ts';
import type { OpsLogOptions } from './open.ts';
import { firstBytes } from './ops-file-writer.ts';
import { OpsLog } from './ops-log.ts';
import type { Spares } from './spares.ts';
import { Tail } from './tail.ts';

/**
 * Makes an OPEN block. Order: contents of both files, then the name of the ops log, then the name of the block file,
 * each durable before the next. So a block file that is found has its ops log, and one without was never reported.
 */
export async function createBlock(
  context: StoreContext,
  spares: Spares,
  options: OpsLogOptions,
  superblock: Superblock,
  configuration: Configuration,
): Promise<Block> {
  const { disk } = context;
  const { block } = superblock;
  const blkName = blockFileName(block, superblock.generation, 'blk');
  const opsName = blockFileName(block, 0, 'ops');
  const cfg = firstOp(superblock, configuration);
  const { clusterUuid, generation, salt } = superblock;
  const opsBytes = firstBytes({ clusterUuid, block, n: 0, salt }, cfg);
  const spare = spares.take(superblock.blockBytes);
  const made = spare ?? inBlocks(`${blkName}.tmp`);
  try {
    const file = await disk.open(made, spare === undefined ? 'create' : 'write');
    try {
      // Both to their end: where one fails, the other would still make a file that was just removed.
      const contents = await Promise.allSettled([
        file.write([encodeSuperblock(superblock)], 0).then(() => file.datasync()),
        context.writeTemporary(`${opsName}.tmp`, opsBytes),
      ]);
      for (const content of contents) if (content.status === 'rejected') throw content.reason;
      await disk.rename(inBlocks(`${opsName}.tmp`), inBlocks(opsName));
      await context.syncBlocks();
      await disk.rename(made, inBlocks(blkName));
      await context.syncBlocks();
      if (spare !== undefined) await disk.syncDirectory(STORE_DIRECTORIES.spare);
      const fileBytes = await file.size();
      const state = emptyOpsState();
      foldOp(state, cfg);
      const goodLength = opsBytes.reduce((sum, part) => sum + part.length, 0);
      const place = { block, n: 0, salt, goodLength, torn: false, inherited: false };
      const ops = new OpsLog(context, place, state, options);
      const { faults } = context;
      const result = new Block({
        block,
        generation,
        superblock,
        ops,
        state: BlockState.OPEN,
        fileBytes,
        faults,
      });
      result.index = LoadedIndex.empty(file, result.seed);
      result.tail = new Tail({ clean: true, hash: createHash('sha256') });
      result.appends = new AppendQueue(context, result, result.index, result.tail);
      return result;
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    const failure = context.failed(error, `making block ${block}`);
    // Names that were given stay: the next start finds an ops log alone, or an empty block that waits for its seal.
    for (const path of [made, inBlocks(`${opsName}.tmp`)]) await context.discard(path);
    throw failure;
  }
}

/** The same bytes on every member: nothing in it is this server's own. */
function firstOp(superblock: Superblock, configuration: Configuration): Op {
  const { version, opsPrimary, members } = configuration;
  if (!members.includes(opsPrimary))
    throw new TfsError(
      'BAD_REQUEST',
      `block ${superblock.block}: the sequencer of its ops is no member of it`,
    );
  const opId = Buffer.alloc(16);
  return { type: OpType.CFG, version, seq: 1, atMs: superblock.createdAtMs, opId, opsPrimary, members };
}
