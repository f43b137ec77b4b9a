import type { BlockId } from '../common/ids.ts';
import { LEAVE_MS_MAX, LEAVE_PROVE_MS_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockStore } from './block/store.ts';

export interface LeaveDeps {
  readonly store: BlockStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether a leader answers: without one nothing is sealed. */
  readonly isLed: () => boolean;
}

const LOOK_MS = 20;

/**
 * Waits until the blocks that were being written here, as the primary or another member, are sealed: a server that goes
 * before that would leave copies behind that have to be walked and sealed when it is back. The leader, who was told that
 * this server stops, seals them now. After that a little longer, for the word that all members have the seal, on the
 * strength of which equal contents are found in them.
 */
export async function untilSealed({ store, clock, log, isLed }: LeaveDeps): Promise<void> {
  const startedAt = clock.monotonic();
  const unsealed = () => store.blocks.filter((block) => isUnsealed(store, block));
  const waits = new Set<BlockId>();
  // Looked for anew at the end: a block that was just being opened is there only now.
  for (let found = unsealed(); found.length > 0; found = unsealed()) {
    for (const block of found) waits.add(block);
    while (found.some((block) => isUnsealed(store, block))) {
      if (!isLed() || clock.monotonic() - startedAt >= LEAVE_MS_MAX) {
        log.warn(
          { unsealed: unsealed().length },
          'stops with blocks that are not sealed: that is done when it is back',
        );
        return;
      }
      await clock.sleep(LOOK_MS);
    }
  }
  const sealedAt = clock.monotonic();
  while (
    [...waits].some((block) => isUnproven(store, block)) &&
    clock.monotonic() - sealedAt < LEAVE_PROVE_MS_MAX
  )
    await clock.sleep(LOOK_MS);
}

function isUnsealed(store: BlockStore, block: BlockId): boolean {
  const state = store.info(block)?.state;
  return state === BlockState.OPEN || state === BlockState.FENCED;
}

function isUnproven(store: BlockStore, block: BlockId): boolean {
  const info = store.info(block);
  return info?.seal !== undefined && info.slots > 0 && info.provenLength < info.seal.length;
}
