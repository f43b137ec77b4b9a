import { isTfsError, TfsError } from '../../common/errors.ts';
import { DropReason } from '../../common/format/drop-log.ts';
import { parseBlockFileName } from '../../common/format/file-names.ts';
import { type BlockId, compareVersions, type ServerId } from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { type DropOrder, STORE_DIRECTORIES } from './api.ts';
import type { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import type { DropLog } from './drop-log.ts';

const REASONS = {
  moved: DropReason.MOVED,
  excess: DropReason.EXCESS,
  retired: DropReason.RETIRED,
} as const;

export interface DropParts {
  readonly context: StoreContext;
  readonly dropLog: DropLog;
  /** This one. */
  readonly server: ServerId;
  /** From now on nobody finds the block, nothing of it is opened any more, and it is reported as gone. */
  readonly forget: (block: Block) => void;
  /** What there is of its files could not be removed. */
  readonly leave: (block: BlockId) => void;
}

/**
 * Lets go of a replica. Order: the entry of the drop log durable, then nobody finds the replica, then its files are
 * unlinked and their directory synced. A crash before the entry leaves all of the replica, one after it none: what there
 * still is of its files the next start removes.
 *
 * @throws TfsError CONFLICT when this is not the replica of the order, or one that may be needed; DISK_FULL, READ_ONLY:
 *   then nothing has happened; IO: then it is not known any more; when the entry is durable its files go later, at the
 *   latest with the next start, else that finds it again
 */
export async function dropBlock(parts: DropParts, held: Block, order: DropOrder): Promise<void> {
  const { context, dropLog, server, forget } = parts;
  const why = whyKept(held, order, server);
  if (why !== undefined) {
    mark(`drop-refused-${why.kind}`);
    throw new TfsError('CONFLICT', `block ${held.block} is not dropped: ${why.text}`);
  }
  const { block, generation, version } = held;
  if (context.faults.has('unlink-before-drop-log')) await removeAll(context, held.block);
  try {
    const reason = REASONS[order.reason];
    await dropLog.append({ block, generation, version, reason, atMs: context.clock.now() });
  } catch (error) {
    // It may be in the log all the same, so that the next start will not have it: nobody may count on it.
    if (!isTfsError(error, 'DISK_FULL') && !isTfsError(error, 'READ_ONLY')) forget(held);
    throw error;
  }
  forget(held);
  // Whoever is still writing an index or operations would leave a file behind.
  while (held.loading !== undefined) await held.loading.catch(() => undefined);
  await held.indexWrite;
  await held.ops.close();
  try {
    await removeAll(context, block);
  } catch (error) {
    parts.leave(block);
    throw error;
  }
  context.log.info({ block, generation, reason: order.reason }, 'a replica was dropped');
}

/** Why a replica may not go. */
export interface Kept {
  readonly kind:
    | 'generation'
    | 'unreadable'
    | 'unsealed'
    | 'newer'
    | 'joining'
    | 'member'
    | 'holds'
    | 'former-member';
  readonly text: string;
}

/** @returns undefined for a replica that may go, else why it may not */
export function whyKept(held: Block, order: DropOrder, server: ServerId): Kept | undefined {
  const { generation, state, version, prepared, members, seal } = held;
  const own = `(${version.epoch}, ${version.n})`;
  // Of an earlier one it is needed even less; of a later one the order knows nothing.
  if (generation > order.generation)
    return {
      kind: 'generation',
      text: `it is of generation ${generation}, the order of ${order.generation}`,
    };
  if ((held.flags & BlockFlag.QUARANTINED) !== 0)
    return { kind: 'unreadable', text: 'what it is cannot be read' };
  if (state !== BlockState.SEALED || seal === undefined)
    return { kind: 'unsealed', text: 'it waits for its seal' };
  if (compareVersions(order.version, version) < 0)
    return { kind: 'newer', text: `it holds the newer configuration ${own}` };
  // Whatever configuration was begun and never finished: without a record there is nothing that it could be about.
  if (order.reason === 'retired') return whyNotRetired(held, order);
  if (prepared !== undefined && compareVersions(order.version, prepared) < 0)
    return {
      kind: 'joining',
      text: `it is being taken into configuration (${prepared.epoch}, ${prepared.n})`,
    };
  if (compareVersions(order.version, version) === 0 && members.includes(server))
    return { kind: 'member', text: `it belongs to its configuration ${own}` };
  return undefined;
}

/**
 * An empty block goes with all of its replicas, those of its configuration too. The leader has heard all members; a server
 * that the block was written to and that was left out since may hold more of it, and would bring it back alone. So each of
 * those is a member too, by the newest configuration that this replica knows, or the leader knows all that it holds.
 */
function whyNotRetired({ seal, ops, superblock, members }: Block, { missing }: DropOrder): Kept | undefined {
  if (seal!.slots > 0 || ops.facts.aliases > 0) return { kind: 'holds', text: 'it is not empty' };
  const isHeard = (id: ServerId) => members.includes(id) || missing?.includes(id) === false;
  if (!superblock!.members.every(({ id }) => isHeard(id)))
    return { kind: 'former-member', text: 'a server that it was written to is away and no member any more' };
  return undefined;
}

/** Everything with the name of this block: other generations and logs too, and what an earlier life of it has left. */
export async function removeAll(context: StoreContext, block: BlockId): Promise<void> {
  const names = await context.disk.list(STORE_DIRECTORIES.blocks);
  await removeFiles(
    context,
    names.filter((name) => parseBlockFileName(name)?.block === block),
  );
}

/** The block file first: without it the others are only leftovers, whatever else is lost. */
export async function removeFiles(context: StoreContext, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const isBlockFile = (name: string): number => (name.endsWith('.blk') ? 0 : 1);
  try {
    for (const name of [...names].sort((a, b) => isBlockFile(a) - isBlockFile(b)))
      await context.disk.unlink(inBlocks(name)).catch((error: unknown) => {
        if (!isTfsError(error, 'NOT_FOUND')) throw error;
      });
    await context.syncBlocks();
  } catch (error) {
    throw context.failed(error, `removing ${names.join(', ')}`);
  }
}
