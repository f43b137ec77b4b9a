import type { BlockId, ServerId } from '../../common/ids.ts';

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
}

export interface PlanSight {
  /** All DataServers that are known, and those that were removed and that blocks still name. */
  readonly servers: ReadonlyMap<ServerId, ServerSight>;
  /** Where copies of the block are being made now. */
  readonly making: (block: BlockId) => readonly ServerId[];
  /** Whether work on the block has failed there so often that it is left alone for a while. */
  readonly isParked: (block: BlockId, server: ServerId) => boolean;
}
