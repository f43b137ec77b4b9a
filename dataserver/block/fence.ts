import { toTfsError } from '../../common/errors.ts';
import { slotFlags } from '../../common/format/slot-word.ts';
import { sourceOfFile } from '../../common/format/source.ts';
import { type Hole, walkBlock } from '../../common/format/walk.ts';
import { mark } from '../../common/marks.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { FenceFacts, SealInfo } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { seededAs } from './faults.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { knownOf, recoverBlock, recovered, walk } from './recover.ts';

/**
 * Ends the write session here: once this has resolved, no append of the block becomes durable any more. Appends that
 * were given before are let through first, so that the answer counts them. A block in which anything was found damaged
 * is walked from its start; of any other the end alone is read again.
 *
 * @param load the index of a sealed block
 */
export async function fenceBlock(
  context: StoreContext,
  block: Block,
  load: () => Promise<LoadedIndex>,
): Promise<FenceFacts> {
  const superblock = block.sound();
  await endSession(context, block, 'it is fenced');
  const members = superblock.members.map((member) => member.id);
  const { seal } = block;
  if (seal !== undefined) {
    const { length, slots, lost, complete } = seal;
    const index = lost === undefined && complete ? undefined : await load();
    const isLossy = index !== undefined && lost !== undefined;
    const found = isLossy ? await findLost(context, block, index, seal) : undefined;
    const { holes, digest } = found ?? { holes: isLossy ? lostSpansOf(index) : [], digest: seal.digest };
    const { provenLength } = block;
    return { validLength: length, slots, provenLength, holes, clean: true, digest, seal, members };
  }
  if (block.tail === undefined) await recovered(context, block);
  else if (block.tail.stale || block.suspect || !(await tailReads(context, block)))
    await recoverBlock(context, block, knownOf(block));
  const [index, tail] = [block.index!, block.tail!];
  if (!tail.durable) context.assertWritable();
  return {
    validLength: index.length,
    slots: index.count,
    provenLength: tail.provenLength,
    holes: tail.holes,
    clean: tail.clean,
    digest: tail.digest,
    seal: block.storedSeal,
    members,
  };
}

/** OPEN becomes FENCED, for good, behind the appends given before. */
export async function endSession(context: StoreContext, block: Block, why: string): Promise<void> {
  if (block.state !== BlockState.OPEN) return;
  await block.appends!.close(why);
  block.state = BlockState.FENCED;
  context.changed(block.block);
}

/**
 * Of a block that is sealed with records lost: what does not verify now, if that is less. A disk that failed to read for
 * so long that they were given up may read again.
 */
async function findLost(
  context: StoreContext,
  block: Block,
  { file }: LoadedIndex,
  seal: SealInfo,
): Promise<Pick<FenceFacts, 'holes' | 'digest'> | undefined> {
  // A generation is made of every record that lives, or not at all: it has none that is lost.
  if (block.generation > 0) return undefined;
  const walked = await walk(context, block, file, { end: seal.length, proven: seal, tolerant: true });
  const { holes, digest } = walked;
  const lost = holes.reduce((sum, each) => sum + each.slots, 0);
  if (walked.slots !== seal.slots || lost >= (seal.lost ?? 0)) return undefined;
  mark('lost-record-found');
  return { holes, digest: lost > 0 ? undefined : digest };
}

/** Of a block that is sealed with records lost: where they lay. */
function lostSpansOf(index: LoadedIndex): Hole[] {
  const holes: { start: number; end: number; firstSlot: number; slots: number }[] = [];
  for (let slot = 0; slot < index.count; slot++) {
    if ((slotFlags(index.words[slot]!) & NameFlag.LOST) === 0) continue;
    const last = holes.at(-1);
    const start = index.offsetOf(slot);
    const end = start + index.spanOf(slot);
    // Of one hole all records are said to start where it does.
    if (last !== undefined && last.firstSlot + last.slots === slot) {
      last.end = end;
      last.slots++;
    } else holes.push({ start, end, firstSlot: slot, slots: 1 });
  }
  return holes;
}

/** Whether what the last write stored still reads as it was written: a disk may lie about anything before that. */
async function tailReads(context: StoreContext, block: Block): Promise<boolean> {
  const [index, tail] = [block.index!, block.tail!];
  if (!tail.clean) return true;
  try {
    const walked = await walkBlock(
      await sourceOfFile(index.file),
      seededAs(block.superblock!, context.faults),
      { from: tail.lastWrite, end: index.length, proven: { length: index.length, slots: index.count } },
    );
    if (walked.holes.length === 0 && walked.validLength === index.length) return true;
    context.log.error({ block: block.block, holes: walked.holes }, 'what was written does not read back');
  } catch (error) {
    context.log.error(
      { block: block.block, err: toTfsError(error, 'IO') },
      'cannot read back what was written',
    );
  }
  mark('fence-tail-unreadable');
  tail.clean = false;
  return false;
}
