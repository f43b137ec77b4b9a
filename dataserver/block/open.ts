import { isTfsError, toTfsError } from '../../common/errors.ts';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import { readOpsFile } from '../../common/format/ops.ts';
import type { BlockId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { type SealInfo, STORE_DIRECTORIES } from './api.ts';
import { Block } from './block.ts';
import { type Found, filesByBlock, type Head, readFiles } from './block-files.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { removeFiles } from './drop.ts';
import type { DropLog } from './drop-log.ts';
import { removeGeneration } from './old-generations.ts';
import { OpsLog } from './ops-log.ts';

/** Files read at a time while a store opens. */
const CONCURRENCY = 16;

export interface OpsLogOptions {
  readonly bytesMax: number;
  readonly release: () => Promise<boolean>;
}

/**
 * Finds the blocks of a mount: superblock and ops log of each, no records. A block with a SEAL is SEALED; any other was
 * OPEN or FENCED when the process ended, and is RECOVERED: its write session is over for good. The log tells which
 * generation of the file is the block: what a compaction had not committed, or had replaced, is removed.
 */
export async function openBlocks(
  context: StoreContext,
  options: OpsLogOptions,
  dropLog: DropLog,
): Promise<Block[]> {
  // A killed process may have left names that are not durable yet; from here on they are relied upon.
  try {
    await context.disk.syncDirectory(STORE_DIRECTORIES.blocks);
  } catch (error) {
    context.failed(error, 'syncing the directory of blocks');
  }
  const names = await context.disk.list(STORE_DIRECTORIES.blocks);
  // Never renamed, so nothing depends on it.
  for (const name of names) if (name.endsWith('.tmp')) await context.discard(inBlocks(name));
  const isDropped = (name: string): boolean => {
    const file = parseBlockFileName(name);
    return file !== undefined && dropLog.isDropped(file.block);
  };
  const dropped = names.filter(isDropped);
  const found = filesByBlock(names.filter((name) => !isDropped(name)));
  if (dropped.length > 0) await finishDrops(context, dropped);
  const blocks: Block[] = [];
  const queue = [...found].sort(([a], [b]) => a - b);
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const block = await openBlock(context, options, next[0], next[1]);
      if (block !== undefined) blocks.push(block);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return blocks.sort((a, b) => a.block - b.block);
}

/** They were dropped, and the process ended before their files were gone. */
async function finishDrops(context: StoreContext, names: readonly string[]): Promise<void> {
  mark('drop-finished');
  context.log.info({ names }, 'files of dropped replicas are removed');
  if (context.failure !== undefined) return;
  try {
    await removeFiles(context, names);
  } catch (error) {
    // Which made the store read only: the replicas stay unknown, and the next start tries again.
    context.log.warn({ err: toTfsError(error) }, 'files of dropped replicas could not be removed');
  }
}

async function openBlock(
  context: StoreContext,
  options: OpsLogOptions,
  block: BlockId,
  found: Found,
): Promise<Block | undefined> {
  if (found.generations.length === 0) {
    await setAside(context, block, found);
    return undefined;
  }
  const { head, log, generation, why } = await readFiles(context, block, found);
  if (isHollow(found, head) && (await removeGeneration(context, block, generation))) {
    mark('hollow-block-removed');
    return undefined;
  }
  context.ops(block, log.ops, log.state, 'found');
  const ops = new OpsLog(context, log.place, log.state, options);
  const { seal } = ops.facts;
  const sealed = seal !== undefined;
  const result = new Block({
    block,
    generation,
    superblock: head.superblock,
    ops,
    state: sealed ? BlockState.SEALED : BlockState.RECOVERED,
    fileBytes: head.fileBytes,
    faults: context.faults,
  });
  if (why !== undefined) {
    mark('block-quarantined');
    result.flags = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
    context.log.error({ block, why }, 'a block cannot be used; its files are left as they are');
  } else if (sealed) {
    result.flags = flagsOfSealed(context, block, seal, head);
    // Most blocks are only ever read: what their ops add up to is read back with their index.
    await ops.cool();
    await cutPreallocation(context, result);
  }
  if (log.why === undefined) await removeLeftovers(context, result, found);
  return result;
}

/**
 * Looks once more at a block that could not be opened: a disk that failed to read a file may read it later, and where no
 * other replica is left nobody else can make it good. What is damaged stays as it is.
 *
 * @param attach makes the log that was read the one of the block
 * @returns whether it is in use from now on
 */
export async function reopenBlock(
  context: StoreContext,
  options: OpsLogOptions,
  held: Block,
  attach: (block: Block) => void,
): Promise<boolean> {
  const { block, ops: before } = held;
  const found = filesByBlock(await context.disk.list(STORE_DIRECTORIES.blocks)).get(block);
  if (found === undefined || found.generations.length === 0) return false;
  const { head, log, why } = await readFiles(context, block, found);
  if (why !== undefined || head.superblock === undefined) return false;
  const ops = new OpsLog(context, log.place, log.state, options);
  const { seal } = ops.facts;
  if (seal !== undefined) await ops.cool();
  // Without a pause: nobody sees half of it.
  context.ops(block, log.ops, log.state, 'found');
  held.adopt(head.superblock, ops, context.faults);
  held.state = seal === undefined ? BlockState.RECOVERED : BlockState.SEALED;
  held.flags = seal === undefined ? 0 : flagsOfSealed(context, block, seal, head);
  held.fileBytes = head.fileBytes;
  attach(held);
  context.changed(block);
  mark('block-readable-again');
  context.log.info({ block }, 'a block that could not be used can be read again');
  await before.close();
  if (seal !== undefined) await cutPreallocation(context, held);
  await removeLeftovers(context, held, found);
  return true;
}

function flagsOfSealed(context: StoreContext, block: BlockId, seal: SealInfo, { fileBytes }: Head): number {
  const { length, lost } = seal;
  if (fileBytes < length)
    context.log.error({ block, length, found: fileBytes }, 'a sealed block has lost its end');
  return fileBytes < length || lost !== undefined ? BlockFlag.SUSPECT : 0;
}

/**
 * A next generation that was never committed, and earlier ones that nobody needs: they are needed as long as there is no
 * good file in their place.
 */
async function removeLeftovers(
  context: StoreContext,
  held: Block,
  { generations, indexes }: Found,
): Promise<void> {
  const { block, generation, ops } = held;
  const others = [...new Set([...generations, ...indexes])].filter((number) => number !== generation);
  for (const number of others.filter((other) => other > generation)) {
    mark('generation-discarded');
    await removeGeneration(context, block, number);
  }
  const earlier = others.filter((number) => number < generation);
  if (earlier.length === 0) return;
  await removeEarlier(context, held, earlier);
  if (held.flags === 0 && ops.idle) await ops.cool();
}

/**
 * Files of these generations of a block, once they are not needed any more. Those that stay are counted, and are to be
 * tried again now and then: the disk may only fail for a moment.
 */
export async function removeEarlier(
  context: StoreContext,
  { block, flags, ops }: Block,
  generations: readonly number[],
): Promise<void> {
  // The commit may be in the page cache alone, written by a process that was killed: durable before the old file goes.
  if (flags === 0 && (await isLogDurable(ops)))
    for (const number of generations) await removeGeneration(context, block, number);
  let bytes = 0;
  const left: number[] = [];
  for (const number of generations) {
    const size = await sizeOf(context, inBlocks(blockFileName(block, number, 'blk')));
    if (size === undefined) continue;
    bytes += size;
    left.push(number);
  }
  if (left.length > 0) context.earlier.set(block, { generations: left, bytes });
  else context.earlier.delete(block);
}

async function sizeOf({ disk }: StoreContext, path: string): Promise<number | undefined> {
  try {
    return (await disk.stat(path))?.size;
  } catch {
    // It may be there: the next time tells.
    return 0;
  }
}

/** @returns false where it cannot be made so: then nothing may be removed on the strength of what it says */
const isLogDurable = (ops: OpsLog): Promise<boolean> =>
  ops.append([]).then(
    () => true,
    () => false,
  );

/**
 * A superblock, and neither records nor operations: what a crash leaves of a copy of an empty block that was being made. By
 * the next start the block may be gone everywhere, and nobody would ever give it a log.
 */
const isHollow = ({ generations, logs }: Found, { superblock, fileBytes }: Head): boolean =>
  logs.length === 0 && generations.length === 1 && superblock !== undefined && fileBytes === SUPERBLOCK_BYTES;

/** An ops log without records: what a crash leaves of a block that was being made, and nothing else should. */
async function setAside(context: StoreContext, block: BlockId, found: Found): Promise<void> {
  for (const n of found.logs) {
    const name = blockFileName(block, n, 'ops');
    const log = await context.disk.readFile(inBlocks(name)).then(readOpsFile, toRejected);
    if (log.ok && log.value.ops.length <= 1 && log.value.header.n === 0) {
      await context.discard(inBlocks(name));
      continue;
    }
    mark('orphan-log-aside');
    context.log.error({ block, name }, 'an ops log without its block file is set aside');
    try {
      await context.disk.rename(inBlocks(name), `${STORE_DIRECTORIES.surplus}/${name}`);
      // Before the block may come back, by a repair, with a log of that name.
      await context.disk.syncDirectory(STORE_DIRECTORIES.surplus);
      await context.syncBlocks();
    } catch (error) {
      context.failed(error, `setting ${name} aside`);
    }
  }
}

const toRejected = (error: unknown): { ok: false; why: string } => {
  if (isTfsError(error)) return { ok: false, why: error.message };
  throw error;
};

/**
 * The seal was durable and the cut behind it was not. Or a killed process has left the seal in the page cache alone: it
 * is made durable before anything is cut, as an earlier one, which may have kept more, would be in force without it.
 */
async function cutPreallocation(context: StoreContext, block: Block): Promise<void> {
  const length = block.seal!.length;
  if (block.fileBytes <= length || context.failure !== undefined) return;
  if (!(await isLogDurable(block.ops))) return;
  try {
    const file = await context.open(block.fileName, 'write');
    try {
      await file.truncate(length);
      block.fileBytes = length;
    } finally {
      await file.close();
    }
  } catch (error) {
    context.failed(error, `cutting ${block.fileName}`);
  }
}
