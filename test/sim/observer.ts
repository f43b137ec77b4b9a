import type { PictureKey } from '../../client/reader.ts';
import { parseBlockFileName } from '../../common/format/file-names.ts';
import type { MutationType, Op } from '../../common/format/ops.ts';
import { decodeSuperblock } from '../../common/format/superblock.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { Faults } from '../../dataserver/block/faults.ts';
import { BlockStory } from './block-story.ts';
import { type AckedPicture, type AckSight, checkDurable, checkMutation, checkPicture } from './check-acks.ts';
import { DropLook } from './check-drops.ts';
import { LiveLook } from './check-live.ts';
import { checkNewOps } from './check-ops.ts';
import { PromiseLook } from './check-promises.ts';
import { isLogDamaged, type MountLook } from './mount-look.ts';
import { type ObservedNameServer, type ObservedServer, Violation } from './observed.ts';
import { OpsImage } from './ops-image.ts';

export interface ObserverOptions {
  readonly servers: readonly ObservedServer[];
  readonly nameservers?: readonly ObservedNameServer[];
  readonly minWrite: number;
  /** True time, in ms. */
  readonly now: () => number;
  /** Bugs that are planted in the DataServers. */
  readonly faults?: Faults;
}

const BLOCKS = 'blocks/';

/**
 * Sees every byte that becomes durable on every mount, after every step, and says at once when an invariant does not hold.
 * It takes no part: nothing that it does can be noticed by those whom it observes.
 *
 * Every method that looks throws a {@link Violation}.
 */
export class Observer {
  readonly stories = new Map<BlockId, BlockStory>();
  readonly mounts = new Map<ServerId, MountLook>();
  readonly sight: AckSight;
  /** Names that were given out, with the SHA-1, in hex, of what for. */
  readonly names = new Map<string, string>();
  readonly options: ObserverOptions;
  #isDirty = false;
  /** What new records say to be durable on all members. */
  readonly #claims: { readonly story: BlockStory; readonly length: number }[] = [];

  constructor(options: ObserverOptions) {
    this.options = options;
    this.sight = {
      minWrite: options.minWrite,
      isUnsure: (server, { block }, end) =>
        this.#isLost(server, block) || end > (this.mounts.get(server)?.sureTo.get(block) ?? end),
      isLogUnsure: (server, { block }) =>
        this.#isLost(server, block) || isLogDamaged(this.mounts.get(server), block),
      opsState: (server, { block }) => this.mounts.get(server)?.logs.get(block)?.state,
    };
    for (const server of options.servers) this.add(server);
  }

  /** A server more; all that its mount holds is looked at with the next step. */
  add(server: ObservedServer): void {
    const dirty = new Set<string>();
    this.mounts.set(server.id, {
      server,
      dirty,
      files: new Map(),
      logs: new Map(),
      early: new Map(),
      generations: new Map(),
      lost: new Set(),
      sureTo: new Map(),
      doomed: undefined,
      live: new LiveLook(server, this.stories, this.sight),
      promises: new PromiseLook(server),
      drops: new DropLook(server),
    });
    this.#attach(server, dirty);
  }

