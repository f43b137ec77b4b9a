import type { BlockId } from '../../common/ids.ts';
import type { DropLook } from './check-drops.ts';
import type { LiveLook } from './check-live.ts';
import type { PromiseLook } from './check-promises.ts';
import type { ObservedProcess, ObservedServer } from './observed.ts';
import type { OpsImage } from './ops-image.ts';

/** What the observer remembers of one mount. */
export interface MountLook {
  readonly server: ObservedServer;
  /** Paths whose durable bytes, or names, have changed since the last look. */
  readonly dirty: Set<string>;
  /** Generations of block files that are there. */
  readonly files: Map<BlockId, Set<number>>;
  readonly logs: Map<BlockId, OpsImage>;
  /** Logs that were named before any file of their block was. */
  readonly early: Map<BlockId, string>;
  /** Generations that were found to be as their commit says. */
  readonly generations: Map<BlockId, string>;
  /** Blocks of which the server may have had something on a disk that a fault has taken away. */
  readonly lost: Set<BlockId>;
  /**
   * Blocks whose first file a fault has damaged -> up to where the server is expected to have what it once had: 0 while
   * the file is there, and when it is gone behind a compaction; once another without a hole has taken its place, the end of
   * what anybody was known to have then. What lay behind may have been in the damaged file, and nowhere else.
   */
  readonly sureTo: Map<BlockId, number>;
  /** The process that ran when that happened: it may go on writing to what is not there any more. */
  doomed: ObservedProcess['store'] | undefined;
  readonly live: LiveLook;
  readonly promises: PromiseLook;
  readonly drops: DropLook;
}

/** Whether a fault has damaged a log of the block there, so that nobody can say what it had. Of one that reads there is an image. */
export function isLogDamaged(mount: MountLook | undefined, block: BlockId): boolean {
  if (mount === undefined || mount.logs.has(block)) return false;
  const { medium } = mount.server;
  const isLog = (path: string): boolean => path.startsWith(`blocks/${block}.`) && path.endsWith('.ops');
  return medium.durablePaths().some((path) => isLog(path) && medium.damaged.has(path));
}
