import type { ServerId } from '../../common/ids.ts';
import type { LiveMember, Members } from '../members.ts';
import type { PlanSight, ServerSight } from './sight.ts';

export interface SightDeps {
  readonly members: Members;
  /** Whether the server obeys, and its whole table is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** A server that was silent for so long is not waited for any more. */
  readonly deadMs: number;
}

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
    // New blocks need room too, and a disk that is filled to the brim stops them.
    roomBytes: live === undefined ? 0 : live.space.freeBytes - 2 * live.record.blockBytes,
  };
}

function whyGivenUp(id: ServerId, { members, deadMs }: SightDeps): string | undefined {
  if (members.removed.includes(id)) return 'removed from the cluster';
  if (members.isDrained(id)) return 'it is to be emptied';
  // Only with another disk, or a new start, does it take writes again.
  if (members.get(id)?.io.readOnly === true) return 'its disk has failed';
  return members.silentMs(id) >= deadMs ? `silent for more than ${Math.round(deadMs / 1000)} s` : undefined;
}

function whyRefusing(live: LiveMember | undefined, isCurrent: boolean): string | undefined {
  if (live === undefined || !isCurrent) return 'it is not there now';
  const { io, leaving } = live;
  if (leaving !== undefined) return 'it stops';
  if (!io.healthy || io.readOnly) return 'its disk takes no writes';
  if (io.full === true) return 'its disk is full';
  return io.slow === true ? 'its disk is slow' : undefined;
}
