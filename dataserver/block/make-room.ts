import { TfsError } from '../../common/errors.ts';
import { mark } from '../../common/marks.ts';
import { tunable } from '../../common/tunables.ts';
import type { StoreContext } from './context.ts';
import type { Trash } from './trash.ts';

/**
 * Sees to it that a new file fits the disk, and what deletions need beside it; the trash goes for that.
 *
 * @param what the file is for, as in "a repair"
 * @throws TfsError DISK_FULL when even an empty trash leaves too little
 */
export async function makeRoom(
  { context, trash }: { readonly context: StoreContext; readonly trash: Trash },
  bytes: number,
  what: string,
): Promise<void> {
  context.assertWritable();
  const needed = bytes + tunable.opsReserveBytes;
  while ((await context.disk.space()).freeBytes < needed) {
    if (!(await trash.release()))
      throw new TfsError('DISK_FULL', `${what} needs ${needed} bytes of free space: make room on the disk`);
    mark('disk-room-from-trash');
  }
}
