import { type DropEntry, DropReason, decodeDropLog } from '../../common/format/drop-log.ts';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import { sealInForce } from '../../common/format/ops.ts';
import type { BlockId } from '../../common/ids.ts';
import { PROVISIONAL_AFTER_MS, SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { Reign } from '../../common/wire/control.ts';
import type { LiveMember } from '../../nameserver/members.ts';
import type { BlockStory } from './block-story.ts';
import type { AckSight } from './check-acks.ts';
import { whyNotGeneration } from './generation-image.ts';
import type { MountLook } from './mount-look.ts';
import { type ObservedServer, Violation } from './observed.ts';
import type { Observer } from './observer.ts';

const DROP_LOG = 'drop.log';
const BLOCKS = 'blocks/';

/** A leader counts on what a server has said for so long; an order may be under way for a moment more. */
const BELIEVED_MS = PROVISIONAL_AFTER_MS + 500;

/** A disk that a fault has taken away, or emptied. */
interface Taken {
  readonly atMs: number;
  /** Of what was on it. */
  readonly goodCopies: ReadonlySet<BlockId>;
  /** By NameServer: the process on it that it had heard of last. */
  readonly heardOf: ReadonlyMap<number, LiveMember | undefined>;
}

/** Replicas that go: only what enough others have, or what holds nothing. */
export class DropLook {
  readonly #server: ObservedServer;
  /** Newest entry of each block. */
  #entries = new Map<BlockId, DropEntry>();
  /** Every entry that was in the log: one that a later one has followed stays in it. */
  readonly #seen = new Set<string>();
  /** The disk was another one, or earlier: a leader may not know it yet, and nobody can say what it lacks. */
  #taken: Taken | undefined;

  constructor(server: ObservedServer) {
    this.#server = server;
  }

  get wasReplaced(): boolean {
    return this.#taken !== undefined;
  }

  /** @throws Violation I11 */
  look(observer: Observer, mount: MountLook): void {
    const { medium } = this.#server;
    if (mount.dirty.has(DROP_LOG) && !medium.damaged.has(DROP_LOG)) this.#readLog(observer);
    for (const path of mount.dirty) {
      const file = path.startsWith(BLOCKS) ? parseBlockFileName(path.slice(BLOCKS.length)) : undefined;
      if (file?.kind === 'blk' && medium.durable(path) === undefined)
        this.#gone(observer, mount, file.block, file.number);
    }
  }

  isDropped(block: BlockId): boolean {
    const entry = this.#entries.get(block);
    return entry !== undefined && entry.reason !== DropReason.RETURNED;
  }

  /** To be called while the old disk is there: what counts as a good copy on it is what counted until now. */
  replaced({ stories, sight, options: { now, nameservers = [] } }: Observer, mount: MountLook): void {
    const { id } = this.#server;
    const had = [...stories.values()].filter((story) => isGoodCopy(mount, story, sight));
    this.#taken = {
      atMs: now(),
      goodCopies: new Set(had.map(({ block }) => block)),
      heardOf: new Map(nameservers.map(({ id: nameserver, live }) => [nameserver, live?.members.get(id)])),
    };
    // What an earlier disk had seen was judged by what was true when it was written, and is not once more.
    this.#entries.clear();
  }

  /**
   * A good copy was on the disk that was taken away, and its leader cannot know yet: that is too short a time ago, and it
   * has heard of no process since. Nothing that it could ask would tell it what will be there in the next moment.
   */
  isBelieved(
    block: BlockId,
    { nameserver }: Reign,
    { options: { now, nameservers = [] } }: Observer,
  ): boolean {
    const taken = this.#taken;
    if (taken?.goodCopies.has(block) !== true || now() - taken.atMs > BELIEVED_MS) return false;
    const known = nameservers.find(({ id }) => id === nameserver)?.live?.members.get(this.#server.id);
    return known !== undefined && known === taken.heardOf.get(nameserver);
  }

  #readLog(observer: Observer): void {
    const bytes = this.#server.medium.durable(DROP_LOG);
    const log = bytes && decodeDropLog(bytes);
    if (log === undefined || !log.ok) return;
    for (const entry of log.value.entries) {
      this.#entries.set(entry.block, entry);
      const seen = textOf(entry);
      if (this.#seen.has(seen)) continue;
      this.#seen.add(seen);
      if (entry.reason === DropReason.RETURNED)
        observer.mounts.get(this.#server.id)?.live.returns(entry.block);
      const story = observer.stories.get(entry.block);
      if (story !== undefined) this.#judge(observer, story, entry);
    }
  }

  #judge(observer: Observer, story: BlockStory, { reason }: DropEntry): void {
    const { block, superblock, ackedLength } = story;
    if (reason === DropReason.RETURNED) return;
    const where = { server: this.#server.id, block };
    if (reason === DropReason.RETIRED) {
      if (ackedLength > SUPERBLOCK_BYTES)
        throw new Violation('I11', where, 'retired as empty, and a name in it was acknowledged');
      return;
    }
    // Higher promises wait for what is done under this one: it is still that of the leader who ordered it.
    const { reign } = observer.mounts.get(this.#server.id)!.promises;
    const good = [...observer.mounts.values()].filter(
      (mount) =>
        mount.server.id !== this.#server.id &&
        (isGoodCopy(mount, story, observer.sight) || mount.drops.isBelieved(block, reign, observer)),
    );
    const wanted = superblock.targetReplicas;
    const domains = domainsOf(good);
    if (domains < wanted)
      throw new Violation('I11', where, `dropped, and ${domains} domains have good copies, not ${wanted}`);
    const counted = domainsOf(good.filter(({ promises }) => promises.hasPromised(reign)));
    if (counted < wanted)
      throw new Violation(
        'I11',
        where,
        `dropped for epoch ${reign.epoch} of NameServer ${reign.nameserver}, ` +
          `and only ${counted} domains with good copies, not ${wanted}, ever obeyed that leader`,
      );
  }

  #gone(observer: Observer, mount: MountLook, block: BlockId, generation: number): void {
    const story = observer.stories.get(block);
    // A replica whose making failed in its last steps leaves nothing behind.
    if (story === undefined || this.isDropped(block) || !mount.live.wasHeld(block)) return;
    const others = mount.files.get(block) ?? new Set();
    const log = mount.logs.get(block);
    // A log that was damaged on purpose does not say any more which one was: a later one that is there may be it.
    const isUnsaid = log === undefined && observer.sight.isLogUnsure(this.#server.id, story);
    const committed = isUnsaid ? Math.max(0, ...others) : (log?.state.generation?.generation ?? 0);
    // A next file that was not committed, or one that another has taken the place of.
    if (generation > committed || (others.size > 0 && others.has(committed))) return;
    if (story.progressOf(this.#server.id).everLength === SUPERBLOCK_BYTES && generation === 0) return;
    throw new Violation(
      'I11',
      { server: this.#server.id, block },
      `the file of generation ${generation} is gone, and nothing says why`,
    );
  }
}

const domainsOf = (mounts: readonly MountLook[]): number =>
  new Set(mounts.map(({ server }) => server.domain)).size;

/** Sealed, and with everything that the seal says. Damage that was done on purpose nobody can know of. */
function isGoodCopy(mount: MountLook, story: BlockStory, sight: AckSight): boolean {
  const { medium, id } = mount.server;
  const { block } = story;
  if (mount.drops.isDropped(block)) return false;
  const state = mount.logs.get(block)?.state;
  const seal = state && sealInForce(state);
  const generation = state?.generation;
  const path = `${BLOCKS}${blockFileName(block, generation?.generation ?? 0, 'blk')}`;
  const isUnsure = mount.drops.wasReplaced || medium.damaged.has(path) || sight.isLogUnsure(id, story);
  if (isUnsure) return (mount.files.get(block)?.size ?? 0) > 0;
  if (seal === undefined || !(mount.files.get(block)?.has(generation?.generation ?? 0) ?? false))
    return false;
  return generation === undefined
    ? story.progressOf(id).length >= seal.length
    : whyNotGeneration(mount, story, generation) === undefined;
}

const textOf = ({ block, generation, version, reason, atMs }: DropEntry): string =>
  `${block} ${generation} ${version.epoch} ${version.n} ${reason} ${atMs}`;
