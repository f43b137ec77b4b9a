import type { PictureKey } from '../../client/reader.ts';
import { isTfsError } from '../../common/errors.ts';
import type { BlockId, Cookie, FileId, ServerId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { BlockMap } from '../../nameserver/block-map.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { Violation } from './observed.ts';

/** Who is left, and who is not. */
export interface Survivors {
  /** All that serve. */
  readonly servers: readonly {
    readonly id: ServerId;
    readonly medium?: { durablePaths(): readonly string[]; readonly damaged: { has(path: string): boolean } };
  }[];
  /** Taken out by an operator who was told that blocks may be lost with it, and forced it. */
  readonly forced?: ReadonlySet<ServerId>;
  /** Reads a picture as clients do. */
  readonly read?: (key: PictureKey) => Promise<unknown>;
}

/** Whether a fault has damaged any file of the block there, so that it may never read again. */
export const isDamagedAt = ({ medium }: Survivors['servers'][number], block: BlockId): boolean =>
  medium?.durablePaths().some((path) => path.startsWith(`blocks/${block}.`) && medium.damaged.has(path)) ===
  true;

/**
 * Blocks that a server may have had that was removed by force, and nobody else has: every other member is there and says
 * that it does not hold it. They wait for their seal for ever, and have to: to forget one would answer "not found" for what
 * may be lost (I16; test/nameserver/removal.test.ts). As soon as anyone who is left has a replica, or might have one, the
 * block is none of these.
 *
 * A block of which all that is left is quarantined, on a disk that cannot read its log any more, waits like that, too:
 * there is nothing to make it whole from, and a person has to look at it. Where the disk only failed for a while the server
 * looks again, and nothing is at rest until it has (converged.ts).
 *
 * So does one that was never sealed and came to be on one disk alone, where a sector of it never reads: nobody can say how
 * far its records go. Another member says that it has none, so nothing in it was acknowledged.
 */
export function lostBlocks(
  map: Pick<BlockMap, 'unsettled' | 'facts'>,
  { servers, forced = new Set() }: Survivors,
): BlockId[] {
  const alive = new Set(servers.map(({ id }) => id));
  return [...map.unsettled].filter((block) => {
    const { whole, replicas } = map.facts(block)!;
    const held = replicas.filter(({ state }) => state !== 0);
    if (held.length > 0 && held.every(({ readable }) => !readable))
      return replicas.every(({ server }) => alive.has(server));
    if (whole !== Whole.UNSEALED) return false;
    if (held.length === 1 && replicas.length > 1 && replicas.every(({ server }) => alive.has(server))) {
      const holder = servers.find(({ id }) => id === held[0]!.server)!;
      return isDamagedAt(holder, block);
    }
    return (
      replicas.some(({ server }) => forced.has(server)) &&
      replicas.every(({ server, state }) => state === 0 && (forced.has(server) || alive.has(server)))
    );
  });
}

/**
 * Sealed blocks of which every replica is suspect, and of which the leader has found that records verify on none of them.
 * Nothing brings those back, so the replicas stay suspect, and their repair is tried again for ever. That none of the
 * records was acknowledged is for the checks of names to see, and for {@link whyNotSoundAlike} that the rest is on all.
 *
 * @returns how many replicas each has
 */
export function lossyBlocks(
  lostByBlock: ReadonlyMap<BlockId, number>,
  servers: readonly { readonly live: { readonly store: Pick<BlockStore, 'info'> } | undefined }[],
): ReadonlyMap<BlockId, number> {
  const lossy = new Map<BlockId, number>();
  for (const block of lostByBlock.keys()) {
    const replicas = servers.flatMap(({ live }) => live?.store.info(block) ?? []);
    const areSuspect = replicas.every(
      ({ state, flags }) => state === BlockState.SEALED && flags === BlockFlag.SUSPECT,
    );
    if (areSuspect) lossy.set(block, replicas.length);
  }
  return lossy;
}

/** @returns why not, where of a block with lost records something is sound on one server and not on another */
export async function whyNotSoundAlike(
  block: BlockId,
  servers: readonly {
    readonly id: ServerId;
    readonly live: { readonly store: Pick<BlockStore, 'info' | 'readSound'> } | undefined;
  }[],
): Promise<Violation | undefined> {
  let first: string | undefined;
  for (const { id, live } of servers) {
    if (live?.store.info(block) === undefined) continue;
    const sound = await soundSpans(live.store, block);
    first ??= sound;
    if (sound !== first)
      return new Violation(
        'convergence',
        { server: id, block },
        `${sound} are sound here, elsewhere ${first}`,
      );
  }
  return undefined;
}

async function soundSpans(store: Pick<BlockStore, 'info' | 'readSound'>, block: BlockId): Promise<string> {
  const { generation, seal } = store.info(block)!;
  const spans: { readonly start: number; end: number }[] = [];
  for (let at = SUPERBLOCK_BYTES; at < seal!.length; ) {
    const { offset, bytes } = await store.readSound(block, generation, {
      offset: at,
      length: seal!.length - at,
    });
    const last = spans.at(-1);
    if (last?.end === offset) last.end += bytes.length;
    else if (bytes.length > 0) spans.push({ start: offset, end: offset + bytes.length });
    at = offset + bytes.length;
  }
  return `bytes ${spans.map(({ start, end }) => `${start}-${end}`).join(' ')}`;
}

/**
 * What may be lost is "not now", not "not there". That no acknowledged picture is in such a block is for the checks of names
 * to see, as everywhere: of one that is on no replica they say that it is lost.
 */
export async function checkLostBlocks(blocks: readonly BlockId[], { read }: Survivors): Promise<void> {
  for (const block of blocks) {
    const answer = await read?.({ block, fileId: 0 as FileId, cookie: 1 as Cookie }).then(
      () => 'a picture',
      (error: unknown) => error,
    );
    if (answer === undefined || (isTfsError(answer) && answer.retryable)) continue;
    const text = isTfsError(answer) ? answer.code : String(answer);
    throw new Violation('I16', { block }, `it may be lost with a server, and is answered with ${text}`);
  }
}
