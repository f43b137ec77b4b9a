import { toTfsError } from '../../common/errors.ts';
import { sourceOfFile } from '../../common/format/source.ts';
import { walkBlock } from '../../common/format/walk.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { FenceFacts } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { seededAs } from './faults.ts';
import { recoverBlock, recovered } from './recover.ts';

/**
 * Ends the write session here: once this has resolved, no append of the block becomes durable any more. Appends that
 * were given before are let through first, so that the answer counts them.
 */
export async function fenceBlock(context: StoreContext, block: Block): Promise<FenceFacts> {
  const superblock = block.sound();
  if (block.state === BlockState.OPEN) {
    await block.appends!.close('it is fenced');
    block.state = BlockState.FENCED;
    context.changed(block.block);
  }
  const members = superblock.members.map((member) => member.id);
  const { seal } = block;
  if (seal !== undefined) {
    const { length, slots, digest } = seal;
    return {
      validLength: length,
      slots,
      provenLength: length,
      holes: [],
      clean: true,
      digest,
      seal,
      members,
    };
  }
  if (block.tail === undefined) await recovered(context, block);
  else if (block.tail.stale || !(await tailReads(context, block)))
    await recoverBlock(context, block, { length: block.tail.provenLength });
  const [index, tail] = [block.index!, block.tail!];
  if (!tail.durable) context.assertWritable();
  return {
    validLength: index.length,
    slots: index.count,
    provenLength: tail.provenLength,
    holes: tail.holes,
    clean: tail.clean,
    digest: tail.digest,
    seal: undefined,
    members,
  };
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
  tail.clean = false;
  return false;
}
