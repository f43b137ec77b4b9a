import type { BlockId } from '../../common/ids.ts';
import type { BlockFacts } from '../block-facts.ts';
import type { BlockPage } from '../block-page.ts';
import type { PlanSight, ServerSight } from './sight.ts';
import type { BlockPlan, WorkKind } from './work.ts';

/** One reason for which blocks need work. */
export interface BlockRule {
  readonly kind: WorkKind;
  /** What exactly, where and why. Pure: the same facts give the same plan. */
  plan(facts: BlockFacts, sight: PlanSight): BlockPlan;
}

/** One that the block map shows. */
export interface Rule extends BlockRule {
  /**
   * Over the bare columns, for every block of the cluster again and again: no object is made.
   *
   * @returns the priority of what the block needs, 0 for nothing; too much is corrected by {@link plan}
   */
  glance(page: BlockPage, row: number, tables: ServerTables): number;
}

/** One that a DataServer sees, and says of a few of its replicas at a time. */
export interface ServerRule extends BlockRule {
  asked(server: ServerSight): Iterable<BlockId>;
}

export const NOTHING: BlockPlan = { work: [], blocked: [] };

const SERVER_IDS = 0x1_0000;

/** What a quick look needs: what is known of DataServers by id, and what else {@link PlanSight} says. */
export class ServerTables {
  /** 1: its copies count. */
  readonly counts = new Uint8Array(SERVER_IDS);
  /** 1: it answers, and what it holds is known. */
  readonly isThere = new Uint8Array(SERVER_IDS);
  readonly canWrite = new Uint8Array(SERVER_IDS);
  /** Which part of its blocks a disk may do without, because it is fuller than others. */
  readonly surplus = new Float64Array(SERVER_IDS);
  /** Number of its failure domain, from 1; 0 for a server that nobody knows. */
  readonly domain = new Uint16Array(SERVER_IDS);
  /** By number of the failure domain: 1 where a server takes new copies. */
  readonly receives: Uint8Array;
  /** Failure domains with such a server. */
  readonly receivingDomains: number;

  readonly garbagePercent: number;
  readonly isLeftAlone: PlanSight['isLeftAlone'];
  readonly isLossy: PlanSight['isLossy'];
  readonly isErased: PlanSight['isErased'];

  constructor(
    { servers: seen, garbagePercent, isLeftAlone, isLossy, isErased }: PlanSight,
    surplus: ReadonlyMap<number, number> = new Map(),
  ) {
    const servers: Iterable<ServerSight> = seen.values();
    this.garbagePercent = garbagePercent;
    this.isLeftAlone = isLeftAlone;
    this.isLossy = isLossy;
    this.isErased = isErased;
    for (const [id, part] of surplus) this.surplus[id] = part;
    const numbers = new Map<string, number>();
    const receiving = new Set<number>();
    for (const { id, domain, givenUp, isCurrent, canWrite, refuses } of servers) {
      const number = numbers.get(domain) ?? numbers.size + 1;
      numbers.set(domain, number);
      this.domain[id] = number;
      this.counts[id] = givenUp === undefined ? 1 : 0;
      this.isThere[id] = isCurrent ? 1 : 0;
      this.canWrite[id] = canWrite ? 1 : 0;
      if (refuses === undefined) receiving.add(number);
    }
    this.receives = new Uint8Array(numbers.size + 1);
    for (const number of receiving) this.receives[number] = 1;
    this.receivingDomains = receiving.size;
  }
}
