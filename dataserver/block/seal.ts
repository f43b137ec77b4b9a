import { isTfsError, TfsError } from '../../common/errors.ts';
import { compareSeals } from '../../common/format/seal-rank.ts';
import type { Hole } from '../../common/format/walk.ts';
import { mark } from '../../common/marks.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { type SealInfo, type SealOrder, STORE_DIRECTORIES } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { writeIdx } from './load.ts';
import { LoadedIndex } from './loaded-index.ts';
import { applyNameFlags, knownOf, recoverBlock, recovered } from './recover.ts';
import { surveyFor } from './survey.ts';
import { markSuspect } from './suspect.ts';

const COPY_BYTES = 1 << 20;

/** The index of a sealed block, with its file, which is open for reading only. */
export interface CachedIndex {
  load(): Promise<unknown>;
  unload(): void;
}

/**
 * Makes a block ready for its seal: walked, and if it is sealed already, under a SEAL that stands below the ordered one,
 * taken back into waiting. That is not durable: after a crash the old SEAL is in force until the order is repeated.
 *
 * @returns what does not verify here below the ordered length; nothing for a block that is sealed as ordered
 */
export async function prepareSeal(
  context: StoreContext,
  block: Block,
  order: SealOrder,
  cache: CachedIndex,
): Promise<readonly Hole[]> {
  if (block.seal !== undefined && isSame(block.seal, order)) return [];
  await makeReady(context, block, order, cache);
  return (await surveyFor(context, block, order)).holes;
}

async function makeReady(
  context: StoreContext,
  block: Block,
  order: SealOrder,
  cache: CachedIndex,
): Promise<void> {
  block.sound();
  if (block.generation > 0) throw refused(block, order, 'it was compacted since');
  if (block.state === BlockState.OPEN) throw refused(block, order, 'it is not fenced');
  if (block.seal !== undefined) await reopen(context, block, order, cache);
  if (block.tail === undefined) await recovered(context, block);
  else if (block.tail.stale) await recoverBlock(context, block, knownOf(block));
}

/**
 * Makes a block immutable. Order: surplus saved, SEAL op durable, preallocation cut, index file. A crash before the op
 * leaves an unsealed block, one after it a sealed block whose file is cut, and whose index is written, later.
 */
export async function sealBlock(
  context: StoreContext,
  block: Block,
  order: SealOrder,
  cache: CachedIndex,
): Promise<SealInfo> {
  if (block.seal !== undefined && isSame(block.seal, order)) {
    if (order.complete) await completeSeal(context, block);
    return block.seal;
  }
  context.assertWritable();
  await makeReady(context, block, order, cache);
  const [index, tail] = [block.index!, block.tail!];
  if (!tail.durable) context.assertWritable();
  forbidCut(context, block, order);
  const survey = await surveyFor(context, block, order);
  const { digest, slots, holes, words } = survey;
  if (survey.length !== order.length)
    throw refused(block, order, `no record ends there, but one at ${survey.length}`);
  if (slots !== order.slots)
    throw refused(block, order, `it holds ${slots} records up to there, not ${order.slots}`);
  const isWhole = order.digest?.equals(digest) ?? holes.length === 0;
  const [hole] = holes;
  if (hole !== undefined && !isWhole && !order.mayLose)
    throw refused(block, order, `bytes ${hole.start} to ${hole.end} do not verify`);
  // A disk that fails to read says nothing about what is there: what is not read now may be read later.
  if (hole !== undefined && order.digest === undefined && survey.unread && !order.mayLoseUnread)
    throw new TfsError('IO', `block ${block.block}: the disk fails to read what no other replica has`);
  if (hole === undefined && !isWhole) throw refused(block, order, 'its digest is another one');

  if (index.length > order.length) await saveSurplus(context, block, index, order.length);
  const earlier = block.storedSeal;
  const damaged = holes.reduce((sum, each) => sum + each.slots, 0);
  // What was sealed whole elsewhere, and has rotted there before this replica had it, is damage here and not in the SEAL.
  const lost = isWhole || order.digest === undefined ? damaged : (order.lost ?? 0);
  await block.ops.appendSeal({
    length: order.length,
    slots,
    digest: order.digest ?? digest,
    epoch: order.epoch,
    ...(order.complete ? { complete: true } : {}),
    ...(lost > 0 ? { lost } : {}),
  });
  if (earlier !== undefined) mark('sealed-again');
  // The commit point is behind: what follows can be done again from the SEAL and the records.
  block.provenLength = tail.provenLength;
  const sealed = LoadedIndex.over(index, words, slots, order.length);
  const state = await block.ops.warm();
  applyNameFlags(sealed, state);
  block.index = sealed;
  block.tail = undefined;
  block.appends = undefined;
  block.state = BlockState.SEALED;
  if (lost > 0) {
    mark('seal-record-lost');
    markSuspect(context, block, new TfsError('CORRUPT', `block ${block.block}: ${lost} records are lost`));
  } else if (damaged > 0) {
    // The SEAL says of the block that it is whole, not of this replica: nobody may count it as a good copy.
    const why = `block ${block.block}: ${damaged} records that were sealed elsewhere do not verify here`;
    markSuspect(context, block, new TfsError('CORRUPT', why));
  } else if (!block.isUnsound) block.flags &= ~BlockFlag.SUSPECT;
  context.changed(block.block);
  await cut(context, block, sealed);
  // Of an empty block there is nothing to keep for the next start; one that is damaged is to be looked at again.
  if (context.failure === undefined && slots > 0 && lost === damaged)
    await writeIdx(context, block, sealed.words, survey.sha1s);
  return block.seal!;
}

