import type { BlockId, ServerId } from '../../common/ids.ts';
import type { Place } from './work.ts';

/** One DataServer, as the planning of work sees it. */
export interface ServerSight {
  readonly id: ServerId;
  /** What fails together; two copies of a block are never put into one. */
  readonly domain: string;
  /** It obeys this leader, and all that it holds is known. */
  readonly isCurrent: boolean;
  /**
   * Why its copies do not count any more, such as "it has been silent for 11 min"; undefined while they do. It may still
   * be a source.
   */
  readonly givenUp: string | undefined;
  /** Its disk takes writes. */
  readonly canWrite: boolean;
  /** Why it takes no new copies now; undefined while it does. */
  readonly refuses: string | undefined;
  /** How much of its capacity blocks take. */
  readonly usedPercent: number;
  /** 0 while that is not known. */
  readonly capacityBytes: number;
  /** What new copies may take of its disk. */
  readonly roomBytes: number;
  /** Replicas that it should have read through long ago, and for how many milliseconds it has not. */
  readonly overdue: ReadonlyMap<BlockId, number>;
}

export interface PlanSight {
  /** All DataServers that are known, and those that were removed and that blocks still name. */
  readonly servers: ReadonlyMap<ServerId, ServerSight>;
  /** Where copies of the block are being made now. */
  readonly making: (block: BlockId) => readonly ServerId[];
  /** Whether just that was ordered, and may be under way. */
  readonly isUnderWay: (place: Place) => boolean;
  /** Whether such work has failed there so often that it is left alone for a while. */
  readonly isParked: (place: Place) => boolean;
  /** Every acknowledged block has been heard of: only then anything may be destroyed. */
  readonly isViewComplete: boolean;
  /** A block of which so much is garbage is compacted. */
  readonly garbagePercent: number;
  /** Whether it was found a short while ago that too little of the block's garbage may go yet. */
  readonly isLeftAlone: (block: BlockId) => boolean;
  /** Whether records of the block verify on none of its replicas: those are suspect for good, and the best there is. */
  readonly isLossy: (block: BlockId) => boolean;
  /** Whether the erasure of records in it was ordered, and is not done. */
  readonly isErased: (block: BlockId) => boolean;
}
