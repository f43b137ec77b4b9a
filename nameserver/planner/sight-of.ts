import type { ServerId } from '../../common/ids.ts';
import { DISK_FAILED_MS } from '../../common/limits.ts';
import type { LiveMember, Members } from '../members.ts';
import type { PlanSight, ServerSight } from './sight.ts';

export interface SightDeps {
  readonly members: Members;
  /** Whether the server obeys, and its whole table is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** A server that was silent for so long is not waited for any more. */
  readonly deadMs: number;
}

const NOTHING: ServerSight['overdue'] = new Map();

/** What the planner sees of the DataServers now. */
export function serversOf(deps: SightDeps): PlanSight['servers'] {
  const all = [...deps.members.known, ...deps.members.removed];
  return new Map(all.map((id) => [id, serverSight(id, deps)]));
}

function serverSight(id: ServerId, deps: SightDeps): ServerSight {
  const { members } = deps;
  const live = members.get(id);
  const isCurrent = deps.isCurrent(id);
  return {
    id,
    domain: members.domainOf(id),
    isCurrent,
    givenUp: whyGivenUp(id, deps),
    canWrite: members.canWrite(id),
    refuses: members.isDrained(id) ? 'it is to be emptied' : whyRefusing(live, isCurrent),
    usedPercent: members.usedPercent(id),
    capacityBytes: live?.record.capacityBytes ?? 0,
    overdue: live?.overdue ?? NOTHING,
    // New blocks need room too, and a disk that is filled to the brim stops them.
    roomBytes: live === undefined ? 0 : live.space.freeBytes - 2 * live.record.blockBytes,
  };
}

function whyGivenUp(id: ServerId, { members, deadMs }: SightDeps): string | undefined {
  if (members.removed.includes(id)) return 'removed from the cluster';
  return members.isDrained(id) ? 'it is to be emptied' : whyLost(id, { members, deadMs });
}

/** Why nobody waits for what a server may hold or get; undefined while it is waited for. */
export function whyLost(
  id: ServerId,
  { members, deadMs }: Pick<SightDeps, 'members' | 'deadMs'>,
): string | undefined {
  const seconds = Math.round(deadMs / 1000);
  const io = members.get(id)?.io;
  const unwellMs = members.unwellMs(id);
  // What it holds may still be read, and counts again should the disk come to take writes once more.
  if (io?.readOnly === true || (io?.failed === true && unwellMs >= DISK_FAILED_MS))
    return 'its disk has failed';
  if (unwellMs >= deadMs) return `its disk has hung for more than ${seconds} s`;
  return members.silentMs(id) >= deadMs ? `silent for more than ${seconds} s` : undefined;
}

function whyRefusing(live: LiveMember | undefined, isCurrent: boolean): string | undefined {
  if (live === undefined || !isCurrent) return 'it is not there now';
  const { io, leaving } = live;
  if (leaving !== undefined) return 'it stops';
  if (!io.healthy || io.readOnly) return 'its disk takes no writes';
  if (io.full === true) return 'its disk is full';
  return io.slow === true ? 'its disk is slow' : undefined;
}
