import type { PictureKey } from '../../client/reader.ts';
import { type MutationType, nameFlagsOf, type OpsState, OpType } from '../../common/format/ops.ts';
import { type FileId, isAlias, type ServerId } from '../../common/ids.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { BlockStory } from './block-story.ts';
import { Violation } from './observed.ts';

export interface AckSight {
  /** Operations, and records, that are on fewer servers are never acknowledged. */
  readonly minWrite: number;
  /**
   * Whether a fault has damaged the first file of the block there, or taken the disk, so that nobody can say whether it
   * had all of the block up to `end`.
   */
  readonly isUnsure: (server: ServerId, story: BlockStory, end: number) => boolean;
  /** The same of its newest ops log. */
  readonly isLogUnsure: (server: ServerId, story: BlockStory) => boolean;
  /** What the operations in the log there add up to; undefined where there is none. */
  readonly opsState: (server: ServerId, story: BlockStory) => OpsState | undefined;
}

export interface AckedPicture {
  readonly key: PictureKey;
  /** 20 bytes. */
  readonly sha1: Buffer;
  readonly payload: Buffer;
}

/**
 * A PUT was answered: its record has been durable on every member of the write set, whole and right, or, completely sealed,
 * on every member of a later configuration; and an alias on every member of a configuration as well.
 *
 * @throws Violation I1, I5, I9
 */
export function checkPicture(
  story: BlockStory,
  { key, sha1, payload }: AckedPicture,
  sight: AckSight,
  name: string,
): void {
  const { block } = story;
  const slot = story.slotOf(key);
  const end = slot === undefined ? undefined : story.endOf(slot);
  if (slot === undefined || end === undefined)
    throw new Violation(
      'I1',
      { block, name },
      `acknowledged, and ${slot === undefined ? 'its alias' : 'its record'} is durable nowhere`,
    );
  const { header, payload: stored } = story.record(slot);
  const cookie = isAlias(key.fileId) ? story.ops.aliases.get(key.fileId)!.cookie : header.cookie;
  if (cookie !== key.cookie)
    throw new Violation('I1', { block, name }, 'acknowledged with another cookie than is stored');
  if (!header.sha1.equals(sha1) || !stored.equals(payload))
    throw new Violation('I1', { block, name }, `acknowledged, and slot ${slot} holds other bytes`);
  if (!isSealedWithout(story, end, sight))
    checkDurable(story, end, sight, `slot ${slot} of ${name} was acknowledged`);
  if (isAlias(key.fileId)) {
    const { servers } = story.ops.aliases.get(key.fileId)!;
    checkHeld(story, [servers], sight, name, 'its alias');
  }
  if (story.sealed !== undefined && story.sealed.length < end)
    throw new Violation(
      'I5',
      { block, name },
      `acknowledged up to ${end}, and completely sealed at ${story.sealed.length}`,
    );
  story.ackedLength = Math.max(story.ackedLength, end);
}

/** @throws Violation I1 when somebody of the write set never had all of the block up to there */
export function checkDurable(story: BlockStory, end: number, sight: AckSight, why: string): void {
  const { block, superblock } = story;
  for (const { id } of superblock.members) {
    const ever = story.progressOf(id).everLength;
    if (ever >= end || sight.isUnsure(id, story, end)) continue;
    throw new Violation(
      'I1',
      { server: id, block },
      `${why}, and only ${ever} of ${end} bytes are durable there`,
    );
  }
}

/**
 * A retry, or the same content once more, may be answered with a record that was never acknowledged before: where its block
 * was sealed without a member of the write set, and goes on in a configuration without it, the seal is complete when all of
 * that configuration have it (decision 013). Nobody can give that seal up again, so those are all that have to have it.
 * Nobody can take a generation back either that they made of it (decision 015).
 */
function isSealedWithout(story: BlockStory, end: number, sight: AckSight): boolean {
  const sealedTo = Math.max(story.sealed?.length ?? 0, story.startOf(story.compactedSlots));
  if (sealedTo < end) return false;
  const has = (server: ServerId): boolean =>
    story.progressOf(server).everLength >= end || sight.isUnsure(server, story, end);
  // Not the first one, which is the write set: checkDurable judges that.
  return [...story.configurations].some(
    ({ members }) =>
      members.length >= sight.minWrite &&
      story.superblock.members.some(({ id }) => !members.includes(id)) &&
      members.every(has),
  );
}

/** What a name is like behind an operation. */
const EFFECTS: Record<
  MutationType,
  { readonly flag: number; readonly isSet: boolean; readonly undoneBy: MutationType }
> = {
  [OpType.DELETE]: { flag: NameFlag.DELETED, isSet: true, undoneBy: OpType.UNDELETE },
  [OpType.UNDELETE]: { flag: NameFlag.DELETED, isSet: false, undoneBy: OpType.DELETE },
  [OpType.HIDE]: { flag: NameFlag.HIDDEN, isSet: true, undoneBy: OpType.REVEAL },
  [OpType.REVEAL]: { flag: NameFlag.HIDDEN, isSet: false, undoneBy: OpType.HIDE },
};

/**
 * An operation was answered: it, or one that did the same, has been durable on all members of some configuration, and on
 * enough of them; or there was nothing to do, and the name is so on all of them.
 *
 * @throws Violation I1
 */
export function checkMutation(
  story: BlockStory,
  { type, fileId, opId }: { readonly type: MutationType; readonly fileId: FileId; readonly opId: Buffer },
  sight: AckSight,
  name: string,
): void {
  const slot = story.slotOf({ fileId });
  // It stays as it is then, whatever is asked for.
  if (slot !== undefined && story.ops.mayBePurged(slot)) return;
  const own = story.ops.holdersOfOp(opId);
  const { flag, isSet, undoneBy } = EFFECTS[type];
  // There was nothing to do then, and by now somebody may have done the opposite.
  if (own === undefined && (!isSet || story.ops.holdersOfKind(undoneBy, fileId) !== undefined)) return;
  const isSo = new Set<ServerId>();
  for (const { members } of story.configurations)
    for (const member of members) {
      const state = sight.opsState(member, story);
      if (state !== undefined && (((nameFlagsOf(state, fileId) ?? 0) & flag) !== 0) === isSet)
        isSo.add(member);
    }
  const holders = [own, story.ops.holdersOfKind(type, fileId), isSo];
  checkHeld(
    story,
    holders.filter((held) => held !== undefined),
    sight,
    name,
    'the operation',
  );
}

function checkHeld(
  story: BlockStory,
  holders: readonly ReadonlySet<ServerId>[],
  sight: AckSight,
  name: string,
  what: string,
): void {
  const has = (held: ReadonlySet<ServerId>, server: ServerId): boolean =>
    held.has(server) || sight.isLogUnsure(server, story);
  for (const { members } of story.configurations) {
    if (members.length < sight.minWrite) continue;
    if (holders.some((held) => members.every((member) => has(held, member)))) return;
  }
  const all = holders.map((held) => [...held].join(' ') || 'nobody').join(', or ');
  const configurations = [...story.configurations].map(
    ({ version: { epoch, n }, members }) => `(${epoch}, ${n}): ${members.join(' ')}`,
  );
  throw new Violation(
    'I1',
    { block: story.block, name },
    `${what} was acknowledged; durable on ${all}; configurations: ${configurations.join(', ')}`,
  );
}
