import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import type { Reign, RemoveServer, RemoveServerReply, ServerInfo } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Members } from './members.ts';
import type { View } from './view.ts';

/** What a leader knows when it is asked to take a DataServer out of the cluster. */
export interface RemovalFacts {
  readonly server: ServerId;
  readonly isKnown: boolean;
  readonly state: ServerInfo['state'];
  /** Other servers of which this leader does not know everything. */
  readonly missing: readonly ServerId[];
  /** Failure domains of the servers that are left. */
  readonly domainsLeft: number;
  readonly minWrite: number;
  /** Blocks without a good copy on any other server that is there. */
  readonly onlyThere: number;
  /** Whether it has ever heard everyone; false after its store was lost. */
  readonly isWhole: boolean;
}

/**
 * Whether a DataServer can be taken out. What is there alone would be lost; and what this leader has not heard of yet it
 * cannot know to be elsewhere.
 *
 * @param force takes the risk, but never with one that is alive: that would go on storing
 * @returns undefined when it can, else why not and what to do
 */
export function whyNotRemoved(facts: RemovalFacts, force: boolean): string | undefined {
  const { server, isKnown, state, missing, domainsLeft, minWrite, onlyThere, isWhole } = facts;
  if (!isKnown) return `there is no server ${server}`;
  if (state === 'up')
    return `server ${server} is alive: stop it first, and its machine, so that it does not come back`;
  if (force) return undefined;
  const anyway = `To remove server ${server} all the same: --force`;
  if (onlyThere > 0)
    return `${onlyThere} blocks have no good copy on any other server that is up: what is in them would be lost. ${anyway}`;
  if (missing.length > 0)
    return `server ${missing.join(', ')} has not been heard in full either, so it is not known what is where: bring it back first. ${anyway}`;
  if (minWrite === 1 && !isWhole)
    return `with cluster.minWrite 1 it may hold pictures that no other server has heard of, and this NameServer has lost its records. ${anyway}`;
  if (domainsLeft < minWrite)
    return `${domainsLeft} failure domains would be left, and a write needs ${minWrite} (cluster.minWrite): add a mount first. ${anyway}`;
  return undefined;
}

export interface RemovalDeps {
  readonly map: BlockMap;
  readonly members: Members;
  readonly view: View;
  readonly log: Log;
  readonly minWrite: number;
  /** @throws TfsError NOT_LEADER */
  readonly requireReign: () => Reign;
  /** Undefined where there is no other NameServer. */
  readonly tellOther: ((removed: readonly ServerId[]) => Promise<void>) | undefined;
  /** Replicas of the block that count again may not all have the same operations. */
  readonly syncOps: (block: BlockId) => void;
  readonly onMapChange: () => void;
}

/** Takes a DataServer that is lost for good out of the known ones, so that nobody waits for it any more. */
export class Removal {
  readonly #deps: RemovalDeps;

  constructor(deps: RemovalDeps) {
    this.#deps = deps;
  }

  /**
   * REMOVE_SERVER from an operator. Durable here when answered; the DataServers are told with their next heartbeat, and
   * tell whoever loses its store.
   *
   * @throws TfsError NOT_LEADER; CONFLICT, see {@link whyNotRemoved}; IO, DISK_FULL
   */
  async remove({ server, force }: RemoveServer): Promise<RemoveServerReply> {
    const { members, log, requireReign, tellOther } = this.#deps;
    requireReign();
    if (!members.removed.includes(server)) {
      const why = whyNotRemoved(this.#facts(server), force);
      if (why !== undefined) throw new TfsError('CONFLICT', why);
      log.warn({ server, force }, 'an operator takes a DataServer out of the cluster');
      await this.learn([server]);
    }
    const removed = members.removed;
    try {
      await tellOther?.(removed);
      return { removed: [...removed], onBoth: true };
    } catch (error) {
      log.warn(
        { reason: toTfsError(error).message },
        'the other NameServer was not told which servers are removed: DataServers tell it',
      );
      return { removed: [...removed], onBoth: false };
    }
  }

  /** From whoever knows: an operator, the other NameServer, a DataServer. Resolves when durable. */
  async learn(removed: readonly ServerId[]): Promise<void> {
    const { members, map, log, syncOps, onMapChange } = this.#deps;
    const fresh = await members.remove(removed);
    for (const server of fresh) {
      const goneBack = map.lose(server);
      if (goneBack.length > 0)
        log.info(
          { server, blocks: goneBack.length },
          'blocks go on with the configuration before the one that had only begun on a server that is removed',
        );
      for (const block of goneBack) syncOps(block);
    }
    if (fresh.length > 0) onMapChange();
  }

  #facts(server: ServerId): RemovalFacts {
    const { members, map, view, minWrite, requireReign } = this.#deps;
    const others = members.known.filter((id) => id !== server);
    return {
      server,
      isKnown: members.known.includes(server),
      state: members.stateOf(server),
      missing: members.missing(requireReign()).filter((id) => id !== server),
      domainsLeft: new Set(others.map((id) => members.domainOf(id))).size,
      minWrite,
      onlyThere: map.onlyOn(server, new Set([server, ...members.away])),
      isWhole: view.isWhole,
    };
  }
}
