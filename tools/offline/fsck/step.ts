import type { OpsState } from '../../../common/format/ops.ts';
import type { Superblock } from '../../../common/format/superblock.ts';
import type { BlockId, ServerId } from '../../../common/ids.ts';
import type { Disk } from '../../../common/seams/disk.ts';
import type { FileSource } from '../file-source.ts';

/** What one step found. */
export interface StepResult {
  readonly name: string;
  readonly ms: number;
  /** How many of what it looked at. */
  readonly checked: string;
  /** What is wrong, each with what to do; at most {@link LINES_MAX}, and then how many more. */
  readonly damage: readonly string[];
  /** What is worth knowing and harms nothing. */
  readonly notes: readonly string[];
}

/** One check of a mount. Steps run in order and build on what earlier ones found. */
export interface Step {
  readonly name: string;
  /** @returns how many of what it looked at */
  run(mount: MountUnderCheck, found: Findings): Promise<string>;
}

const LINES_MAX = 100;

export class Findings {
  readonly #damage: string[] = [];
  readonly #notes: string[] = [];
  damageCount = 0;
  #noteCount = 0;

  damage(line: string): void {
    if (this.damageCount++ < LINES_MAX) this.#damage.push(line);
  }

  note(line: string): void {
    if (this.#noteCount++ < LINES_MAX) this.#notes.push(line);
  }

  result(name: string, ms: number, checked: string): StepResult {
    const more = (lines: string[], count: number): string[] =>
      count > lines.length ? [...lines, `… and ${count - lines.length} more like these`] : lines;
    return {
      name,
      ms: Math.round(ms),
      checked,
      damage: more(this.#damage, this.damageCount),
      notes: more(this.#notes, this.#noteCount),
    };
  }
}

/** A block as far as the steps have come. */
export interface BlockUnderCheck {
  readonly block: BlockId;
  /** Of the newest file, until the ops log tells which one counts. */
  generation: number;
  fileName: string;
  /** Of all its files. */
  readonly generations: readonly number[];
  /** Number of the newest ops log; absent without one. */
  readonly log: number | undefined;
  /** Generations of its index files. */
  readonly indexes: readonly number[];
  superblock: Superblock | undefined;
  ops: OpsState | undefined;
  /** Set once its records were read and all of them verify. */
  facts: BlockFacts | undefined;
}

/** What a sound block's records say, small enough to be kept for a whole mount. */
export interface BlockFacts {
  readonly length: number;
  readonly slots: number;
  /** CRC-32 of the columns that an index file of it must have. */
  readonly offsetsCrc: number;
  readonly sha1sCrc: number;
  /** The first four bytes of each SHA-1, by slot; 0 where a slot has no record. */
  readonly fingerprints: Uint32Array;
}

export interface MountUnderCheck {
  readonly path: string;
  readonly disk: Disk;
  readonly clusterUuid: string;
  readonly server: ServerId;
  /** A DataServer serves it at this moment: what is not sealed may change under the steps. */
  readonly served: boolean;
  readonly blocks: BlockUnderCheck[];
  openBlock(fileName: string): Promise<FileSource>;
  /** Bytes of block files read since the start. */
  progress(bytes: number): void;
}
