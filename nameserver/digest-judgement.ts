import { compareVersions, type ServerId } from '../common/ids.ts';
import type { BlockDigestsReply } from '../common/wire/control.ts';

/** What one holder of a block says of its replica. */
export interface HolderDigests extends BlockDigestsReply {
  readonly server: ServerId;
}

export interface Disagreement {
  /** Sealed replicas of one generation that have another length, other slots or another digest. */
  readonly seals: boolean;
  /** Replicas with the same newest operation that add up to something else. */
  readonly ops: boolean;
  /** In words, with who has what. */
  readonly text: string;
}

/**
 * Whether replicas of a block, each of which verifies, are the same. Only what has to be equal is compared: seals of one
 * generation, and operations of logs that end with the same one; a log that is behind is brought up to date by others.
 *
 * @returns undefined where nothing disagrees
 */
export function judgeDigests(holders: readonly HolderDigests[]): Disagreement | undefined {
  const generation = Math.max(...holders.map((holder) => holder.generation));
  const alike = holders.filter((holder) => holder.generation === generation);
  const seals = groups(
    alike.filter(({ seal }) => seal !== undefined),
    ({ seal }) => `${seal!.length} bytes, ${seal!.slots} records, digest ${seal!.digest.slice(0, 16)}`,
  );
  const newest = alike.reduce<HolderDigests | undefined>(
    (best, one) => (best === undefined || isNewer(one, best) ? one : best),
    undefined,
  );
  const ops = groups(
    alike.filter((one) => newest !== undefined && !isNewer(newest, one)),
    ({ seq, ops: digest }) => `operations up to ${seq}, digest ${digest.slice(0, 16)}`,
  );
  const found = [seals, ops].filter((each) => each.size > 1);
  if (found.length === 0) return undefined;
  const text = found
    .flatMap((each) => [...each].map(([what, servers]) => `server ${servers.join(', ')}: ${what}`))
    .join('; ');
  return { seals: seals.size > 1, ops: ops.size > 1, text };
}

const isNewer = (a: HolderDigests, b: HolderDigests): boolean =>
  (compareVersions(a.version, b.version) || a.seq - b.seq) > 0;

function groups(
  holders: readonly HolderDigests[],
  of: (holder: HolderDigests) => string,
): Map<string, ServerId[]> {
  const servers = new Map<string, ServerId[]>();
  for (const holder of holders) servers.set(of(holder), [...(servers.get(of(holder)) ?? []), holder.server]);
  return servers;
}
