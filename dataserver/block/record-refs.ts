import { SHA1_BYTES } from '../../common/format/idx.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import type { Slot } from '../../common/ids.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { RecordRef } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { sha1sOfIdx } from './load.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { walk } from './recover.ts';

/** From the index file where there is a good one; else from the records. */
export async function sha1sOf(context: StoreContext, block: Block, index: LoadedIndex): Promise<Buffer> {
  if (block.tail !== undefined) return block.tail.sha1s(index.count);
  if (block.state === BlockState.SEALED) {
    const stored = await sha1sOfIdx(context, block);
    if (stored !== undefined) return stored;
  }
  const { sha1s } = await walk(context, block, index.file, { end: index.length, checkPayloads: false });
  return sha1s;
}

/** @param end behind it records are left out */
export function* recordRefs(index: LoadedIndex, sha1s: Buffer, end: number): Generator<RecordRef> {
  for (let slot = 0; slot < index.count; slot++) {
    if (index.offsetOf(slot) + index.spanOf(slot) > end) continue;
    const flags = slotFlags(index.words[slot]!);
    if ((flags & (NameFlag.PURGED | NameFlag.LOST)) !== 0) continue;
    const sha1 = sha1s.subarray(slot * SHA1_BYTES, (slot + 1) * SHA1_BYTES);
    if (sha1.length === SHA1_BYTES) yield { slot: slot as Slot, sha1 };
  }
}

/** Whether a record with that SHA-1 may be in the file: by its index file, where there is a good one. */
export async function mayHoldContent(context: StoreContext, block: Block, sha1: Buffer): Promise<boolean> {
  if (block.state !== BlockState.SEALED || block.flags !== 0) return true;
  const stored = await sha1sOfIdx(context, block);
  return stored === undefined || stored.includes(sha1);
}

/** Slots of which the file holds a record with that SHA-1, also of those that are purged and still there. */
export function slotsWith(index: LoadedIndex, sha1s: Buffer, sha1: Buffer): Slot[] {
  const slots: Slot[] = [];
  for (let at = sha1s.indexOf(sha1); at >= 0; at = sha1s.indexOf(sha1, at + 1)) {
    const slot = at / SHA1_BYTES;
    if (Number.isInteger(slot) && slot < index.count && !index.isLeftOut(slot)) slots.push(slot as Slot);
  }
  return slots;
}
