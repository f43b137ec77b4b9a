import { assert, isTfsError, TfsError } from '../../common/errors.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { type SealInfo, type SealOrder, STORE_DIRECTORIES } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { writeIdx } from './load.ts';
import { LoadedIndex } from './loaded-index.ts';
import { recoverBlock, recovered, walk } from './recover.ts';

const COPY_BYTES = 1 << 20;

/**
 * Makes a block immutable. Order: surplus saved, SEAL op durable, preallocation cut, index file. A crash before the op
 * leaves an unsealed block, one after it a sealed block whose file is cut, and whose index is written, later.
 */
export async function sealBlock(context: StoreContext, block: Block, order: SealOrder): Promise<SealInfo> {
  const superblock = block.sound();
  const refuse = (why: string): TfsError =>
    new TfsError('CONFLICT', `block ${block.block} cannot be sealed at ${order.length}: ${why}`);
  if (block.seal !== undefined) {
    const { length, slots, digest } = block.seal;
    if (length !== order.length || slots !== order.slots)
      throw refuse(`it is sealed at ${length} with ${slots} records`);
    if (order.digest !== undefined && !order.digest.equals(digest)) throw refuse('its digest is another one');
    return block.seal;
  }
  if (block.state === BlockState.OPEN) throw refuse('it is not fenced');
  context.assertWritable();
  if (block.tail === undefined) await recovered(context, block);
  else if (block.tail.stale) await recoverBlock(context, block, { length: block.tail.provenLength });
  const [index, tail] = [block.index!, block.tail!];
  if (!tail.durable) context.assertWritable();
  if (order.length > superblock.blockBytes || index.length < order.length)
    throw refuse(`its records end at ${index.length}`);
  const hole = tail.holes.find(({ start }) => start < order.length);
  if (hole !== undefined) throw refuse(`bytes ${hole.start} to ${hole.end} do not verify`);
  if (tail.provenLength > order.length) {
    const error = refuse(`${tail.provenLength} bytes are known to have been acknowledged`);
    context.log.error({ block: block.block, err: error }, 'a seal below a watermark is refused');
    throw error;
  }
  const slots = index.length === order.length ? index.count : index.slotAt(order.length);
  const end = slots === index.count ? index.length : index.offsetOf(slots);
  if (end !== order.length) throw refuse('no record ends there');
  if (slots !== order.slots) throw refuse(`it holds ${slots} records up to there, not ${order.slots}`);
  const digest =
    index.length === order.length
      ? tail.digest
      : (await walk(context, block, index.file, { end: order.length, checkPayloads: false })).digest;
  assert(digest !== undefined, 'a block without holes has a digest');
  if (order.digest !== undefined && !order.digest.equals(digest)) throw refuse('its digest is another one');

  if (index.length > order.length) await saveSurplus(context, block, index, order.length);
  const seal: SealInfo = { length: order.length, slots, digest, epoch: order.epoch };
  await block.ops.appendSeal(seal);
  // The commit point is behind: what follows can be done again from the SEAL and the records.
  block.provenLength = tail.provenLength;
  const sealed = new LoadedIndex(index.file, index.words.slice(0, slots), slots, order.length);
  sealed.aliases = index.aliases;
  block.index = sealed;
  block.tail = undefined;
  block.appends = undefined;
  block.state = BlockState.SEALED;
  context.changed(block.block);
  await cut(context, block, sealed);
  if (context.failure === undefined) await writeIdx(context, block, sealed.words, tail.sha1s(slots));
  return block.seal!;
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
    context.log.warn({ block: block.block, from, to: index.length, path }, 'surplus records were set aside');
  } catch (error) {
    if (isTfsError(error, 'DISK_FULL')) await context.discard(path);
    throw context.failed(error, `surplus of block ${block.block}`);
  }
}
