import { isTfsError, toTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import { SPACE_EVERY_MS, SPACE_FIRST_MS, SPACE_SHARE_PERCENT_MAX } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import type { FileUse } from '../../common/seams/disk.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { BlockSpaceReply, SpacePart, SpaceUse } from '../../common/wire/space.ts';
import { STORE_DIRECTORIES } from '../block/api.ts';
import { blockSpaceOf, type DeadSpace, NO_DEAD_SPACE } from '../block/space.ts';
import type { BlockInfo, BlockStore } from '../block/store.ts';
import { fileOf, SPACE_DIRECTORIES, type SpaceDirectory, SpaceSum } from './parts.ts';

export interface SpaceSurveyDeps {
  readonly store: BlockStore;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a deleted name may be undeleted. */
  readonly windowMs: number;
}

/**
 * Says what every byte below the mount is, now and then: lists all files and asks the store about the bytes in its
 * blocks. Files that nobody needs are found by it, and not removed: a person may want to look.
 */
export class SpaceSurvey {
  readonly #deps: SpaceSurveyDeps;
  /** Of blocks with deleted names whose operations have not changed since. */
  readonly #dead = new Map<
    BlockId,
    { readonly key: string; readonly dead: DeadSpace; readonly untilMs: number }
  >();
  #latest: SpaceUse | undefined;
  #measuring: Promise<SpaceUse> | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(deps: SpaceSurveyDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#again(SPACE_FIRST_MS);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** As last measured. */
  get latest(): SpaceUse | undefined {
    return this.#latest;
  }

  /** One at a time; a call while another runs joins it. @throws TfsError IO, CLOSED */
  measure(): Promise<SpaceUse> {
    this.#measuring ??= this.#measure().finally(() => {
      this.#measuring = undefined;
    });
    return this.#measuring;
  }

  #again(delayMs: number): void {
    if (this.#closed) return;
    const { clock, log } = this.#deps;
    this.#timer = clock.after(delayMs, async () => {
      const begunAtMs = clock.monotonic();
      try {
        await this.measure();
      } catch (error) {
        if (this.#closed) return;
        log.warn({ reason: toTfsError(error).message }, 'what the files of the mount take is not known');
      }
      const tookMs = clock.monotonic() - begunAtMs;
      this.#again(Math.max(SPACE_EVERY_MS, (tookMs * 100) / SPACE_SHARE_PERCENT_MAX));
    });
  }

  /** What the files of each block are, those with the most garbage first. @throws TfsError IO, CLOSED */
  async blocks(rows: number): Promise<BlockSpaceReply> {
    const { store, clock } = this.#deps;
    const sums = new Map<BlockId, SpaceSum>();
    for (const use of await store.usage(STORE_DIRECTORIES.blocks)) {
      const { block } = fileOf(STORE_DIRECTORIES.blocks, use.name).file ?? {};
      if (block === undefined) continue;
      const sum = sums.get(block) ?? new SpaceSum(clock.now());
      sums.set(block, sum);
      await this.#add(sum, STORE_DIRECTORIES.blocks, use);
    }
    const all = [...sums].map(([block, { parts }]) => ({ block: block as number, parts }));
    all.sort(
      (a, b) => b.parts.garbage - a.parts.garbage || b.parts.inWindow - a.parts.inWindow || a.block - b.block,
    );
    return { blocks: all.length, rows: all.slice(0, rows) };
  }

  async #measure(): Promise<SpaceUse> {
    const { store, clock } = this.#deps;
    const sum = new SpaceSum(clock.now());
    for (const directory of SPACE_DIRECTORIES)
      for (const use of await store.usage(directory)) await this.#add(sum, directory, use);
    for (const block of this.#dead.keys()) if (store.info(block) === undefined) this.#dead.delete(block);
    this.#latest = {
      measuredAtMs: clock.now(),
      ...(await store.space()),
      parts: sum.parts,
      orphans: sum.orphans,
    };
    return this.#latest;
  }

  async #add(sum: SpaceSum, directory: SpaceDirectory, use: FileUse): Promise<void> {
    const { part, file } = fileOf(directory, use.name);
    const info = file && this.#deps.store.info(file.block);
    if (part === undefined && info !== undefined && use.name === nameOf(info))
      sum.addParts(await this.#partsOf(info, use), use);
    else sum.add(part ?? this.#strayPart(info), use);
  }

  /** A block file that is not the one that is read: a compaction makes the next one, and keeps the last one for a while. */
  #strayPart(info: BlockInfo | undefined): SpacePart {
    return info === undefined ? 'unknown' : 'generations';
  }

  async #partsOf(info: BlockInfo, { size }: FileUse): Promise<Partial<Record<SpacePart, number>>> {
    if ((info.flags & BlockFlag.QUARANTINED) !== 0) return { quarantined: size };
    const dead = await this.#deadOf(info);
    // After the last await: length and size are of nearly one moment.
    return { ...blockSpaceOf(size, info.length, dead) };
  }

  /** Most blocks have never had a deletion: of those nothing is looked at. */
  async #deadOf(info: BlockInfo): Promise<DeadSpace> {
    const { block, generation, state, version, seq, length, seal, hasFlags } = info;
    if (!hasFlags && seal?.lost === undefined && generation === 0) return NO_DEAD_SPACE;
    const key = [generation, state, version.epoch, version.n, seq, length].join();
    const known = this.#dead.get(block);
    const { store, clock, windowMs } = this.#deps;
    const nowMs = clock.now();
    if (known?.key === key && nowMs < known.untilMs) return known.dead;
    // Not walked yet: where its records are nobody knows.
    if (state === BlockState.RECOVERED && !info.walked) return NO_DEAD_SPACE;
    try {
      const { untilMs, ...dead } = await store.deadSpace(block, { nowMs, windowMs });
      this.#dead.set(block, { key, dead, untilMs });
      return dead;
    } catch (error) {
      // It was dropped, or does not load, which others have said.
      if (!isTfsError(error) || this.#closed) throw error;
      return known?.dead ?? NO_DEAD_SPACE;
    }
  }
}

const nameOf = ({ block, generation }: BlockInfo): string => blockFileName(block, generation, 'blk');
