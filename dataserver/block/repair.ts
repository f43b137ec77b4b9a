import { TfsError } from '../../common/errors.ts';
import { RECORD_HEADER_BYTES, slotAt } from '../../common/format/record.ts';
import { SLOT_MAX } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { decodeRawRecords } from './raw-records.ts';

/**
 * Puts records of another replica where this one has none: behind its valid part, or into a hole. Both replicas lived
 * in one session, so the bytes fit exactly or are refused. They may start behind the start of a hole, where the records
 * before them are nowhere to be had. Durable when it resolves; the block is walked again before
 * anything is concluded from it.
 */
export async function fillBlock(
  context: StoreContext,
  block: Block,
  start: number,
  bytes: Buffer,
): Promise<void> {
  const { index, tail } = block;
  if (index === undefined || tail === undefined || block.state === BlockState.OPEN)
    throw new TfsError(
      'CONFLICT',
      `block ${block.block} is ${index ? 'not fenced' : 'not walked'}: nothing to repair`,
    );
  context.assertWritable();
  const place = placeOf(block, start, bytes);
  if (place === undefined)
    throw new TfsError('CONFLICT', `block ${block.block}: offset ${start} is neither its end nor a hole`);
  if (start + bytes.length > place.end)
    throw new TfsError(
      'CONFLICT',
      `block ${block.block}: the repair at ${start} reaches beyond ${place.end}`,
    );
  const headers = decodeRawRecords(bytes, block.seed, place);
  // From here on the facts of the last walk no longer hold, even if the write fails.
  tail.stale = true;
  try {
    await index.file.writeDurable([bytes], start);
  } catch (error) {
    throw context.failed(error, `repair of block ${block.block}`);
  }
  tail.repair = { offset: start + bytes.length, slot: place.slot + headers.length, end: place.end };
}

function placeOf(
  block: Block,
  start: number,
  bytes: Buffer,
): { offset: number; slot: number; end: number } | undefined {
  const [index, tail] = [block.index!, block.tail!];
  if (tail.repair?.offset === start) return tail.repair;
  const holes = [...tail.holes];
  // Where nothing valid stands behind a hole, its end is only as far as anything was known to have been acknowledged.
  const last = holes.at(-1)?.end === index.length ? holes.pop() : undefined;
  const [open, firstSlot] = [last?.start ?? index.length, last?.firstSlot ?? index.count];
  holes.push({ start: open, end: block.superblock!.blockBytes, firstSlot, slots: SLOT_MAX + 1 - firstSlot });
  const hole = [...tail.missing, ...holes].find((each) => each.start <= start && start < each.end);
  if (hole === undefined || start === hole.start)
    return hole && { offset: start, slot: hole.firstSlot, end: hole.end };
  // Behind a record that is damaged everywhere only the header tells which one this is; its checksum vouches for it.
  const slot = bytes.length < RECORD_HEADER_BYTES ? -1 : slotAt(bytes);
  const isThere = slot > hole.firstSlot && slot < hole.firstSlot + hole.slots;
  return isThere ? { offset: start, slot, end: hole.end } : undefined;
}
