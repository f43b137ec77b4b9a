import { setTimeout as sleep } from 'node:timers/promises';
import { toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { type BlockEntry, BlockState } from '../../common/wire/messages.ts';
import { type ClusterProbe, describeEntry } from './cluster-probe.ts';

const LOOK_AGAIN_MS = 500;
const COMPLAINTS_MAX = 20;

export interface Replica {
  readonly server: number;
  readonly entry: BlockEntry;
}

/**
 * Waits until all replicas of every block are alike: sealed at one length, or all still being written; with the same
 * operations under the same configuration, to which each of them belongs; none of them damaged.
 *
 * @param servers those that are there; all when absent. What was sealed without a record may then wait until it is known
 *   that nobody else has it
 * @returns what is not so after `withinMs`, a line for each block
 */
export async function untilAlike(
  probe: ClusterProbe,
  withinMs: number,
  servers?: readonly number[],
): Promise<string[]> {
  const deadlineAt = performance.now() + withinMs;
  for (;;) {
    const unlike = await look(probe, servers);
    if (unlike.length === 0 || performance.now() > deadlineAt) return unlike.slice(0, COMPLAINTS_MAX);
    await sleep(LOOK_AGAIN_MS);
  }
}

async function look(probe: ClusterProbe, servers: readonly number[] | undefined): Promise<string[]> {
  try {
    const replicas = await probe.replicas(servers);
    return unlikeIn(servers === undefined ? replicas : replicas.filter(({ entry }) => !isEmpty(entry)));
  } catch (error) {
    return [`the replicas cannot be compared: ${toTfsError(error).message}`];
  }
}

export const isEmpty = ({ state, generation, length }: BlockEntry): boolean =>
  state === BlockState.SEALED && generation === 0 && length === SUPERBLOCK_BYTES;

/** Of all replicas of a cluster, the blocks whose replicas differ. */
export function unlikeIn(replicas: readonly Replica[]): string[] {
  const byBlock = new Map<BlockId, Replica[]>();
  for (const replica of replicas) {
    const group = byBlock.get(replica.entry.block);
    if (group === undefined) byBlock.set(replica.entry.block, [replica]);
    else group.push(replica);
  }
  return [...byBlock.values()].filter((group) => !areAlike(group)).map(textOf);
}

/** Of one block. */
export function areAlike(group: readonly Replica[]): boolean {
  const first = group[0]!.entry;
  return (
    (first.state === BlockState.SEALED || first.state === BlockState.OPEN) &&
    group.length === first.members.length &&
    group.every(
      ({ server, entry }) =>
        entry.state === first.state &&
        entry.flags === 0 &&
        entry.generation === first.generation &&
        entry.length === first.length &&
        entry.seq === first.seq &&
        entry.version.epoch === first.version.epoch &&
        entry.version.n === first.version.n &&
        entry.opsPrimary === first.opsPrimary &&
        entry.members.some((member) => member === server),
    )
  );
}

const textOf = (group: readonly Replica[]): string =>
  group.map(({ server, entry }) => `server ${server}: ${describeEntry(entry)}`).join('; ');