  /** To be called after every event. */
  step(): void {
    for (const mount of this.mounts.values()) this.#noticeProcess(mount);
    if (this.#isDirty) {
      this.#isDirty = false;
      // What a step makes durable on several mounts is there at once: a log is looked at when all block files were.
      for (const mount of this.mounts.values()) {
        this.#lookAtBlocks(mount);
        this.#lookAtPromises(mount);
      }
      for (const { story, length } of this.#claims.splice(0))
        checkDurable(story, length, this.sight, `a header says so of ${length} bytes`);
      for (const mount of this.mounts.values()) this.#lookAtRest(mount);
    }
    for (const { live } of this.mounts.values()) live.step();
    for (const { live } of this.options.nameservers ?? [])
      if (live !== undefined)
        for (const [id, { promises }] of this.mounts) promises.shown(live.members.get(id)?.promise);
  }

  /**
   * A fault takes the disk of a server away, empties it, or brings it back to an earlier time: what is on it then need not
   * follow from what was.
   *
   * @param change does it. Before it all is as it was at the last step, also which files are damaged
   */
  replaced(server: ServerId, change: () => void): void {
    const mount = this.mounts.get(server)!;
    mount.drops.replaced(this, mount);
    change();
    mount.files.clear();
    mount.logs.clear();
    mount.generations.clear();
    mount.early.clear();
    for (const story of this.stories.values()) {
      story.forget(server);
      mount.lost.add(story.block);
    }
    mount.doomed = mount.server.live?.store;
    mount.promises.replaced(mount.doomed !== undefined);
    mount.live.replaced();
    mount.dirty.clear();
    this.#attach(mount.server, mount.dirty);
  }

  /** A client was told that a picture is stored under that name. To be called at that moment. */
  acked(name: string, picture: AckedPicture): void {
    this.step();
    const sha1 = picture.sha1.toString('hex');
    const before = this.names.get(name);
    if (before !== undefined && before !== sha1)
      throw new Violation('I9', { name }, `given out for ${before} and for ${sha1}`);
    this.names.set(name, sha1);
    const story = this.stories.get(picture.key.block);
    if (story === undefined)
      throw new Violation(
        'I1',
        { block: picture.key.block, name },
        'acknowledged, and its block is durable nowhere',
      );
    checkPicture(story, picture, this.sight, name);
  }

  /** A client was told that a name is deleted, undeleted, hidden or revealed. To be called at that moment. */
  mutated(
    name: string,
    key: PictureKey,
    mutation: { readonly type: MutationType; readonly opId: Buffer },
  ): void {
    this.step();
    const story = this.stories.get(key.block);
    if (story === undefined)
      throw new Violation('I1', { block: key.block, name }, 'operated on, and its block is durable nowhere');
    checkMutation(story, { ...mutation, fileId: key.fileId }, this.sight, name);
  }

  #attach({ medium }: ObservedServer, dirty: Set<string>): void {
    for (const path of medium.durablePaths()) dirty.add(path);
    medium.onDurable = (path) => {
      dirty.add(path);
      this.#isDirty = true;
    };
    this.#isDirty = true;
  }

