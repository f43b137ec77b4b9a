import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import type { Op, OpsState } from '../../common/format/ops.ts';
import type { BlockId, Millis } from '../../common/ids.ts';
import type { Log } from '../../common/log.ts';
import { mark } from '../../common/marks.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Disk, DiskFile, OpenMode } from '../../common/seams/disk.ts';
import type { Random } from '../../common/seams/random.ts';
import { type BlockStoreOptions, STORE_DIRECTORIES, type StoreEvents } from './api.ts';
import { type Faults, NO_FAULTS } from './faults.ts';

/** What the parts of one store share: its disk, and whether that disk may still be written. */
export class StoreContext {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly opsNow: () => Millis;
  readonly random: Random;
  readonly log: Log;
  readonly faults: Faults;
  readonly clusterUuid: string;
  readonly counters = {
    /** Seals that would have cut what was acknowledged. */
    refusedCuts: 0,
    /** Replicas that were let go of. */
    dropped: 0,
  };
  /** Files of earlier generations that were found at the start, and could not go then: block -> which, and their bytes. */
  readonly earlier = new Map<BlockId, { readonly generations: readonly number[]; readonly bytes: number }>();
  readonly #events: StoreEvents;
  #failure: TfsError | undefined;
  closed = false;
  /** When something was last appended; spares are prepared slowly for a while after. */
  appendedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: BlockStoreOptions) {
    this.disk = options.disk;
    this.clock = options.clock;
    this.opsNow = options.opsNow ?? (() => options.clock.now());
    this.random = options.random;
    this.log = options.log;
    this.faults = options.faults ?? NO_FAULTS;
    this.clusterUuid = options.clusterUuid;
    this.#events = options.events ?? {};
  }

  get failure(): TfsError | undefined {
    return this.#failure;
  }

  /** @throws TfsError CLOSED, READ_ONLY */
  assertWritable(): void {
    this.assertOpen();
    if (this.#failure === undefined) return;
    throw new TfsError('READ_ONLY', `this disk only reads since a write failed: ${this.#failure.message}`, {
      cause: this.#failure,
    });
  }

  assertOpen(): void {
    if (this.closed) throw new TfsError('CLOSED', 'the block store is closed');
  }

  /**
   * Takes note of a failed write, sync or change of names. Which of the bytes before it are on the medium nobody can
   * say any more, so nothing is retried and nothing else is written; but a full disk is only full.
   */
  failed(error: unknown, what: string): TfsError {
    const failure = toTfsError(error, 'IO', what);
    if (isTfsError(failure, 'DISK_FULL') || this.#failure !== undefined) return failure;
    this.#failure = failure;
    mark('disk-read-only');
    this.log.error({ err: failure, what }, 'a write failed: the block store only reads from now on');
    this.#events.ioError?.(failure);
    return failure;
  }

  changed(block: BlockId): void {
    this.#events.changed?.(block);
  }

  ops(block: BlockId, ops: readonly Op[], state: OpsState, how: 'done' | 'found'): void {
    this.#events.ops?.(block, ops, state, how);
  }

  corrupt(block: BlockId, error: TfsError): void {
    this.log.error({ block, err: error }, 'stored bytes do not verify; other replicas answer');
    this.#events.corrupt?.(block, error);
  }

  open(name: string, mode: OpenMode): Promise<DiskFile> {
    return this.disk.open(inBlocks(name), mode).catch(gone);
  }

  readFile(name: string): Promise<Buffer> {
    return this.disk.readFile(inBlocks(name)).catch(gone);
  }

  /** Makes names in the blocks directory durable. */
  async syncBlocks(): Promise<void> {
    if (this.faults.has('skip-directory-sync')) return;
    await this.disk.syncDirectory(STORE_DIRECTORIES.blocks);
  }

  /** A whole new file under a temporary name: its bytes are durable before anything points at them. */
  async writeTemporary(name: string, content: readonly Buffer[]): Promise<void> {
    const file = await this.open(name, 'create');
    try {
      await file.write(content, 0);
      if (!this.faults.has('rename-before-datasync')) await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** Removes what is of no use any more; if it cannot, the next start will. @returns whether it is gone */
  async discard(path: string): Promise<boolean> {
    try {
      await this.disk.unlink(path);
    } catch (error) {
      if (!isTfsError(error, 'NOT_FOUND')) {
        this.log.warn({ err: error, path }, 'cannot remove a file');
        return false;
      }
    }
    return true;
  }
}

/** Whether a file that the store knows of is not there. */
export const isGone = (error: unknown): boolean =>
  isTfsError(error, 'IO') && isTfsError(error.cause, 'NOT_FOUND');

/** A file that the store knows of and does not find says nothing about the names in it: only that this disk lost it. */
function gone(error: unknown): never {
  if (!isTfsError(error, 'NOT_FOUND')) throw error;
  throw new TfsError('IO', `${error.message}: the disk has lost a file, or is not mounted any more`, {
    cause: error,
  });
}

export const inBlocks = (name: string): string => `${STORE_DIRECTORIES.blocks}/${name}`;
