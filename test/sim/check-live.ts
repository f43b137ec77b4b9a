import type { BlockId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { BlockStory } from './block-story.ts';
import { type AckSight, checkDurable } from './check-acks.ts';
import { type ObservedProcess, type ObservedServer, Violation } from './observed.ts';

interface Unsealed {
  /** A process has said that it has it. */
  isHeld: boolean;
  /** Its session is over on this disk, for good. */
  isOver: boolean;
  /** Nothing is appended any more by the process that runs. */
  isFenced: boolean;
  /** What was found to be durable on all members. */
  provenLength: number;
}

/** What the process on a mount believes of the blocks that are not sealed, against what the disks say. */
export class LiveLook {
  readonly #server: ObservedServer;
  readonly #stories: ReadonlyMap<BlockId, BlockStory>;
  readonly #sight: AckSight;
  readonly #unsealed = new Map<BlockId, Unsealed>();
  readonly #sealed = new Set<BlockId>();
  #store: ObservedProcess['store'] | undefined;

  constructor(server: ObservedServer, stories: ReadonlyMap<BlockId, BlockStory>, sight: AckSight) {
    this.#server = server;
    this.#stories = stories;
    this.#sight = sight;
  }

  /** Something of the block is on the disk. */
  track(block: BlockId): void {
    if (this.#unsealed.has(block) || this.#sealed.has(block)) return;
    this.#unsealed.set(block, {
      isHeld: false,
      isOver: false,
      isFenced: false,
      provenLength: SUPERBLOCK_BYTES,
    });
  }

  /** Whether a process on this mount ever had the block: else nobody was told of it, whatever there is on the disk. */
  wasHeld(block: BlockId): boolean {
    return this.#sealed.has(block) || this.#unsealed.get(block)?.isHeld === true;
  }

  /** It was dropped, and is about to come back: what was known of it is of its earlier life. */
  returns(block: BlockId): void {
    this.#sealed.delete(block);
    this.#unsealed.delete(block);
    this.track(block);
  }

  /** Another process, or none: the sessions of the last one are over. To be called before anything else is looked at. */
  noticeProcess(): void {
    const store = this.#server.live?.store;
    if (store === this.#store) return;
    this.#store = store;
    for (const block of this.#unsealed.values()) {
      block.isOver = true;
      block.isFenced = false;
    }
  }

  /** @throws Violation I6: the first to have a record takes none that anybody else could give it */
  extended({ block }: BlockStory): void {
    if (this.#unsealed.get(block)?.isFenced !== true || this.#store?.readOnly !== undefined) return;
    throw new Violation(
      'I6',
      { server: this.#server.id, block },
      'an append became durable after the block was fenced',
    );
  }

  /** @throws Violation I1, I7 */
  step(): void {
    const store = this.#store;
    if (store === undefined) return;
    for (const [block, known] of this.#unsealed) {
      const info = store.info(block);
      if (info === undefined) continue;
      known.isHeld = true;
      const { state, provenLength } = info;
      if (state === BlockState.OPEN) {
        if (known.isOver)
          throw new Violation(
            'I7',
            { server: this.#server.id, block },
            'it is OPEN once more, its session was over',
          );
        if (provenLength <= known.provenLength) continue;
        known.provenLength = provenLength;
        checkDurable(
          this.#stories.get(block)!,
          provenLength,
          this.#sight,
          `server ${this.#server.id} says that all have ${provenLength} bytes`,
        );
        continue;
      }
      known.isOver = true;
      known.isFenced = state === BlockState.FENCED;
      if (state !== BlockState.SEALED) continue;
      this.#unsealed.delete(block);
      this.#sealed.add(block);
    }
  }

  replaced(): void {
    this.#unsealed.clear();
    this.#sealed.clear();
  }
}
