import type { BlockId } from '../../common/ids.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { DataServer } from '../../dataserver/dataserver.ts';
import type { NameServer } from '../../nameserver/nameserver.ts';
import { describeEntry } from '../kit/cluster-probe.ts';
import { areAlike, isEmpty, type Replica } from '../kit/replicas-alike.ts';
import { isDamagedAt, lossyBlocks, lostBlocks, type Survivors } from './lost-blocks.ts';
import type { ObservedServer } from './observed.ts';

/** A cluster whose faults are over. */
export interface HealedCluster extends Survivors {
  /** Those that are to serve; not those that were taken out for good. */
  readonly servers: readonly ObservedServer<DataServer>[];
  readonly nameservers: readonly { readonly id: number; readonly live: NameServer | undefined }[];
  /** Copies that every block is to have, where there are so many domains. */
  readonly replicas: number;
}

/**
 * Whether everything has come to rest: one leader that knows everything, and nothing left to seal, repair, copy, move or
 * drop.
 *
 * @returns undefined when it has, else the first thing that has not
 */
export function whyNotConverged(cluster: HealedCluster): string | undefined {
  return whyNotServing(cluster) ?? whyNotLed(cluster) ?? whyNotAlike(cluster) ?? whyStillBusy(cluster);
}

export const leaderOf = ({ nameservers }: HealedCluster): NameServer | undefined =>
  nameservers.find(({ live }) => live?.leads === true)?.live;

function whyNotServing({ servers }: HealedCluster): string | undefined {
  for (const { id, live } of servers) {
    if (live === undefined) return `server ${id} does not run`;
    const { readOnly } = live.store;
    if (readOnly !== undefined) return `server ${id} only reads: ${readOnly.message}`;
    if (!live.nameservers.inContact) return `server ${id} hears no leader`;
  }
  return undefined;
}

function whyNotLed({ servers, nameservers }: HealedCluster): string | undefined {
  for (const { id, live } of nameservers) {
    if (live === undefined) return `NameServer ${id} does not run`;
    for (const server of servers)
      if (
        live.members.get(server.id)?.table.isEqual !== true ||
        live.map.digestOf(server.id) !== server.live!.store.digest
      )
        return `NameServer ${id} does not know all that server ${server.id} holds`;
  }
  const leaders = nameservers.filter(({ live }) => live!.leads);
  if (leaders.length !== 1) return `${leaders.length} NameServers lead`;
  const { view } = leaders[0]!.live!;
  return view.isComplete() ? undefined : view.gap;
}

function whyNotAlike(cluster: HealedCluster): string | undefined {
  const { servers, replicas } = cluster;
  const byBlock = new Map<number, Replica[]>();
  for (const { id, live } of servers) {
    for (const entry of live!.store.entries()) {
      const group = byBlock.get(entry.block) ?? [];
      byBlock.set(entry.block, group);
      group.push({ server: id, entry: withoutRemoved(entry, cluster) });
      if (entry.state === BlockState.SEALED && !live!.nameservers.isConfirmed(entry.block))
        return `server ${id} was not told that its replica is current: ${describeEntry(entry)}`;
    }
  }
  const domains = new Set(servers.map(({ domain }) => domain)).size;
  const lost = new Set(lostBlocks(leaderOf(cluster)!.map, cluster));
  const lossy = lossyBlocks(leaderOf(cluster)!.repairer.lostByBlock, servers);
  for (const [block, its] of byBlock) {
    const group = lossy.has(block as BlockId) ? its.map(withoutFlags) : its;
    // It holds nothing, and goes replica by replica.
    if (group.every(({ entry }) => isEmpty(entry))) continue;
    if (group.every(({ entry }) => (entry.flags & BlockFlag.QUARANTINED) !== 0)) {
      const unread = group.find(
        ({ server }) => !isDamagedAt(servers.find(({ id }) => id === server)!, group[0]!.entry.block),
      );
      if (unread === undefined) continue;
      return `server ${unread.server} has yet to look again, on a disk that is well: ${describeEntry(unread.entry)}`;
    }
    if (lost.has(block as BlockId)) continue;
    const { entry } = group[0]!;
    const wanted = Math.min(entry.targetReplicas, replicas, domains);
    const isShort = entry.state === BlockState.SEALED && group.length < wanted;
    if (isShort || !areAlike(group))
      return group.map(({ server, entry: its }) => `server ${server}: ${describeEntry(its)}`).join('; ');
  }
  return undefined;
}

/**
 * A server that was removed stays a member until the block gets a new configuration: for the next operation, or with
 * another replica, which there is none of where the others are in as many domains as there are.
 */
function withoutRemoved(entry: BlockEntry, { servers }: HealedCluster): BlockEntry {
  const members = entry.members.filter((member) => servers.some(({ id }) => id === member));
  return members.length === entry.members.length ? entry : { ...entry, members };
}

const withoutFlags = ({ server, entry }: Replica): Replica => ({ server, entry: { ...entry, flags: 0 } });

function whyStillBusy(cluster: HealedCluster): string | undefined {
  const leader = leaderOf(cluster)!;
  const { counts } = leader.map;
  const lost = lostBlocks(leader.map, cluster);
  const isHeld = (block: BlockId) => leader.map.facts(block)!.replicas.some(({ state }) => state !== 0);
  const lossy = lossyBlocks(leader.repairer.lostByBlock, cluster.servers);
  const lossyReplicas = [...lossy.values()].reduce((sum, replicas) => sum + replicas, 0);
  const figures: Record<string, number> = {
    'blocks wait for their seal': counts.awaitingSeal - lost.length,
    'blocks are suspect': counts.suspect - lost.filter(isHeld).length - lossy.size,
    'seals are under way': leader.sealer.waiting - lost.filter(isHeld).length,
    'ops logs are to be brought up to date': leader.opsSync.waiting,
    'configurations change': leader.configurer.running,
    'replicas are to be made whole': leader.repairer.waiting - lossyReplicas,
    'replicas wait to be dropped': leader.dropper.waiting,
    'compactions are under way': leader.compaction.waiting,
    'blocks have replicas that differ': leader.digests.disagreeing,
  };
  for (const [what, count] of Object.entries(figures)) if (count > 0) return `${count} ${what}`;
  for (const { id, live } of cluster.servers) {
    const busy = live!.store.blocks.filter((block) => live!.store.isBusy(block));
    if (busy.length > 0) return `server ${id} makes files of block ${busy.join(', ')}`;
    if (live!.indexer.waiting > 0) return `server ${id} has ${live!.indexer.waiting} blocks to index`;
  }
  return undefined;
}
