import type { TfsError } from '../../common/errors.ts';
import { mark } from '../../common/marks.ts';
import { BlockFlag } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';

/**
 * Something of this block does not read as it was written. It goes on answering for what verifies; the NameServers
 * are told, and have it repaired. Said once, until it is repaired.
 */
export function markSuspect(context: StoreContext, block: Block, error: TfsError): void {
  // The files of one that is let go of vanish under those who read it.
  if (block.suspect || block.isForgotten) return;
  mark('block-suspect');
  block.flags |= BlockFlag.SUSPECT;
  context.changed(block.block);
  context.corrupt(block.block, error);
}

/**
 * A process before this one has found it damaged, and it was not repaired since. Where that is not so any more, or was a
 * disk that did not read for a while, its repair finds nothing to do.
 */
export function damagedBefore(context: StoreContext, block: Block): void {
  if (block.suspect || block.isForgotten) return;
  mark('suspect-before-start');
  block.flags |= BlockFlag.SUSPECT;
  block.unsound = true;
  context.changed(block.block);
  context.log.warn(
    { block: block.block },
    'a replica was found damaged before this start, and is not repaired yet',
  );
}
