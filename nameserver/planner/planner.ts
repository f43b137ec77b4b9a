import { tunable } from '../../common/tunables.ts';
import type { BlockFacts } from '../block-facts.ts';
import { type BlockMap, PAGES } from '../block-map.ts';
import { type BlockPage, idOf } from '../block-page.ts';
import { surplusOf } from './balance.ts';
import { type Rule, type ServerRule, ServerTables } from './rule.ts';
import { RULES, SERVER_RULES } from './rules.ts';
import type { PlanSight } from './sight.ts';
import { WantedList } from './wanted-list.ts';
import type { Work, WorkKind } from './work.ts';

export interface PlannerDeps {
  readonly map: Pick<BlockMap, 'page' | 'nextPage' | 'facts'>;
  /** Afresh for each step. */
  readonly sight: () => PlanSight;
  readonly rules?: readonly Rule[];
  readonly serverRules?: readonly ServerRule[];
  readonly wantedMax?: number;
  readonly rowsPerStepMax?: number;
  readonly blocksPerStepMax?: number;
}

/** Blocks and bytes that need a kind of work, over the whole map and not only in the list. */
export interface Amount {
  blocks: number;
  bytes: number;
}

/** What one whole round over the map has found. */
export interface Round {
  /** The most urgent work there is, in order; at most `wantedMax` of tunables.ts. */
  readonly wanted: readonly Work[];
  readonly amounts: ReadonlyMap<WorkKind, Readonly<Amount>>;
}

/**
 * Finds what blocks need, by going round the map: a bounded number of rows, and of blocks that need a closer look, at a
 * time. What it finds is derived anew in every round, so that nothing has to be remembered, in a queue or anywhere.
 */
export class Planner {
  readonly #deps: PlannerDeps;
  readonly #rules: readonly Rule[];
  readonly #wantedMax: number;
  #round: Round | undefined;
  #page = 0;
  #row = 0;
  #list: WantedList;
  #amounts = new Map<WorkKind, Amount>();

  constructor(deps: PlannerDeps) {
    this.#deps = deps;
    this.#rules = deps.rules ?? RULES;
    this.#wantedMax = deps.wantedMax ?? tunable.wantedMax;
    this.#list = new WantedList(this.#wantedMax);
  }

  /** The last whole one; undefined before the first has ended. */
  get round(): Round | undefined {
    return this.#round;
  }

  /** @returns whether a round ended */
  step(): boolean {
    const { map, rowsPerStepMax = tunable.plannedRowsPerStepMax } = this.#deps;
    const { blocksPerStepMax = tunable.plannedBlocksPerStepMax } = this.#deps;
    const sight = this.#deps.sight();
    const tables = new ServerTables(sight, surplusOf(sight.servers.values()));
    const left = { rows: rowsPerStepMax, blocks: blocksPerStepMax };
    for (; ; this.#page++, this.#row = 0) {
      this.#page = map.nextPage(this.#page);
      if (this.#page === PAGES) break;
      if (!this.#scan(map.page(this.#page)!, sight, tables, left)) return false;
    }
    this.#askServers(sight, blocksPerStepMax);
    this.#round = { wanted: this.#list.all(), amounts: this.#amounts };
    this.#page = 0;
    this.#list = new WantedList(this.#wantedMax);
    this.#amounts = new Map();
    return true;
  }

  /** What was found belongs to a reign that is over. */
  forget(): void {
    this.#round = undefined;
    this.#page = 0;
    this.#row = 0;
    this.#list = new WantedList(this.#wantedMax);
    this.#amounts = new Map();
  }

  /** @returns whether the page was looked through to its end */
  #scan(
    page: BlockPage,
    sight: PlanSight,
    tables: ServerTables,
    left: { rows: number; blocks: number },
  ): boolean {
    for (; this.#row < page.rows; this.#row++) {
      if (left.rows-- <= 0 || left.blocks <= 0) return false;
      if (!page.has(this.#row)) continue;
      let facts: BlockFacts | undefined;
      for (const rule of this.#rules) {
        const priority = rule.glance(page, this.#row, tables);
        if (priority === 0) continue;
        this.#count(rule.kind, page.length[this.#row]!);
        if (!this.#list.takes(priority)) continue;
        if (facts === undefined) {
          left.blocks--;
          facts = this.#deps.map.facts(idOf(page.number, this.#row));
          if (facts === undefined) break;
        }
        for (const work of rule.plan(facts, sight).work) this.#list.add(work);
      }
    }
    return true;
  }

  /** Behind everything that the map shows: it says what can wait longest. */
  #askServers(sight: PlanSight, blocksMax: number): void {
    const { map, serverRules = SERVER_RULES } = this.#deps;
    let left = blocksMax;
    for (const rule of serverRules)
      for (const server of sight.servers.values())
        for (const block of rule.asked(server)) {
          if (left-- <= 0) return;
          const facts = map.facts(block);
          if (facts === undefined) continue;
          for (const work of rule.plan(facts, sight).work) {
            // What other servers ask for they ask for themselves.
            if (work.target !== server.id) continue;
            this.#count(rule.kind, work.bytes);
            this.#list.add(work);
          }
        }
  }

  #count(kind: WorkKind, bytes: number): void {
    const amount = this.#amounts.get(kind);
    if (amount === undefined) this.#amounts.set(kind, { blocks: 1, bytes });
    else {
      amount.blocks++;
      amount.bytes += bytes;
    }
  }
}
