import { TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import type { OpsState } from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { mark } from '../../common/marks.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { ReceiveOrder, SealInfo } from './api.ts';
import { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { seedOf } from './faults.ts';
import type { IndexCache } from './index-cache.ts';
import { writeIdx } from './load.ts';
import { LoadedIndex } from './loaded-index.ts';
import type { OldGenerations } from './old-generations.ts';
import type { OpsLogOptions } from './open.ts';
import type { OpsLog } from './ops-log.ts';
import type { Rebuilt } from './rebuild.ts';
import { generationOf, installOps, keepIn, type ReceivedOps } from './receive-ops.ts';
import { applyNameFlags } from './recover.ts';
import type { Trash } from './trash.ts';

/** How a replica comes by its operations. */
export type OpsSource =
  /** Its log is sound. */
  | { readonly kind: 'own'; readonly log: OpsLog }
  /** It has to be made; who has it was asked. */
  | { readonly kind: 'received'; readonly received: ReceivedOps };

export interface InstallParts {
  readonly context: StoreContext;
  readonly cache: IndexCache;
  readonly trash: Trash;
  readonly old: OldGenerations;
  readonly opsOptions: OpsLogOptions;
  /** Makes a block known that was not here, or attaches what a block was given anew. */
  readonly attach: (block: Block) => void;
}

export interface NewReplica {
  /** Of the new block file, durable under a temporary name. */
  readonly path: string;
  readonly built: Rebuilt;
  readonly order: ReceiveOrder;
  readonly superblock: Superblock;
  readonly ops: OpsSource;
  /** Undefined where the block was not here. */
  readonly held: Block | undefined;
}

/** Puts the new file in the place of the old one, on the disk and then, at once, for readers. */
export async function installReplica(parts: InstallParts, replica: NewReplica): Promise<void> {
  const { context, cache, attach } = parts;
  const { held, superblock, built, order } = replica;
  const { seal, block: id } = order;
  const fileName = blockFileName(id, order.generation, 'blk');
  const { log, state, file } = await putInPlace(parts, replica, fileName);
  const index = new LoadedIndex(
    file,
    built.words,
    built.words.length,
    seal.length,
    seedOf(context.faults, superblock),
  );
  while (held?.loading !== undefined) await held.loading.catch(() => undefined);
  // Without a pause from here on: every reader has all of the old or all of the new.
  const block = held ?? newBlock(context, superblock, log, seal);
  const { ops: before, fileName: nameBefore, state: stateBefore } = block;
  const generationBefore = held && { generation: held.generation, bytes: held.fileBytes };
  block.adopt(superblock, log, context.faults);
  applyNameFlags(index, state);
  block.state = BlockState.SEALED;
  block.flags = built.whole && built.lost === 0 ? 0 : BlockFlag.SUSPECT;
  block.unsound = block.flags !== 0;
  block.fileBytes = seal.length;
  block.provenLength = built.provenLength;
  block.namesChanged();
  cache.replace(block, index);
  attach(block);
  cache.warmed(block);
  context.changed(id);
  if (log !== before) await before.close();
  await writeIdx(context, block, index.words, built.sha1s);
  // What was never sealed may be more than anybody else has.
  if (nameBefore !== fileName && stateBefore !== BlockState.SEALED)
    await keepIn(parts.trash, context, nameBefore);
  await parts.old.removeOthers(id, order.generation, generationBefore);
  if (built.whole) mark(held === undefined ? 'replica-copied' : 'replica-repaired');
  report(context, order, built);
}

/** On the disk, with all that can fail before readers have it. */
async function putInPlace(
  parts: InstallParts,
  replica: NewReplica,
  fileName: string,
): Promise<{ readonly log: OpsLog; readonly state: OpsState; readonly file: DiskFile }> {
  const { context } = parts;
  let log: OpsLog | undefined;
  let isNamed = false;
  const named = () => {
    isNamed = true;
  };
  try {
    if (replica.built.better) await swapFiles(parts, replica, fileName, named);
    log = await opsLogOf(parts, replica);
    return { log, state: await log.warm(), file: await context.open(fileName, 'read') };
  } catch (error) {
    // Nobody was told of a block that was not here: what there is of it would belong to nothing until the next start. A
    // file that had the name before is not ours to remove.
    if (replica.held === undefined && isNamed) {
      await context.discard(inBlocks(fileName));
      if (log !== undefined) await context.discard(inBlocks(log.fileName));
    }
    throw error;
  }
}

/** Second name for the old file, durable, before the new one takes its first name: a crash finds one or the other. */
async function swapFiles(
  { context, trash }: InstallParts,
  { path, built }: NewReplica,
  fileName: string,
  named: () => void,
): Promise<void> {
  const { disk } = context;
  const isThere = (await disk.stat(inBlocks(fileName))) !== undefined;
  // A file that is not quite whole may replace a worse one only where that can still be looked at.
  if (isThere && !(await keepIn(trash, context, fileName)) && !built.whole)
    throw new TfsError('IO', `${fileName} cannot be kept, and what would replace it is not whole`);
  try {
    await disk.rename(inBlocks(path), inBlocks(fileName));
    named();
    await context.syncBlocks();
  } catch (error) {
    throw context.failed(error, `replacing ${fileName}`);
  }
}

/** The log that the replica has from now on, with the SEAL in it. */
async function opsLogOf(
  { context, trash, opsOptions: options }: InstallParts,
  { held, superblock, ops, order }: NewReplica,
): Promise<OpsLog> {
  if (ops.kind === 'received') {
    const log = await installOps(context, superblock, order, ops.received, { options, trash });
    if (held !== undefined) log.succeed(held.ops);
    return log;
  }
  const { log } = ops;
  if (order.generation > 0) {
    const { generation, seal } = log.facts;
    if (generation !== order.generation || seal?.digest.equals(order.seal.digest) !== true)
      await log.appendGeneration(generationOf(order.seal, order.generation));
  } else if (log.facts.seal === undefined) await log.appendSeal(order.seal);
  return log;
}

function newBlock(context: StoreContext, superblock: Superblock, ops: OpsLog, seal: SealInfo): Block {
  const { block, generation } = superblock;
  const { faults } = context;
  const state = BlockState.SEALED;
  return new Block({ block, generation, superblock, ops, state, fileBytes: seal.length, faults });
}

function report({ log }: StoreContext, { block }: ReceiveOrder, built: Rebuilt): void {
  const { whole, fetched, lost, better: replaced } = built;
  if (whole) log.info({ block, fetched, lost, replaced }, 'the replica of a block is whole again');
  else log.error({ block, fetched, lost }, 'records of a block verify on no replica that answers');
}