  #noticeProcess(mount: MountLook): void {
    mount.live.noticeProcess();
    if (mount.doomed === undefined || mount.server.live?.store === mount.doomed) return;
    mount.doomed = undefined;
    mount.promises.isDoomed = false;
  }

  #lookAtBlocks(mount: MountLook): void {
    for (const path of mount.dirty) {
      const file = path.startsWith(BLOCKS) ? parseBlockFileName(path.slice(BLOCKS.length)) : undefined;
      if (file?.kind !== 'blk') continue;
      const bytes = mount.server.medium.durable(path);
      const files = mount.files.get(file.block) ?? new Set<number>();
      mount.files.set(file.block, files);
      if (bytes === undefined) files.delete(file.number);
      else files.add(file.number);
      this.#lookAtBlock(mount, path, bytes, file.block, file.number);
    }
  }

  #lookAtBlock(
    mount: MountLook,
    path: string,
    bytes: Buffer | undefined,
    block: BlockId,
    generation: number,
  ): void {
    const { server } = mount;
    const isDamaged = bytes !== undefined && server.medium.damaged.has(path);
    if (generation === 0 && isDamaged) mount.sureTo.set(block, 0);
    if (bytes === undefined || isDamaged) {
      if (generation > 0) return;
      const story = this.stories.get(block);
      story?.forget(server.id);
      if (isDamaged) story?.glimpse(server.medium.readable(path) ?? bytes);
      return;
    }
    const story = this.#storyOf(server, bytes, block, generation, path);
    mount.live.track(block);
    if (generation > 0) return;
    const { length } = story;
    const fresh = story.advance(server.id, bytes, server.medium.readable(path)?.length);
    // Another file than the damaged one. Where it has a hole, nobody could give the record yet.
    const hasHole = story.progressOf(server.id).length < length && bytes.length >= length;
    if (mount.sureTo.get(block) === 0 && !hasHole) mount.sureTo.set(block, length);
    if (fresh.length === 0) return;
    if (!fresh.every(({ slot }) => story.wasGlimpsed(slot))) mount.live.extended(story);
    this.#claims.push({ story, length: fresh.at(-1)!.ackedLength });
  }

  #storyOf(
    server: ObservedServer,
    bytes: Buffer,
    block: BlockId,
    generation: number,
    path: string,
  ): BlockStory {
    const where = { server: server.id, block };
    const known = this.stories.get(block);
    // Usually it is the same file as before, and longer.
    if (known?.isHead(generation, bytes)) return known;
    const decoded = decodeSuperblock(bytes.subarray(0, SUPERBLOCK_BYTES));
    if (!decoded.ok) throw new Violation('durability', { ...where, name: path }, decoded.why);
    const superblock = decoded.value;
    if (superblock.block !== block || superblock.generation !== generation)
      throw new Violation(
        'durability',
        { ...where, name: path },
        `it is generation ${superblock.generation} of block ${superblock.block}`,
      );
    if (known === undefined) {
      const story = new BlockStory(superblock, this.options.faults);
      this.stories.set(block, story);
      story.noteHead(generation, bytes);
      for (const { doomed, lost } of this.mounts.values()) if (doomed !== undefined) lost.add(block);
      for (const { early, dirty } of this.mounts.values()) if (early.has(block)) dirty.add(early.get(block)!);
      return story;
    }
    if (known.superblock.session !== superblock.session || !known.superblock.salt.equals(superblock.salt))
      throw new Violation(
        'I9',
        where,
        `session ${superblock.session} has the id of a block of session ${known.superblock.session}`,
      );
    if (known.hasHead(generation))
      throw new Violation(
        'I4',
        { ...where, name: path },
        'its superblock is not the one of the other replicas',
      );
    known.noteHead(generation, bytes);
    return known;
  }

  #lookAtPromises({ dirty, server, promises }: MountLook): void {
    for (const path of dirty)
      if (!path.startsWith(BLOCKS) && !server.medium.damaged.has(path)) promises.look(path);
  }

  #lookAtRest(mount: MountLook): void {
    const { dirty } = mount;
    if (dirty.size === 0) return;
    for (const path of dirty) {
      if (!path.startsWith(BLOCKS)) continue;
      const file = parseBlockFileName(path.slice(BLOCKS.length));
      if (file?.kind === 'ops') this.#lookAtLog(mount, path, file.block, file.number);
    }
    mount.drops.look(this, mount);
    dirty.clear();
  }

  #lookAtLog(mount: MountLook, path: string, block: BlockId, n: number): void {
    const { medium, id } = mount.server;
    const known = mount.logs.get(block);
    const bytes = medium.durable(path);
    if (bytes === undefined || medium.damaged.has(path)) {
      if (known?.n === n) mount.logs.delete(block);
      return;
    }
    if (known !== undefined && known.n > n) return;
    const image = known?.n === n ? known : new OpsImage(n);
    const fresh: Op[] = image.advance(bytes);
    if (image.header === undefined)
      throw new Violation('durability', { server: id, block, name: path }, 'named before it was whole');
    const story = this.stories.get(block);
    if (story === undefined) {
      mount.early.set(block, path);
      return;
    }
    mount.early.delete(block);
    mount.logs.set(block, image);
    for (const op of fresh) story.ops.note(id, op);
    checkNewOps(this, mount, story, fresh);
  }

  #isLost(server: ServerId, block: BlockId): boolean {
    return this.mounts.get(server)?.lost.has(block) ?? false;
  }
}
