import { isTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import {
  type ClearTracesOrder,
  LEFT_FILES_MAX,
  type TracesCleared,
  zClearTracesOrder,
} from '../../common/wire/erase.ts';
import type { RpcRequest, RpcResult } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../block/store.ts';
import type { DigestIndex } from '../digest-index.ts';
import type { PromiseKeeper } from '../promise.ts';
import { fileOf, SPACE_DIRECTORIES, type SpaceDirectory } from '../space/parts.ts';

export interface TracesDeps {
  readonly store: BlockStore;
  readonly index: DigestIndex;
  readonly promise: PromiseKeeper;
}

/**
 * CLEAR_TRACES: removes whatever may hold the bytes of erased records beside the blocks in use, durably, and says whether
 * these blocks hold them and which files might. Nothing of it is needed by anybody, so it may be repeated at any time.
 */
export async function clearTraces(deps: TracesDeps, { header }: RpcRequest): Promise<RpcResult> {
  const { store, index, promise } = deps;
  const order = decodeControl(zClearTracesOrder, header, 'CLEAR_TRACES');
  await promise.accept(order.reign);
  // Whoever prepares one of these again leaves the records out.
  for (const { block } of order.blocks) await store.abandonCompaction(block);
  const removed = await store.clearLeftovers();
  const holds = await holding(store, order.blocks);
  await forget(index, order);
  const left = await leftFiles(store);
  return { header: encodeControl({ holds, left, removed } satisfies TracesCleared) };
}

async function holding(store: BlockStore, blocks: ClearTracesOrder['blocks']): Promise<BlockId[]> {
  const holds: BlockId[] = [];
  for (const { block, slots } of blocks) {
    // A file that is being made may hold what is not to be in it.
    if (store.isBusy(block)) {
      holds.push(block);
      continue;
    }
    if (store.info(block) === undefined) continue;
    try {
      if (await store.records.holdsAny(block, slots)) holds.push(block);
    } catch (error) {
      if (!isTfsError(error) || isTfsError(error, 'CLOSED')) throw error;
      if (store.info(block) !== undefined) holds.push(block);
    }
  }
  return holds;
}

/** Whoever stores the same bytes again finds no record of them here. Where the entry leads to another one it stays. */
async function forget(index: DigestIndex, { sha1, blocks }: ClearTracesOrder): Promise<void> {
  const content = Buffer.from(sha1, 'hex');
  const { byContent } = await index.lookup(content, Buffer.alloc(16));
  if (byContent === undefined) return;
  const erased = blocks.find(({ block }) => block === byContent.block);
  if (erased?.slots.some((slot) => (slot as number) === byContent.fileId)) await index.drop(content);
}

/** Files that are there although they should have been removed, and files of nobody, which may hold anything. */
async function leftFiles(store: BlockStore): Promise<string[]> {
  const left: string[] = [];
  for (const directory of SPACE_DIRECTORIES)
    for (const { name } of await store.usage(directory)) {
      if (left.length >= LEFT_FILES_MAX) return left;
      if (name !== '' && isSuspicious(store, directory, name))
        left.push(directory === '' ? name : `${directory}/${name}`);
    }
  return left;
}

function isSuspicious(store: BlockStore, directory: SpaceDirectory, name: string): boolean {
  const { part, file } = fileOf(directory, name);
  if (part === 'unknown' || part === 'trash') return true;
  if (part === 'surplus') return name.endsWith('.surplus');
  if (file === undefined || file.kind !== 'blk') return false;
  const info = store.info(file.block);
  // A next one takes the place of this one, or goes, in a moment.
  if (info === undefined) return !store.isBusy(file.block);
  return file.number < info.generation;
}