/** The SEAL is known to be on every member: durable before anybody relies on it, so that nobody ever gives it up. */
export async function completeSeal(context: StoreContext, block: Block): Promise<void> {
  const { seal } = block;
  if (seal === undefined || seal.complete) return;
  // Of one that is quarantined the log cannot be written: the superblock has its salt.
  block.sound();
  context.assertWritable();
  await block.ops.appendSeal({ ...seal, complete: true });
}

/** An order without a digest is one to find it out: of a block with lost records it may be another one by now. */
const isSame = (seal: SealInfo, { length, slots, digest }: SealOrder): boolean =>
  seal.length === length && seal.slots === slots && (digest?.equals(seal.digest) ?? seal.lost === undefined);

async function reopen(
  context: StoreContext,
  block: Block,
  order: SealOrder,
  cache: CachedIndex,
): Promise<void> {
  const seal = block.seal!;
  const { length, slots } = seal;
  if (length === order.length && slots === order.slots) {
    if (seal.lost === undefined) throw refused(block, order, 'its digest is another one');
  } else if (compareSeals(order, seal) <= 0)
    throw refused(block, order, `it is sealed at ${length} with ${slots} records`);
  await cache.load();
  forbidCut(context, block, order);
  const { provenLength } = block;
  context.log.warn(
    { block: block.block, from: length, to: order.length, epoch: order.epoch },
    'sealed otherwise by two leaders, or with records lost that were found: to be sealed again',
  );
  mark('seal-taken-back');
  cache.unload();
  block.state = BlockState.RECOVERED;
  await recoverBlock(context, block, { provenLength, own: { length, slots } });
}

/** A watermark says that the bytes below it had been acknowledged: whoever wants them cut is wrong, whatever the reason. */
function forbidCut(context: StoreContext, block: Block, order: SealOrder): void {
  if (block.provenLength <= order.length || context.faults.has('seal-below-watermark')) return;
  mark('seal-cut-refused');
  context.counters.refusedCuts++;
  const error = refused(block, order, `${block.provenLength} bytes are known to have been acknowledged`);
  context.log.error({ block: block.block, err: error }, 'a seal below a watermark is refused');
  throw error;
}

function refused(block: Block, order: SealOrder, why: string): TfsError {
  return new TfsError('CONFLICT', `block ${block.block} cannot be sealed at ${order.length}: ${why}`);
}
async function cut(context: StoreContext, block: Block, sealed: LoadedIndex): Promise<void> {
  try {
    await sealed.file.truncate(sealed.length);
    block.fileBytes = sealed.length;
  } catch (error) {
    context.failed(error, `cutting block ${block.block}`);
  }
}

/** Records that nobody was told of, beyond what was decided: kept for a person who may look for them. */
async function saveSurplus(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  from: number,
): Promise<void> {
  const { disk } = context;
  const path = `${STORE_DIRECTORIES.surplus}/${block.block}.${block.generation}.${from}.surplus`;
  try {
    const file = await disk.open(path, 'create');
    try {
      const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, index.length - from));
      for (let at = from; at < index.length; at += buffer.length) {
        const want = Math.min(buffer.length, index.length - at);
        const got = await index.file.read(buffer.subarray(0, want), at);
        await file.write([buffer.subarray(0, got)], at - from);
      }
      await file.datasync();
    } finally {
      await file.close();
    }
    await disk.syncDirectory(STORE_DIRECTORIES.surplus);
    mark('seal-surplus-aside');
    context.log.warn({ block: block.block, from, to: index.length, path }, 'surplus records were set aside');
  } catch (error) {
    if (isTfsError(error, 'DISK_FULL')) await context.discard(path);
    throw context.failed(error, `surplus of block ${block.block}`);
  }
}
