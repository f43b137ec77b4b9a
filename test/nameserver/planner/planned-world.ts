import type { BlockId, ServerId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { BlockMap } from '../../../nameserver/block-map.ts';
import { planBlock } from '../../../nameserver/planner/plan-block.ts';
import type { PlanSight, ServerSight } from '../../../nameserver/planner/sight.ts';
import { entryOf, servers } from '../entries.ts';

export const B = 0x2_0000 as BlockId;

/** How a replica is reported; as a whole, sealed one when nothing is said. */
export interface Reported {
  readonly state?: BlockState;
  readonly flags?: number;
  readonly length?: number;
  readonly deadBytes?: number;
  readonly generation?: number;
}
export const SUSPECT: Reported = { flags: BlockFlag.SUSPECT };

/** A block map and what is seen of the servers, for tests of what is wanted. Server n is in domain dn. */
export class PlannedWorld {
  readonly map = new BlockMap();
  readonly servers = new Map<ServerId, ServerSight>();
  readonly making = new Map<BlockId, ServerId[]>();
  /** Kind, block and server. */
  readonly parked = new Set<string>();
  readonly underWay = new Set<string>();
  readonly leftAlone = new Set<BlockId>();
  readonly lossy = new Set<BlockId>();
  readonly erased = new Set<BlockId>();
  viewComplete = true;
  garbagePercent = 15;

  constructor(count: number) {
    for (let id = 1; id <= count; id++) this.server(id);
  }

  get sight(): PlanSight {
    return {
      servers: this.servers,
      making: (block) => this.making.get(block) ?? [],
      isUnderWay: ({ kind, block, server }) => this.underWay.has(`${kind} ${block} ${server}`),
      isParked: ({ kind, block, server }) => this.parked.has(`${kind} ${block} ${server}`),
      isViewComplete: this.viewComplete,
      garbagePercent: this.garbagePercent,
      isLeftAlone: (block) => this.leftAlone.has(block),
      isLossy: (block) => this.lossy.has(block),
      isErased: (block) => this.erased.has(block),
    };
  }

  server(id: number, changed: Partial<ServerSight> = {}): void {
    const [server] = servers(id) as [ServerId];
    const before = this.servers.get(server);
    this.servers.set(server, {
      id: server,
      domain: `d${id}`,
      isCurrent: true,
      givenUp: undefined,
      canWrite: true,
      refuses: undefined,
      usedPercent: 50,
      capacityBytes: 1e12,
      roomBytes: 1e9,
      overdue: new Map(),
      ...before,
      ...changed,
    });
  }

  giveUp(id: number): void {
    this.server(id, { isCurrent: false, givenUp: 'silent for long', refuses: 'it is not there now' });
  }

  /** One that may come back. */
  lose(id: number): void {
    this.server(id, { isCurrent: false, refuses: 'it is not there now' });
  }

  /** A block with a replica on each of these servers; the others of `members` have not reported it. */
  block(
    replicas: Record<number, Reported>,
    { block = B as number, members = Object.keys(replicas).map(Number), n = 1 } = {},
  ): void {
    for (const [id, { state = BlockState.SEALED, length = 5000, ...rest }] of Object.entries(replicas))
      this.map.report(servers(Number(id))[0]!, entryOf({ block, state, length, members, n, ...rest }));
  }

  /** As text, for a test to compare. */
  plan(block = B): string[] {
    const { work, blocked } = planBlock(this.map.facts(block)!, this.sight);
    return [
      ...work.map(({ kind, target, priority, reason }) => `${priority} ${kind} on ${target}: ${reason}`),
      ...blocked.map(({ kind, why }) => `no ${kind}: ${why}`),
    ];
  }
}
