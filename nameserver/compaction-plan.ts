import type { ServerId } from '../common/ids.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockFacts, ReplicaFacts } from './block-facts.ts';
import { Whole } from './block-page.ts';

export interface CompactionSight {
  /** Every acknowledged block must have been heard of: only then may anything be destroyed. */
  readonly isViewComplete: () => boolean;
  /** Whether the server obeys this leader, and its whole table is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** Whether its disk takes writes. */
  readonly canWrite: (server: ServerId) => boolean;
}

export type CompactionPlan =
  /** Some have the next generation: the others get it too. */
  | { readonly kind: 'finish'; readonly holders: readonly ServerId[]; readonly behind: readonly ServerId[] }
  | {
      readonly kind: 'begin';
      /** To be made. */
      readonly generation: number;
      readonly members: readonly ServerId[];
      readonly opsPrimary: ServerId;
    }
  | { readonly kind: 'refuse'; readonly why: string };

/** As it is reported. */
const GENERATION_MAX = 0xffff;

/**
 * Whether, and by whom, a block may be compacted. A record that is purged is gone for good, so as many replicas as are
 * wanted have to take part, each of them whole, in step with the others, and obedient to this leader: nobody may be left
 * who could still bring a purged name back.
 *
 * A generation that anybody has is finished, whoever began it: what a replica has committed it cannot take back.
 */
export function planCompaction(facts: BlockFacts, sight: CompactionSight): CompactionPlan {
  const { replicas, targetReplicas, generation, opsPrimary } = facts;
  const refuse = (why: string): CompactionPlan => ({ kind: 'refuse', why });
  const members = replicas.filter(({ member }) => member);
  const behind = members.filter(({ outdated, state }) => outdated && state === BlockState.SEALED);
  if (behind.length > 0) {
    const holders = replicas.filter(
      (one) => !one.outdated && one.state === BlockState.SEALED && one.readable,
    );
    return { kind: 'finish', holders: serversOf(holders), behind: serversOf(behind) };
  }
  if (!sight.isViewComplete()) return refuse('not every known DataServer has reported');
  if (facts.whole !== Whole.SEALED) return refuse('it is not sealed everywhere');
  if (members.length < targetReplicas)
    return refuse(`it has ${members.length} members of the ${targetReplicas} that are wanted`);
  for (const member of members) {
    const why = unfit(member, sight);
    if (why !== undefined) return refuse(`its replica on server ${member.server} ${why}`);
  }
  if (opsPrimary === undefined || !members.some(({ server }) => server === opsPrimary))
    return refuse('nobody sequences its operations');
  if (generation >= GENERATION_MAX) return refuse(`it has had ${generation} generations`);
  return { kind: 'begin', generation: generation + 1, members: serversOf(members), opsPrimary };
}

function unfit(
  { server, state, good, confirmed, stale, behind }: ReplicaFacts,
  { isCurrent, canWrite }: CompactionSight,
): string | undefined {
  if (state !== BlockState.SEALED) return 'is not sealed';
  if (!isCurrent(server)) return 'cannot be commanded now';
  if (!good) return 'is damaged';
  if (stale || !confirmed) return 'may lack operations';
  if (behind) return 'is behind in its operations';
  if (!canWrite(server)) return 'is on a disk that takes no writes';
  return undefined;
}

const serversOf = (replicas: readonly ReplicaFacts[]): ServerId[] => replicas.map(({ server }) => server);
