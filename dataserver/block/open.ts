import { isTfsError, toTfsError } from '../../common/errors.ts';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import { emptyOpsState, foldOp, type Op, type OpsState, readOpsFile } from '../../common/format/ops.ts';
import { decodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import type { BlockId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { STORE_DIRECTORIES } from './api.ts';
import { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { removeFiles } from './drop.ts';
import type { DropLog } from './drop-log.ts';
import { removeGeneration } from './old-generations.ts';
import type { OpsFilePlace } from './ops-file-writer.ts';
import { OpsLog } from './ops-log.ts';

/** Files read at a time while a store opens. */
const CONCURRENCY = 16;

export interface OpsLogOptions {
  readonly bytesMax: number;
  readonly release: () => Promise<boolean>;
}

interface Found {
  readonly generations: number[];
  /** Generations of its index files. */
  readonly indexes: number[];
  /** Numbers of its ops logs. */
  readonly logs: number[];
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
  const found = new Map<BlockId, Found>();
  const dropped: string[] = [];
  for (const name of await context.disk.list(STORE_DIRECTORIES.blocks)) {
    // Never renamed, so nothing depends on it.
    if (name.endsWith('.tmp')) await context.discard(inBlocks(name));
    const file = parseBlockFileName(name);
    if (file === undefined) continue;
    if (dropLog.isDropped(file.block)) {
      dropped.push(name);
      continue;
    }
    const entry = found.get(file.block) ?? { generations: [], indexes: [], logs: [] };
    found.set(file.block, entry);
    if (file.kind === 'blk') entry.generations.push(file.number);
    if (file.kind === 'idx') entry.indexes.push(file.number);
    if (file.kind === 'ops') entry.logs.push(file.number);
  }
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
  const heads = new Map<number, Head>();
  for (const number of found.generations) heads.set(number, await readSuperblock(context, block, number));
  // The salt is the same in all of them.
  const salted = [...heads.values()].find(({ superblock }) => superblock !== undefined)?.superblock;
  const log = await readLog(context, salted, block, found.logs);
  context.ops(block, log.ops, log.state, 'found');
  const ops = new OpsLog(context, log.place, log.state, options);
  const { seal } = ops.facts;
  const sealed = seal !== undefined;
  // Without a log the least that can be true: a replica that claims too much has no others to be made whole from.
  const generation = log.why === undefined ? ops.facts.generation : Math.min(...found.generations);
  const head = heads.get(generation) ?? lostHead(block, generation);
  const result = new Block({
    block,
    generation,
    superblock: head.superblock,
    ops,
    state: sealed ? BlockState.SEALED : BlockState.RECOVERED,
    fileBytes: head.fileBytes,
    faults: context.faults,
  });
  const why = head.why ?? log.why;
  if (why !== undefined) {
    mark('block-quarantined');
    result.flags = BlockFlag.SUSPECT | BlockFlag.QUARANTINED;
    context.log.error({ block, why }, 'a block cannot be used; its files are left as they are');
  } else if (sealed) {
    const { length, lost } = seal;
    if (lost !== undefined) result.flags = BlockFlag.SUSPECT;
    if (head.fileBytes < length) {
      result.flags = BlockFlag.SUSPECT;
      context.log.error({ block, length, found: head.fileBytes }, 'a sealed block has lost its end');
    }
    // Most blocks are only ever read: what their ops add up to is read back with their index.
    await ops.cool();
    await cutPreallocation(context, result);
  }
  if (log.why === undefined) await removeLeftovers(context, result, found);
  return result;
}

/** The log tells which generation it is; the file is not there. */
const lostHead = (block: BlockId, generation: number): Head => ({
  superblock: undefined,
  fileBytes: 0,
  why: `${blockFileName(block, generation, 'blk')}: it was committed and is gone`,
});

/**
 * A next generation that was never committed, and earlier ones that nobody needs: they are needed as long as there is no
 * good file in their place.
 */
async function removeLeftovers(
  context: StoreContext,
  { block, generation, flags, ops }: Block,
  { generations, indexes }: Found,
): Promise<void> {
  const others = new Set([...generations, ...indexes].filter((number) => number !== generation));
  let isReplaced = flags === 0 && others.size > 0;
  // The commit may be in the page cache alone, written by a process that was killed: durable before the old file goes.
  if (isReplaced && generations.some((number) => number < generation)) isReplaced = await isLogDurable(ops);
  for (const number of others) {
    if (number > generation) mark('generation-discarded');
    if (number > generation || isReplaced) await removeGeneration(context, block, number);
  }
}

/** @returns false where it cannot be made so: then nothing may be removed on the strength of what it says */
async function isLogDurable(ops: OpsLog): Promise<boolean> {
  const isDurable = await ops.append([]).then(
    () => true,
    () => false,
  );
  await ops.cool();
  return isDurable;
}

interface Head {
  readonly superblock: Superblock | undefined;
  readonly fileBytes: number;
  readonly why: string | undefined;
}

async function readSuperblock(context: StoreContext, block: BlockId, generation: number): Promise<Head> {
  const name = blockFileName(block, generation, 'blk');
  let fileBytes = 0;
  const bad = (why: string): Head => ({ superblock: undefined, fileBytes, why: `${name}: ${why}` });
  try {
    const file = await context.open(name, 'read');
    const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
    try {
      fileBytes = await file.size();
      if ((await file.read(bytes, 0)) < SUPERBLOCK_BYTES) return bad('shorter than a superblock');
    } finally {
      await file.close();
    }
    const decoded = decodeSuperblock(bytes);
    if (!decoded.ok) return bad(decoded.why);
    const { value } = decoded;
    if (value.block !== block || value.generation !== generation) return bad('superblock of another block');
    if (value.clusterUuid !== context.clusterUuid) return bad(`superblock of cluster ${value.clusterUuid}`);
    return { superblock: value, fileBytes, why: undefined };
  } catch (error) {
    return bad(toTfsError(error).message);
  }
}

export interface OpenedLog {
  readonly place: OpsFilePlace;
  /** What that is the sum of. */
  readonly ops: readonly Op[];
  readonly state: OpsState;
  readonly why: string | undefined;
}

/**
 * The newest log of a block. A torn end is an append that was never acknowledged: it is cut off before the next one.
 * Anything else that does not read is damage to operations that were acknowledged: the block must not answer.
 */
export async function readLog(
  context: StoreContext,
  superblock: Superblock | undefined,
  block: BlockId,
  logs: readonly number[],
): Promise<OpenedLog> {
  const n = Math.max(0, ...logs);
  const name = blockFileName(block, n, 'ops');
  const state = emptyOpsState();
  const salt = superblock?.salt ?? Buffer.alloc(16);
  const place = { block, n, salt, goodLength: 0, torn: false, inherited: true };
  const bad = (why: string, ops: readonly Op[] = []): OpenedLog => ({
    place,
    ops,
    state,
    why: `${name}: ${why}`,
  });
  if (logs.length === 0) return { ...bad(''), why: `block ${block} has no ops log` };
  let bytes: Buffer;
  try {
    bytes = await context.disk.readFile(inBlocks(name));
  } catch (error) {
    if (!context.faults.has('eio-as-torn')) return bad(toTfsError(error).message);
    bytes = Buffer.alloc(0);
  }
  const decoded = readOpsFile(bytes);
  if (!decoded.ok) return bad(decoded.why);
  const { header, ops, goodLength, end, why } = decoded.value;
  if (header.block !== block || header.n !== n || (superblock && !header.salt.equals(superblock.salt)))
    return bad('ops log of another block');
  for (const op of ops) foldOp(state, op);
  if (end === 'corrupt') return bad(`damaged at ${goodLength} (${why})`, ops);
  if (state.cfg === undefined) return bad('no configuration');
  if (end === 'torn') {
    mark('ops-log-torn');
    context.log.info({ block, name, goodLength }, 'the end of an ops log was torn; it is cut');
  }
  // The newest one is complete: a log gets its name when its contents are durable.
  for (const older of logs)
    if (older !== n) await context.discard(inBlocks(blockFileName(block, older, 'ops')));
  return { place: { ...place, goodLength, torn: end === 'torn' }, ops, state, why: undefined };
}

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
