import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import type { ClusterProbe } from '../../kit/cluster-probe.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';
import { isEmpty } from '../../kit/replicas-alike.ts';

/** Blocks with fewer good replicas on these servers than are wanted, as the servers themselves report them. */
export async function blocksShort(
  probe: ClusterProbe,
  servers: readonly number[],
  wanted = 3,
): Promise<number[]> {
  const copies = new Map<number, number>();
  for (const { entry } of await probe.replicas(servers)) {
    const { block, state, flags, members } = entry;
    // What is being written has the members that could be had when it was begun.
    const isGood = flags === 0 && (state === BlockState.SEALED || state === BlockState.OPEN);
    const isOpenShort = state === BlockState.OPEN && members.length < wanted;
    copies.set(block, (copies.get(block) ?? 0) + (isEmpty(entry) || isOpenShort ? wanted : isGood ? 1 : 0));
  }
  return [...copies].filter(([, count]) => count < wanted).map(([block]) => block);
}

export interface BlockFile {
  readonly server: number;
  readonly block: number;
  readonly generation: number;
  readonly bytes: number;
}

/** Block files of these servers under their names, and those that are being made. */
export function blockFiles(
  cluster: ProcessCluster,
  servers: readonly number[],
): { readonly whole: BlockFile[]; readonly unfinished: number } {
  const whole: BlockFile[] = [];
  let unfinished = 0;
  for (const server of servers) {
    const directory = join(cluster.mountPath(server), 'blocks');
    for (const file of readdirSync(directory)) {
      if (file.endsWith('.blk.tmp')) unfinished++;
      const name = parseBlockFileName(file);
      const stats =
        name?.kind === 'blk' ? statSync(join(directory, file), { throwIfNoEntry: false }) : undefined;
      if (name !== undefined && stats !== undefined) {
        const { block, number: generation } = name;
        whole.push({ server, block, generation, bytes: stats.size });
      }
    }
  }
  return { whole, unfinished };
}
