import { isPatient } from '../../common/jobs.ts';
import { COMPACTIONS_PER_SERVER_MAX } from '../../common/limits.ts';
import type { BlockFacts } from '../block-facts.ts';
import type { Place } from '../planner/work.ts';
import type { Grants } from './grants.ts';

export interface RoomSight {
  readonly grants: Pick<Grants, 'all' | 'of'>;
  readonly facts: (block: Place['block']) => BlockFacts | undefined;
}

/**
 * Whether work that is wanted may be begun beside what is under way. Not part of the plan: it changes with every job.
 *
 * @returns why not; undefined where it may
 */
export function whyNoRoom(place: Place, { grants, facts }: RoomSight): string | undefined {
  const { kind, server } = place;
  if (!isPatient(kind)) return undefined;
  const own = grants.of(place);
  const others = [...grants.all()].filter((grant) => grant !== own && !grant.isDone && isPatient(grant.kind));
  const there = others.find((grant) => grant.server === server);
  if (there !== undefined)
    return `server ${server} does ${there.kind} of block ${there.block}: it does one such job at a time`;
  if (kind !== 'compact') return undefined;
  const compacted = others.filter((grant) => grant.kind === 'compact').map(({ block }) => facts(block));
  const busy = membersOf(facts(place.block)).find(
    (member) =>
      compacted.filter((block) => membersOf(block).includes(member)).length >= COMPACTIONS_PER_SERVER_MAX,
  );
  return busy === undefined ? undefined : `server ${busy} rewrites as many blocks as it may at a time`;
}

const membersOf = (facts: BlockFacts | undefined) =>
  (facts?.replicas ?? []).filter(({ member }) => member).map(({ server }) => server);
