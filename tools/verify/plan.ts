import { type BlockId, compareVersions, type ServerId } from '../../common/ids.ts';
import { type BlockEntry, BlockState } from '../../common/wire/messages.ts';

/** A replica to be read through. */
export interface ReplicaTask {
  readonly server: ServerId;
  readonly entry: BlockEntry;
}

export interface Plan {
  readonly tasks: readonly ReplicaTask[];
  /** Members of sealed blocks that answer and do not hold them. */
  readonly missing: readonly { readonly server: ServerId; readonly block: BlockId }[];
}

/**
 * What to read, from what every server says it holds.
 *
 * @param tables of the servers that answer
 * @param allReplicas false: one replica of each block, a sound one where there is one, spread over the servers
 */
export function planReads(tables: ReadonlyMap<ServerId, readonly BlockEntry[]>, allReplicas: boolean): Plan {
  const blocks = new Map<BlockId, ReplicaTask[]>();
  for (const [server, entries] of tables)
    for (const entry of entries) {
      const holders = blocks.get(entry.block);
      if (holders === undefined) blocks.set(entry.block, [{ server, entry }]);
      else holders.push({ server, entry });
    }
  const tasks: ReplicaTask[] = [];
  const missing: { server: ServerId; block: BlockId }[] = [];
  for (const [block, holders] of [...blocks].sort(([a], [b]) => a - b)) {
    if (allReplicas) tasks.push(...holders);
    else tasks.push(one(block, holders));
    for (const server of membersOf(holders))
      if (tables.has(server) && !holders.some((holder) => holder.server === server))
        missing.push({ server, block });
  }
  return { tasks, missing };
}

function one(block: BlockId, holders: readonly ReplicaTask[]): ReplicaTask {
  const sound = holders.filter(({ entry }) => entry.flags === 0);
  const choice = sound.length > 0 ? sound : holders;
  return choice[block % choice.length]!;
}

/** Of a block that is being made or sealed a member may lack it for a moment: then nobody is said to. */
function membersOf(holders: readonly ReplicaTask[]): readonly ServerId[] {
  if (!holders.some(({ entry }) => entry.state === BlockState.SEALED)) return [];
  const newest = holders.reduce((a, b) => (compareVersions(b.entry.version, a.entry.version) > 0 ? b : a));
  return newest.entry.members;
}
