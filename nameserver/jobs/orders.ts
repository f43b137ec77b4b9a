import type { ServerId } from '../../common/ids.ts';
import type { JobKind } from '../../common/jobs.ts';
import type { Member, Reign } from '../../common/wire/control.ts';
import type { JobOrder } from '../../common/wire/jobs.ts';
import type { BlockFacts } from '../block-facts.ts';
import type { RepairCommands } from '../repair-commands.ts';
import { rankOf, sourcesOf } from '../repair-plan.ts';
import { sealedAlike } from '../sealed-alike.ts';

export interface OrderContext {
  readonly reign: Reign;
  /** The one that is to do it. */
  readonly server: ServerId;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  readonly commands: Pick<RepairCommands, 'blockHead'>;
}

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** What is ordered, without how fast and how long. */
type Ordered = Without<JobOrder, 'bytesPerSecond' | 'msMax'>;

/**
 * What a DataServer is told that asks for a job of each kind, once that is known to be wanted. A new kind of job is a
 * line here, a rule of the planner, and an executor of the DataServer.
 */
export const ORDERS: Readonly<
  Record<JobKind, (facts: BlockFacts, context: OrderContext) => Promise<Ordered>>
> = {
  replicate,
  balance: replicate,
  // The steps of it the leader commands itself, when it is asked to.
  compact: async ({ block, length: bytes }) => ({ answer: 'compact', block, bytes }),
  purge: async ({ block, length: bytes }) => ({ answer: 'purge', block, bytes }),
  scrub: async ({ block, length: bytes }) => ({ answer: 'scrub', block, bytes }),
};

async function replicate(
  facts: BlockFacts,
  { reign, server, reachable, commands }: OrderContext,
): Promise<Ordered> {
  const { block, generation, version } = facts;
  const sources = sourcesOf(facts, (source) => reachable(source, reign) !== undefined)
    .filter((source) => source.server !== server)
    // The whole and newest first, but of several such ones another for every block: all of them give.
    .sort((a, b) => rankOf(a) - rankOf(b) || turnOf(block, a.server) - turnOf(block, b.server))
    .flatMap((source) => reachable(source.server, reign) ?? []);
  const { members, seal } = await sealedAlike(facts, sources, commands);
  return {
    answer: 'replicate',
    order: { block, reign, generation, seal, version, sources: members, joins: true },
  };
}

const turnOf = (block: number, server: number): number =>
  Math.imul(block ^ Math.imul(server, 0x9e3779b1), 0x85ebca6b) >>> 0;
