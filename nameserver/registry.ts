import type { BlockId, ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import {
  compareReigns,
  type Heartbeat,
  type HeartbeatReply,
  type Register,
  type RegisterReply,
  type Reign,
  type Report,
  STALE_BLOCKS_MAX,
} from '../common/wire/control.ts';
import type { BlockEntry } from '../common/wire/messages.ts';
import type { AgreedTime } from './agreed-time.ts';
import { type BlockMap, Effect } from './block-map.ts';
import type { Leadership } from './leadership.ts';
import type { LiveMember, Members } from './members.ts';
import type { OpsSync } from './ops-sync.ts';
import type { Removal } from './removal.ts';
import type { SealCoordinator } from './seal.ts';
import type { Series } from './series.ts';
import type { View } from './view.ts';

export interface RegistryDeps {
  readonly clusterUuid: string;
  readonly replicas: number;
  readonly minWrite: number;
  readonly map: BlockMap;
  readonly members: Members;
  readonly removal: Removal;
  readonly leadership: Leadership;
  readonly series: Series;
  readonly view: View;
  readonly sealer: SealCoordinator;
  readonly opsSync: OpsSync;
  readonly clock: Clock;
  readonly time: Pick<AgreedTime, 'latest'>;
  readonly log: Log;
  /** The cluster map looks different from outside. */
  readonly onMapChange: () => void;
  /** Replicas were read through, and verified. */
  readonly onScrubbed: (blocks: readonly BlockId[]) => void;
  /** A DataServer stops: what is being written on it has to be sealed. */
  readonly onLeaving: () => void;
}

/** What DataServers tell a NameServer about themselves and their blocks: registration, reports, heartbeats. */
export class Registry {
  /** Replicas that were reported once and are not there any more, since the start. */
  readonly stats = { lostReplicas: 0 };
  readonly #deps: RegistryDeps;
  /** Monotonic: when a server's table was last asked for because its digest differed. */
  readonly #comparedAtMs = new Map<ServerId, number>();

  constructor(deps: RegistryDeps) {
    this.#deps = deps;
  }

  /** @throws TfsError REFUSED when the server may not join as what it says it is; IO, DISK_FULL */
  async register(message: Register): Promise<RegisterReply> {
    const { members, removal, clusterUuid, series, view, replicas, minWrite, time, log, onMapChange } =
      this.#deps;
    const { server } = message;
    const wasTold = this.#wasTold(members.get(server));
    const { live, isChanged } = await members.register(message, clusterUuid);
    // Before those it knows, because it may name one that others have forgotten.
    await removal.learn(message.removedMembers);
    await members.learn([server, ...message.knownMembers]);
    const { reign, leader } = this.#answerPromise(live, wasTold);
    for (const { page, counter } of message.highestIds) if (!series.heard(page, counter)) await view.doubt();
    const hasComeUp = members.noticeStates();
    if (isChanged || hasComeUp) onMapChange();
    log.info(
      { server, incarnation: message.incarnation, promise: message.promise.epoch, epoch: reign.epoch },
      'a DataServer registered',
    );
    const nonce = live.record.nonces?.given[0];
    const wallMs = time.latest();
    return {
      reign,
      leader,
      members: members.known,
      removed: members.removed,
      replicas,
      minWrite,
      token: members.token(),
      ...(wallMs === undefined ? {} : { wallMs }),
      ...(nonce === undefined ? {} : { nonce }),
    };
  }

  /** One page of the whole table. @throws TfsError UNREGISTERED */
  async report(message: Report, entries: readonly BlockEntry[]): Promise<void> {
    const { members, map, sealer, log } = this.#deps;
    const { server } = message;
    const live = members.hear(server, message.incarnation, message);
    this.#answerPromise(live, this.#wasTold(live));
    const place = live.table.page(message);
    if (place === 'stray') {
      log.debug({ server, page: message.page }, 'a page of a report that was given up');
      return;
    }
    if (place === 'first') map.beginReport(server);
    await this.#take(server, entries);
    if (!message.last) return;
    const gone = map.endReport(server);
    if (gone > 0) {
      mark('report-missing-blocks');
      this.stats.lostReplicas += gone;
      log.error(
        { server, blocks: gone },
        'a DataServer does not have blocks any more that it had reported: its disk lost them, or was set back to an older ' +
          'copy; other replicas have them. Look at its disk, and have what it still holds verified: tfs verify',
      );
    }
    sealer.serverIsBack(server);
  }

  /** @throws TfsError UNREGISTERED */
  async heartbeat(message: Heartbeat, entries: readonly BlockEntry[]): Promise<HeartbeatReply> {
    const { members, map, leadership, view, sealer, clock, time, log, onMapChange } = this.#deps;
    const {
      server,
      wallMs,
      diskAge = 0,
      space,
      io,
      suspects,
      openBlocks,
      blocks,
      files,
      aliases,
      lostRecords = 0,
      leaving,
      scrub,
      use,
      scrubbed = [],
      overdue = [],
    } = message;
    const wasAway = members.stateOf(server) !== 'up';
    const live = members.hear(server, message.incarnation, message);
    const told = this.#answerPromise(live, this.#wasTold(live));
    const before = live.io;
    const isNews = live.leaving !== leaving;
    Object.assign(live, {
      leaving,
      space,
      io,
      wellAtMs: io.healthy ? live.heardAtMs : live.wellAtMs,
      clockAheadMs: wallMs === undefined ? 0 : wallMs - clock.now(),
      clockLeadMs: wallMs === undefined ? undefined : wallMs - clock.monotonic(),
      scrub,
      overdue: new Map(overdue.map(({ block, ageMs }) => [block, ageMs])),
      use,
      suspects: new Set(suspects),
      counts: { openBlocks, blocks, files, aliases, lostRecords },
    });
    members.heardAge(live, diskAge);
    const isInStep = live.table.beat(message.sequence);
    const taking = isInStep ? this.#take(server, entries) : undefined;
    // Before anything is waited for: the digest is that of the table with these entries.
    const resync = !isInStep || this.#hasDrifted(live, message.digest);
    await taking;
    if (scrubbed.length > 0) this.#deps.onScrubbed(scrubbed);
    // It was silent and has not died: nothing but this beat says that it is back.
    if (wasAway && isInStep) sealer.serverIsBack(server);
    const hasComeUp = members.noticeStates();
    if (hasComeUp || isNews || isFitOtherwise(before, io)) onMapChange();
    if (isNews) log.info({ server, leaving }, 'a DataServer leaves');
    if (isNews && leaving === 'stopping') this.#deps.onLeaving();
    // No await from here on: what is confirmed is confirmed under the reign that is named.
    const leader = told.leader && leadership.reign?.epoch === told.reign.epoch;
    const isKnown = leader && live.table.isEqual && view.isComplete();
    // As of this beat. What a replica is behind by was not acknowledged, unless its disk was set back and has lost it.
    const stale = isKnown ? [...new Set([...map.staleOf(server), ...map.behindOf(server)])] : undefined;
    // One that has not promised yet may listen to another leader.
    const obeys = compareReigns(live.promise, told.reign) === 0;
    const timeMs = time.latest();
    const confirmed = obeys && stale !== undefined && stale.length <= STALE_BLOCKS_MAX;
    if (confirmed) members.confirmed(server);
    return {
      reign: told.reign,
      leader,
      resync,
      members: members.known,
      removed: members.removed,
      token: members.token(),
      ...(timeMs === undefined ? {} : { wallMs: timeMs }),
      confirmed,
      stale: confirmed ? stale : [],
    };
  }

  /** A registration, a report and a heartbeat of one server never overlap on its side, so entries come in order. */
  async #take(server: ServerId, entries: readonly BlockEntry[]): Promise<void> {
    const { map, series, view, members, opsSync, log } = this.#deps;
    const named = new Set<ServerId>();
    let isOlderThanIds = false;
    for (const entry of entries) {
      const effect = map.report(server, entry);
      if (effect & Effect.BEHIND) opsSync.noted(entry.block);
      if (effect & Effect.GONE_BACK)
        log.warn(
          { server, block: entry.block, seq: entry.seq },
          'a replica lacks operations that it had: the end of its log is damaged, or its disk has lost writes; it gets them ' +
            'from the others',
        );
      if (effect & Effect.OVERFULL)
        log.warn({ server, block: entry.block }, 'a block has more replicas than can be noted');
      if (!series.heard(entry.block >>> 16, entry.block & 0xffff)) isOlderThanIds = true;
      for (const member of entry.members) named.add(member);
    }
    if (isOlderThanIds) await view.doubt();
    await members.learn(named);
  }

  /** @returns whether a new report is needed although no message is known to be lost */
  #hasDrifted({ table, record }: LiveMember, digest: number | undefined): boolean {
    const { map, clock, log } = this.#deps;
    const server = record.id;
    if (!table.compare(digest === map.digestOf(server))) return false;
    const now = clock.monotonic();
    if (now - (this.#comparedAtMs.get(server) ?? Number.NEGATIVE_INFINITY) < tunable.driftReportMsMin)
      return false;
    this.#comparedAtMs.set(server, now);
    mark('report-drifted');
    log.warn({ server }, 'the table of a DataServer is not what it reported: asking for all of it');
    table.reset();
    return true;
  }

  /** @returns what to tell the server: the reign that this NameServer leads under, or the one the server obeys already */
  #answerPromise(live: LiveMember, wasTold: boolean): { reign: Reign; leader: boolean } {
    const { leadership } = this.#deps;
    leadership.shown(live.promise, wasTold);
    const { reign } = leadership;
    // A standby commands nothing: it shows the promise that the server has given already.
    if (reign === undefined) return { reign: live.promise, leader: false };
    live.toldEpoch = reign.epoch;
    return { reign, leader: true };
  }

  #wasTold(live: LiveMember | undefined): boolean {
    return live !== undefined && live.toldEpoch === this.#deps.leadership.reign?.epoch;
  }
}

/** Whether clients should treat the disk in another way than before. */
const isFitOtherwise = (a: Heartbeat['io'], b: Heartbeat['io']): boolean =>
  a.healthy !== b.healthy ||
  a.readOnly !== b.readOnly ||
  (a.slow ?? false) !== (b.slow ?? false) ||
  (a.full ?? false) !== (b.full ?? false);
