import type { ServerId } from '../common/ids.ts';
import type { PreparedGenerationFact } from '../common/wire/compaction.ts';

export interface Vote {
  readonly server: ServerId;
  readonly made: PreparedGenerationFact;
}

export interface VoteResult {
  /** What counts; undefined where no file was made by more than half of the members. */
  readonly made: PreparedGenerationFact | undefined;
  readonly majority: readonly ServerId[];
  /** Made something else: a disk or a memory that cannot be trusted. */
  readonly minority: readonly ServerId[];
}

/**
 * Which of the files that the members have made counts. They were made from the same records and the same operations, so
 * they are all the same unless a machine is broken; then most of them are right.
 *
 * @param votes of all members, one each
 */
export function decideVote(votes: readonly Vote[]): VoteResult {
  const groups = new Map<string, Vote[]>();
  for (const vote of votes) {
    const { length, slots, digest } = vote.made;
    const key = `${length} ${slots} ${digest}`;
    groups.set(key, [...(groups.get(key) ?? []), vote]);
  }
  const [largest = []] = [...groups.values()].sort((a, b) => b.length - a.length);
  if (2 * largest.length <= votes.length)
    return { made: undefined, majority: [], minority: votes.map(({ server }) => server) };
  return {
    made: largest[0]!.made,
    majority: largest.map(({ server }) => server),
    minority: votes.filter((vote) => !largest.includes(vote)).map(({ server }) => server),
  };
}
