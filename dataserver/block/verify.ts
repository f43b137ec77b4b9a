import { SHA1_BYTES } from '../../common/format/idx.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import type { Slot } from '../../common/ids.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { RecordRef, VerifyReport } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { sha1sOfIdx } from './load.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { walk } from './recover.ts';

/** Reads all of a block: every header, every payload, and the digest of its seal. */
export async function verifyBlock(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
): Promise<VerifyReport> {
  const { seal } = block;
  const problems: string[] = [];
  let records = 0;
  block.users++;
  try {
    const end = index.length;
    const walked = await walk(context, block, index.file, {
      end,
      proven: seal ?? { length: end, slots: index.count },
      onRecord: ({ payloadOk, offset }) => {
        records++;
        if (!payloadOk) problems.push(`offset ${offset}: payload checksum mismatch`);
      },
    });
    for (const { start, end: stop } of walked.holes) problems.push(`bytes ${start} to ${stop} do not verify`);
    if (walked.slots !== index.count) problems.push(`${walked.slots} records instead of ${index.count}`);
    if (seal !== undefined && walked.digest !== undefined && !walked.digest.equals(seal.digest))
      problems.push('the digest is not the one of the seal');
    return { records, bytes: end, digest: walked.digest, problems };
  } finally {
    block.users--;
  }
}

/** From the index file where there is a good one; else from the records. */
export async function sha1sOf(context: StoreContext, block: Block, index: LoadedIndex): Promise<Buffer> {
  if (block.tail !== undefined) return block.tail.sha1s(index.count);
  if (block.state === BlockState.SEALED) {
    const stored = await sha1sOfIdx(context, block);
    if (stored !== undefined) return stored;
  }
  block.users++;
  try {
    const { sha1s } = await walk(context, block, index.file, { end: index.length, checkPayloads: false });
    return sha1s;
  } finally {
    block.users--;
  }
}

export function* recordRefs(index: LoadedIndex, sha1s: Buffer): Generator<RecordRef> {
  for (let slot = 0; slot < index.count; slot++) {
    const flags = slotFlags(index.words[slot]!);
    if ((flags & (NameFlag.PURGED | NameFlag.LOST)) !== 0) continue;
    const sha1 = sha1s.subarray(slot * SHA1_BYTES, (slot + 1) * SHA1_BYTES);
    if (sha1.length === SHA1_BYTES) yield { slot: slot as Slot, sha1 };
  }
}
